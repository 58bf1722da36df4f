"""Accept the guards that have stopped a table, for this table only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime

from hmamba.candidates.parts import candidate_parts
from hmamba.contracts.contents import digest_of
from hmamba.contracts.guards import GUARDS, Acceptance
from hmamba.errors import InputError
from hmamba.sequences.files import Snapshot
from hmamba.storage.layout import Layout


def accept(layout: Layout, day: date, run_id: str, names: Sequence[str]) -> Acceptance:
    """Record that guards do not stop the table of a run, nor its refreshes.

    Guards that were accepted for the same table before stay accepted. If the run is scored again with another result,
    the record is ignored.

    Args:
        layout: the root.
        day: the night's day.
        run_id: its run.
        names: guards, as in ``[publish.guards]`` after max_ or min_.

    Raises:
        InputError: a name is unknown, or the run has no complete candidates.
    """
    unknown = [name for name in names if name not in GUARDS]
    if unknown or not names:
        shown = repr(unknown[0]) if unknown else "nothing"
        raise InputError(f"{shown} is not a guard. Name one or more of {', '.join(GUARDS)}.")
    run = layout.run(day, run_id)
    if not layout.storage.exists(run.folder):
        runs = [path.name for path in layout.storage.find(run.folder.parent, "*/")]
        which = f"Runs of {day}: {', '.join(runs)}" if runs else f"There is no run of {day}; correct --day"
        raise InputError(f"{run.folder} does not exist. {which}.")
    table = digest_of(part.written for part in candidate_parts(Snapshot.open(run)))
    before = Acceptance.read_if_exists(run.accepted, run.storage)
    known = before.guards if before is not None and before.table == table else ()
    found = Acceptance(
        table=table,
        guards=tuple(name for name in GUARDS if name in names or name in known),
        accepted_at=datetime.now(UTC).replace(microsecond=0),
    )
    found.write(run.accepted, run.storage)
    return found
