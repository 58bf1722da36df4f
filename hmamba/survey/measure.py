"""Figures of sampled interactions, as the proposal needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba import clock
from hmamba.config import Config
from hmamba.source.discover import SourceFile
from hmamba.statements import statement
from hmamba.survey.choose import Columns
from hmamba.survey.roles import TimeFormat
from hmamba.survey.sample import Sample, read, total_rows
from hmamba.warehouse.tables import one, rows

REPEATS_FROM = 0.05
"""Share of repeated events from which on things count as taken again."""
PER_SECOND: dict[TimeFormat, float] = {"auto": 0.0, "epoch_s": 1.0, "epoch_ms": 1e3, "epoch_us": 1e6, "epoch_ns": 1e9}
_MOST_FOOTERS = 2000
_AFTER_ZERO = datetime(1970, 1, 2)
"""Times before are those of a clock that was never set."""
_DEFAULTS = Config()


@dataclass(frozen=True)
class Figures:
    """What the rows looked at hold. Times are naive UTC, None where there are none.

    ``total`` is the number of rows of all files, exact if ``exact``; ``whole`` says that every row was looked at.
    ``after`` and ``before`` are events later than the day after today and older than the default of quality.min_time;
    ``at_zero`` are those at the very beginning of 1970. ``common_items`` have enough events to be learnt.
    """

    total: int
    exact: bool
    looked: int
    whole: bool
    users: int
    items: int
    common_items: int
    oldest: datetime | None
    newest: datetime | None
    after: int
    before: int
    at_zero: int
    weights: tuple[float, float] | None
    types: Mapping[str, int]


def measure(
    connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile], samples: Sequence[Sample], columns: Columns
) -> Figures:
    """Read the samples into the table ``sampled`` and count.

    Raises:
        InputError: a file is not what its name says.
    """
    connection.execute(statement("survey/create_sampled"))
    counts = [_add(connection, read(sample.file, columns.named()), columns) for sample in samples]
    total, exact = total_rows(files, samples, counts)
    whole = len(samples) == len(files) and all(sample.whole for sample in samples)
    latest = clock.now() + timedelta(days=1)
    found = one(connection, "survey/sampled_figures", {"latest": latest, "earliest": _DEFAULTS.quality.min_time})
    oldest, newest = found["oldest"], found["newest"]
    if not whole and columns.event_time is not None:
        oldest, newest = _extended(files, columns, (oldest, newest), latest)
    least = {"least": _DEFAULTS.train.min_item_events}
    has_weights = columns.weight is not None and found["smallest_weight"] is not None
    return Figures(
        total=total,
        exact=exact,
        looked=sum(counts),
        whole=whole,
        users=found["users"],
        items=found["items"],
        common_items=one(connection, "survey/common_items", least)["items"],
        oldest=oldest,
        newest=newest,
        after=found["after_latest"],
        before=found["before_earliest"],
        at_zero=found["at_zero"],
        weights=(found["smallest_weight"], found["largest_weight"]) if has_weights else None,
        types={row["type"]: row["events"] for row in rows(connection, "survey/types")},
    )


def _add(connection: duckdb.DuckDBPyConnection, table: pa.Table, columns: Columns) -> int:
    roles = {
        "user_id": columns.user_id,
        "item_id": columns.item_id,
        "event_time": columns.event_time,
        "weight": columns.weight,
        "event_type": columns.event_type,
    }
    nothing = pa.nulls(table.num_rows, pa.string())
    chunk = pa.table({role: nothing if name is None else table[name] for role, name in roles.items()})
    connection.register("chunk", chunk)
    try:
        connection.execute(statement("survey/add_sampled"), {"per_second": PER_SECOND[columns.time_format]})
    finally:
        connection.unregister("chunk")
    return int(table.num_rows)


def repeats(connection: duckdb.DuckDBPyConnection, types: Sequence[str] | None) -> float:
    """Share of the events in ``sampled`` whose user has had their item before; of ``types`` only, if given."""
    found = one(connection, "survey/repeats", {"typed": types is not None, "types": list(types or ())})
    return found["repeats"] / found["events"] if found["events"] else 0.0


def _extended(
    files: Sequence[SourceFile], columns: Columns, seen: tuple[datetime | None, datetime | None], latest: datetime
) -> tuple[datetime | None, datetime | None]:
    """The oldest and newest time that was seen or that Parquet's own statistics tell; not those after ``latest``."""
    times = [time for time in seen if time is not None]
    for file in files[:_MOST_FOOTERS]:
        if file.kind == "parquet":
            told = _statistics(file, str(columns.event_time), columns.time_format)
            times += [time for time in told if _AFTER_ZERO < time < latest]
    return min(times, default=None), max(times, default=None)


def _statistics(file: SourceFile, column: str, time_format: TimeFormat) -> list[datetime]:
    """Smallest and largest time of each row group, as far as the file says so."""
    try:
        with pq.ParquetFile(file.path) as parquet:
            leaves = [parquet.schema.column(number).path for number in range(len(parquet.schema))]
            place = leaves.index(column)
            groups = [parquet.metadata.row_group(number).column(place) for number in range(parquet.num_row_groups)]
            bounds = [group.statistics for group in groups if group.statistics and group.statistics.has_min_max]
            return [time for one in bounds for value in (one.min, one.max) if (time := _moment(value, time_format))]
    except (pa.ArrowException, OSError, ValueError):
        return []  # reading it has said, or will say, what is wrong


def _moment(value: Any, time_format: TimeFormat) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, int | float) and time_format != "auto":
        try:
            return datetime.fromtimestamp(value / PER_SECOND[time_format], UTC).replace(tzinfo=None)
        except (OverflowError, ValueError, OSError):
            return None
    return None
