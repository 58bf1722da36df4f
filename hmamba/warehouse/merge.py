"""Entering a staged batch into the warehouse, a part of the time at a time.

An event's time is part of its key, so that copies of an event always lie in the same part, and the parts one after
another give what one merge of everything would, row for row. Memory does not grow with the pull, and of what the
warehouse has only the times of the pull are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import duckdb

from hmamba.progress import Progress
from hmamba.statements import statement
from hmamba.warehouse.tables import one, rows

ROWS_PER_PART = 4_000_000
"""About: parts are cut at the times of a sample. Events of one instant are never cut apart."""

_SAMPLES = 1_000  # of a part

Part = tuple[datetime | None, datetime | None]


@dataclass(frozen=True)
class Entry:
    """How a batch's rows are entered.

    Attributes:
        batch_id: its number.
        loaded_at: naive UTC.
        late_before: older events are late; None where the warehouse has no events yet.
        new_files: numbers of the files of which no earlier version has been loaded.
    """

    batch_id: int
    loaded_at: datetime
    late_before: datetime | None
    new_files: Sequence[int]


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        loaded: events that are new.
        duplicate: further rows, copies of an event of the batch or of the warehouse.
        late: new events that are late.
        known_in_new_files: rows in new files whose event the warehouse had.
        newest: time of the newest event of the batch, whether it was new or not; None if there is none.
    """

    loaded: int
    duplicate: int
    late: int
    known_in_new_files: int
    newest: datetime | None


def merge(connection: duckdb.DuckDBPyConnection, total: int, entry: Entry) -> Merged:
    """Enter the events of ``staged`` that are not ``refused`` and not yet there. The caller commits.

    Leaves the temporary table ``touched``: items of the new events with the time of their first.

    Args:
        connection: the warehouse, with the tables ``staged`` and ``refused``.
        total: rows of ``staged``.
        entry: what to enter them as.
    """
    connection.execute(statement("merge/create_known"))
    read = loaded = late = 0
    newest: datetime | None = None
    with Progress("merge", total, "rows") as progress:
        for start, past in _parts(connection, total, entry.late_before):
            found = one(connection, "merge/part_figures", {"start": start, "past": past})
            if not found["rows"]:
                continue
            new = _enter(connection, entry, {"oldest": found["oldest"], "newest": found["newest"]})
            read, loaded, newest = read + found["rows"], loaded + new, found["newest"]
            if entry.late_before is not None and past is not None and past <= entry.late_before:
                late += new
            progress.update(found["rows"])
    repeated = one(connection, "merge/known_rows_in_new_files", {"new_files": list(entry.new_files)})
    connection.execute(statement("merge/create_touched"), {"batch_id": entry.batch_id})
    connection.execute(statement("merge/drop_known"))
    return Merged(loaded, read - loaded, late, repeated["rows"], newest)


def _parts(connection: duckdb.DuckDBPyConnection, total: int, late_before: datetime | None) -> Iterator[Part]:
    """Half-open parts that cover all times, oldest first; late events have parts of their own.

    A few events of long ago would otherwise make the part that they are in as long as the whole past.
    """
    stride = max(1, ROWS_PER_PART // _SAMPLES)
    times = [row["event_time"] for row in rows(connection, "merge/sampled_times", {"stride": stride})]
    number = -(-total // ROWS_PER_PART)
    cuts = {times[len(times) * cut // number] for cut in range(1, number)} if times else set()
    if late_before is not None:
        cuts.add(late_before)
    return pairwise([None, *sorted(cuts), None])


def _enter(connection: duckdb.DuckDBPyConnection, entry: Entry, span: dict[str, datetime]) -> int:
    """Enter the part of the time between two events, both included; returns how many events are new."""
    if entry.late_before is not None:
        connection.execute(statement("merge/find_known"), span)
    values = {**span, "batch_id": entry.batch_id, "loaded_at": entry.loaded_at}
    (count,) = connection.execute(statement("merge/load_events"), values).fetchall()
    return int(count[0])
