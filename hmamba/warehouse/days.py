"""Day logic of a pull: which rows belong to the processed day, staleness, and checks of the ``--day`` argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import duckdb

from hmamba import clock
from hmamba.clock import end_of
from hmamba.config import Config
from hmamba.errors import HMambaError, InputError
from hmamba.sources.base import Part, Rest
from hmamba.statements import one, rows, statement
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import connect
from hmamba.warehouse.tables import is_empty


@dataclass(frozen=True)
class Considered:
    """Counts of the rows that a pull considers: those of its day or of earlier days.

    Attributes:
        rows: for each part, the number of rows that this pull considers.
        left: for each part, the number of rows of later days, which stay in the part.
        rests: for each part, the rows that a pull of a later day has to read.
        positions: number of rows read; all positions in ``staged`` are below it.
        first_left: time of the earliest row in ``left``; None if there is none.
        last_left: time of the latest row in ``left``; None if there is none.
    """

    rows: tuple[int, ...]
    left: tuple[int, ...]
    rests: tuple[Rest | None, ...]
    positions: int
    first_left: datetime | None = None
    last_left: datetime | None = None


def consider(
    connection: duckdb.DuckDBPyConnection,
    parts: Sequence[Part],
    counts: Sequence[int],
    day: date,
    refused_from: datetime,
) -> Considered:
    """Delete rows of later days and rows that earlier pulls considered from ``staged``. The caller commits.

    Exactly one pull considers each row of a part: the first whose day is not before the row's day. Rows without a
    time, and rows at or after ``refused_from``, are considered when their part is first read.

    Args:
        connection: the warehouse, with the table ``staged``.
        parts: the parts in ``staged``, in the order of their file numbers.
        counts: number of staged rows of each part.
        day: the day that is processed.
        refused_from: rows from this time on are refused as invalid instead of waiting for a later day.
    """
    past = end_of(day)
    until = [part.rest.refused_from if part.rest else refused_from for part in parts]
    starts = [part.rest and end_of(part.rest.through) for part in parts]
    for name in ("ingest/is_left", "ingest/was_considered"):
        connection.execute(statement(name))
    windows = {"files": list(range(len(parts))), "starts": starts, "refused_from": until}
    connection.execute(statement("ingest/create_windows"), windows)
    found = {row["file"]: row for row in rows(connection, "ingest/rows_by_window", {"past": past})}
    left = [found[number]["left_rows"] if number in found else 0 for number in range(len(parts))]
    known = [found[number]["known_rows"] if number in found else 0 for number in range(len(parts))]
    if any(left) or any(known):
        connection.execute(statement("ingest/drop_unconsidered"), {"past": past})
    return Considered(
        rows=tuple(count - more - less for count, more, less in zip(counts, left, known, strict=True)),
        left=tuple(left),
        rests=tuple(Rest(day, time) for time in until),
        positions=sum(counts),
        first_left=min((row["first_left"] for row in found.values() if row["left_rows"]), default=None),
        last_left=max((row["last_left"] for row in found.values() if row["left_rows"]), default=None),
    )


def everything(counts: Sequence[int]) -> Considered:
    """Consider all rows, for data that is ordered by position and has no days."""
    return Considered(tuple(counts), (0,) * len(counts), (None,) * len(counts), sum(counts))


def staleness(day: date, newest: datetime | None) -> float | None:
    """Age in days of the newest event at the end of ``day`` (now, if the day is not over); None without events."""
    if newest is None:
        return None
    return max(0.0, (min(end_of(day), clock.now()) - newest) / timedelta(days=1))


def check_against_clock(layout: Layout, config: Config, day: date) -> None:
    """Refuse a day in the future.

    Raises:
        InputError: the day is after today in UTC.
    """
    today = clock.now().date()
    if day <= today:
        return
    newest = None if config.source.columns.by_position else newest_event(layout, config)
    advice = f"give a day up to {today}" if newest is None else _advice("newest event in the warehouse", newest)
    raise InputError(f"--day {day} is after today, {today} in UTC. {advice[0].upper()}{advice[1:]}.")


def check_gap(config: Config, day: date, newest: datetime | None) -> None:
    """Refuse a day that is so long after the newest event that it is probably a typing error.

    Raises:
        InputError: the gap is more than quality.max_day_gap days.
    """
    if newest is None or config.source.columns.by_position:
        return
    gap = (day - newest.date()).days
    if gap > config.quality.max_day_gap:
        raise InputError(
            f"--day {day} is {gap} days after the newest event, more than quality.max_day_gap = "
            f"{config.quality.max_day_gap}, and is taken for a typing error; nothing has been changed. If the source "
            f"has stopped, look there. Otherwise {_advice('newest event', newest)}."
        )


def _advice(what: str, newest: datetime) -> str:
    when = newest.isoformat(sep=" ", timespec="seconds")
    return f"the {what} is of {when}: give --day {newest.date()}, or add --any-day if this day is meant"


def newest_event(layout: Layout, config: Config) -> datetime | None:
    """Time of the newest event in the warehouse; None if there is none, or if the warehouse is locked or unreadable."""
    if not layout.warehouse.is_file():
        return None
    at_once = config.warehouse.model_copy(update={"wait_seconds": 0.0})
    try:
        with connect(layout.warehouse, at_once, read_only=True) as connection:
            return newest_of(connection)
    except (HMambaError, duckdb.Error):
        return None


def newest_of(connection: duckdb.DuckDBPyConnection) -> datetime | None:
    """Time of the newest event in the warehouse; None if there is none."""
    if is_empty(connection):
        return None
    found: datetime | None = one(connection, "warehouse/newest_event")["event_time"]
    return found
