"""Merge a staged batch into the warehouse, one time range after another.

The time of an event is part of its key, so duplicates always fall into the same range, and the result is the same, row
for row, as that of a single merge. Memory does not grow with the size of the pull, and only the time ranges of the
pull are read from the warehouse.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import duckdb

from hmamba.progress import Progress
from hmamba.statements import one, rows, statement

ROWS_PER_PART = 4_000_000
"""Approximate size of a time range, cut at sampled event times. Events with equal times are never separated."""

_SAMPLES = 1_000  # sampled times per range

Part = tuple[datetime | None, datetime | None]


@dataclass(frozen=True)
class Entry:
    """Parameters of a merge.

    Attributes:
        batch_id: number of the batch.
        loaded_at: naive UTC.
        late_before: events before this time are late; None if the warehouse has no events.
        new_files: file numbers in ``staged`` of files without an earlier loaded version.
    """

    batch_id: int
    loaded_at: datetime
    late_before: datetime | None
    new_files: Sequence[int]


@dataclass(frozen=True)
class Merged:
    """Result of a merge.

    Attributes:
        loaded: number of new events.
        duplicate: number of rows that duplicate an event of the batch or of the warehouse.
        late: number of new events that are late.
        known_in_new_files: number of rows in new files whose event was in the warehouse before.
        newest: time of the newest event of the batch, new or duplicate; None if there is none.
    """

    loaded: int
    duplicate: int
    late: int
    known_in_new_files: int
    newest: datetime | None


def merge(connection: duckdb.DuckDBPyConnection, total: int, entry: Entry) -> Merged:
    """Insert the new events of ``staged`` that are not in ``refused``. The caller commits.

    Creates the temporary table ``touched``: the items of the new events, with the time of the first event of each.

    Args:
        connection: the warehouse, with the tables ``staged`` and ``refused``.
        total: number of rows of ``staged``.
        entry: batch number and bounds.
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
    """Half-open time ranges that cover all times, oldest first.

    Late events have separate ranges: otherwise a few very old events would stretch a range over the whole history.
    """
    stride = max(1, ROWS_PER_PART // _SAMPLES)
    times = [row["event_time"] for row in rows(connection, "merge/sampled_times", {"stride": stride})]
    number = -(-total // ROWS_PER_PART)
    cuts = {times[len(times) * cut // number] for cut in range(1, number)} if times else set()
    if late_before is not None:
        cuts.add(late_before)
    return pairwise([None, *sorted(cuts), None])


def _enter(connection: duckdb.DuckDBPyConnection, entry: Entry, span: dict[str, datetime]) -> int:
    """Insert the events in a closed time range; returns the number of new events."""
    if entry.late_before is not None:
        connection.execute(statement("merge/find_known"), span)
    values = {**span, "batch_id": entry.batch_id, "loaded_at": entry.loaded_at}
    (count,) = connection.execute(statement("merge/load_events"), values).fetchall()
    return int(count[0])
