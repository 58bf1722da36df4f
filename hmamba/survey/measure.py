"""Statistics of sampled interactions, staged as in a pull."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba import clock
from hmamba.config import Config, SourceConfig
from hmamba.errors import InputError
from hmamba.sources.discover import SourceFile
from hmamba.sources.files import FilePart
from hmamba.sources.times import PER_SECOND, TimeFormat
from hmamba.statements import one, rows, statement
from hmamba.survey.sample import Sample, total_rows
from hmamba.warehouse.staging import stage

REPEATS_FROM = 0.05
"""Minimum share of repeated events for items to count as consumed repeatedly."""
_MOST_FOOTERS = 2000
_AFTER_ZERO = datetime(1970, 1, 2)
"""Earlier times come from a clock that was never set."""
_DEFAULTS = Config()


@dataclass(frozen=True)
class Figures:
    """Statistics of the sampled rows. Times are naive UTC; None if there are none.

    ``files`` is the number of all files, ``total`` that of their rows (an estimate unless ``exact``), ``looked`` that
    of the sampled rows; ``whole`` is true if every row was sampled. ``after`` counts events later than a day from now,
    ``before`` events older than the default of quality.min_time, ``at_zero`` events on 1970-01-01.
    """

    files: int
    total: int
    exact: bool
    looked: int
    whole: bool
    users: int
    items: int
    oldest: datetime | None
    newest: datetime | None
    after: int
    before: int
    at_zero: int
    weights: tuple[float, float] | None
    types: Mapping[str, int]


@dataclass(frozen=True)
class Measured:
    """The figures, the samples behind them with the rows of each, and messages about unreadable files."""

    figures: Figures
    samples: tuple[Sample, ...]
    counts: tuple[int, ...]
    problems: tuple[str, ...]


def measure(
    connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile], samples: Sequence[Sample], source: SourceConfig
) -> Measured:
    """Stage the samples as in a pull, into the table ``staged``, and count."""
    counts, good, problems = _stage(connection, samples, source)
    total, exact = total_rows(files, good, counts)
    whole = len(good) == len(files) and all(sample.whole for sample in good)
    latest = clock.now() + timedelta(days=1)
    timed = not source.columns.by_position
    bounds = {"latest": latest, "earliest": _DEFAULTS.quality.min_time, "timed": timed}
    found = one(connection, "survey/staged_figures", bounds)
    if not whole and timed:
        seen = (found["oldest"], found["newest"])
        found["oldest"], found["newest"] = _extended(files, source, seen, latest)
    weights = found.pop("smallest_weight"), found.pop("largest_weight")
    figures = Figures(
        files=len(files),
        total=total,
        exact=exact,
        looked=sum(counts),
        whole=whole,
        weights=None if source.columns.weight is None or weights[0] is None else weights,
        types={row["event_type"]: row["events"] for row in rows(connection, "survey/types")},
        **found,
    )
    return Measured(figures, tuple(good), tuple(counts), tuple(problems))


def _stage(
    connection: duckdb.DuckDBPyConnection, samples: Sequence[Sample], source: SourceConfig
) -> tuple[list[int], list[Sample], list[str]]:
    """Stage the readable samples. Returns the rows of each, these samples, and messages about the others."""
    connection.execute(statement("ingest/set_time_zone"), {"zone": source.timezone})
    try:
        return stage(connection, _parts(samples), source), list(samples), []
    except InputError:
        good, broken = [], []
    for sample in samples:
        try:
            stage(connection, _parts([sample]), source)
        except InputError as error:
            broken.append(str(error))
        else:
            good.append(sample)
    return stage(connection, _parts(good), source), good, broken


def _parts(samples: Sequence[Sample]) -> list[FilePart]:
    return [FilePart.of(sample.file) for sample in samples]


def repeats(connection: duckdb.DuckDBPyConnection, types: Sequence[str] | None) -> float:
    """Share of the events in ``staged`` that repeat an item of their user; of ``types`` only, if given."""
    found = one(connection, "survey/repeats", {"typed": types is not None, "types": list(types or ())})
    return found["repeats"] / found["events"] if found["events"] else 0.0


def typical_user(connection: duckdb.DuckDBPyConnection, types: Sequence[str] | None) -> float:
    """Events in ``staged`` of the median user with two or more; of ``types`` only, if given."""
    found = one(connection, "survey/typical_user", {"typed": types is not None, "types": list(types or ())})
    return float(found["events"])


def items(connection: duckdb.DuckDBPyConnection, types: Sequence[str] | None) -> int:
    """Items in ``staged``; of events of ``types`` only, if given."""
    return int(one(connection, "survey/items", {"typed": types is not None, "types": list(types or ())})["items"])


def _extended(
    files: Sequence[SourceFile], source: SourceConfig, seen: tuple[datetime | None, datetime | None], latest: datetime
) -> tuple[datetime | None, datetime | None]:
    """The oldest and newest time among the sampled rows and Parquet's statistics, without times after ``latest``."""
    times = [time for time in seen if time is not None]
    for file in files[:_MOST_FOOTERS]:
        if file.kind == "parquet":
            bounds = _statistics(file, source.columns.event_time, source.time_format)
            times += [time for time in bounds if _AFTER_ZERO < time < latest]
    return min(times, default=None), max(times, default=None)


def _statistics(file: SourceFile, column: str, time_format: TimeFormat) -> list[datetime]:
    """Smallest and largest time of each row group that has statistics."""
    try:
        with pq.ParquetFile(file.path) as parquet:
            leaves = [parquet.schema.column(number).path for number in range(len(parquet.schema))]
            place = leaves.index(column)
            groups = [parquet.metadata.row_group(number).column(place) for number in range(parquet.num_row_groups)]
            bounds = [group.statistics for group in groups if group.statistics and group.statistics.has_min_max]
            return [time for one in bounds for value in (one.min, one.max) if (time := _moment(value, time_format))]
    except (pa.ArrowException, OSError, ValueError):
        return []  # staging reports what is wrong


def _moment(value: Any, time_format: TimeFormat) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    if isinstance(value, int | float) and time_format != "auto":
        try:
            return datetime.fromtimestamp(value / PER_SECOND[time_format], UTC).replace(tzinfo=None)
        except (OverflowError, ValueError, OSError):
            return None
    return None
