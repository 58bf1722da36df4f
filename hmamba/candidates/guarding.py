"""What the guards judge a table with: the table before, and the guards that a person has accepted for it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable
from datetime import date

from hmamba.candidates.lookup import published_manifest
from hmamba.config import GuardsConfig
from hmamba.contracts.contents import HashedFile, digest_of
from hmamba.contracts.guards import Acceptance, GuardName
from hmamba.contracts.manifest import Manifest
from hmamba.errors import InputError
from hmamba.quality.guards import Earlier, Guarding
from hmamba.storage.layout import Layout

log = logging.getLogger("hmamba")


def of_night(layout: Layout, config: GuardsConfig, day: date, run_id: str, written: Iterable[HashedFile]) -> Guarding:
    """The guards of a night's own table, which is compared with the newest table of an earlier day.

    Not with an earlier table of the same day: a night that is run again is judged as it was the first time.

    Args:
        layout: the root.
        config: the bounds.
        day: the night's day.
        run_id: its run.
        written: the parts of the table.
    """
    again = f"python -m jobs.publish --root {shlex.quote(str(layout.root))} --day {day} --run-id {run_id}"
    return Guarding(
        config=config,
        earlier=_before(layout, day),
        accepted=_accepted(layout, day, run_id, written),
        accept=_command(layout, day, run_id),
        then=f"publish again: clear the task publish in Airflow, or {again} (with the --config of the night, if it has "
        "one)",
    )


def of_refresh(layout: Layout, config: GuardsConfig, base: Manifest, written: Iterable[HashedFile]) -> Guarding:
    """The guards of a refreshed table, which is compared with the one that it replaces.

    What was accepted for the table of the night holds for its refreshes, too.

    Args:
        layout: the root.
        config: the bounds.
        base: manifest of the table to replace.
        written: the parts of the night's own table.
    """
    return Guarding(
        config=config,
        earlier=_of(layout, base),
        accepted=_accepted(layout, base.day, base.run_id, written),
        is_refresh=True,
        accept=_command(layout, base.day, base.run_id),
        then="refresh again",
    )


def _command(layout: Layout, day: date, run_id: str) -> str:
    return layout.command("accept", "--day", day.isoformat(), "--run-id", run_id)


def _before(layout: Layout, day: date) -> Earlier | str:
    days = [earlier for earlier, _ in layout.published_days if earlier < day]
    if not days:
        return "no table of an earlier day is published"
    try:
        return _of(layout, published_manifest(layout, days[-1]))
    except InputError as error:
        log.warning("publish: the table cannot be compared with the one before: %s", error)
        return f"the table of {days[-1]} cannot be read"


def _of(layout: Layout, manifest: Manifest) -> Earlier:
    files = tuple(layout.storage.local_path(layout.root / file.path) for file in manifest.files)
    return Earlier(manifest.day, manifest.k, files)


def _accepted(layout: Layout, day: date, run_id: str, written: Iterable[HashedFile]) -> frozenset[GuardName]:
    run = layout.run(day, run_id)
    found = Acceptance.read_if_exists(run.accepted, run.storage)
    if found is None:
        return frozenset()
    if found.table != digest_of(written):
        log.warning("publish: %s is of another table, which has been scored again since: it is ignored.", run.accepted)
        return frozenset()
    return frozenset(found.guards)
