"""Rules of the staged batch. A row rule sends rows to quarantine; a batch rule stops the pull."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb

from hmamba.config import Config, QualityConfig
from hmamba.errors import QualityError
from hmamba.progress import Progress
from hmamba.quality.expectations import Figure, broken_figures, data_docs, open_project
from hmamba.statements import statement

ROWS_PER_SLICE = 4_000_000
"""Rows that are looked at between two signs of progress."""

ROW_RULES = (
    "record_readable",
    "user_id_present",
    "user_id_readable",
    "user_id_length",
    "item_id_present",
    "item_id_readable",
    "item_id_length",
    "event_time_readable",
    "position_readable",
    "event_time_not_before",
    "event_time_not_after",
    "event_type_known",
    "weight_is_number",
    "weight_in_bounds",
)


@dataclass(frozen=True)
class BatchFigures:
    """What is known of a batch as a whole. Shares are of 1; None where there is nothing to compare with.

    ``whole_files`` counts files of which every row is refused.
    """

    rows: int
    quarantined: int
    whole_files: int
    duplicate_share: float
    volume_ratio: float | None
    staleness_days: float | None
    broken: dict[str, int]

    @property
    def quarantined_share(self) -> float:
        """Rows that go to quarantine, of all rows read."""
        return self.quarantined / self.rows


def end_of(day: date) -> datetime:
    """Midnight UTC after ``day``, naive."""
    return datetime.combine(day + timedelta(days=1), datetime.min.time())


def check_rows(connection: duckdb.DuckDBPyConnection, config: Config, day: date, total: int) -> None:
    """Enter (position, rule) into the table ``broken`` for every row rule that a row of ``staged`` breaks.

    DuckDB looks at the rows, a slice at a time; what Great Expectations judges is how many broke each rule.

    Args:
        connection: has the tables ``staged`` and ``broken``.
        config: bounds, event types, and whether positions stand in the place of times.
        day: the day that is processed; later events than its end plus the tolerance are refused.
        total: rows of ``staged``; their positions count from 0.
    """
    quality, columns = config.quality, config.source.columns
    by_position = columns.position is not None
    earliest = quality.min_time
    if earliest.tzinfo is not None:
        earliest = earliest.astimezone(UTC).replace(tzinfo=None)
    bounds = {
        "max_id_length": quality.max_id_length,
        "time_rule": "position_readable" if by_position else "event_time_readable",
        "earliest": None if by_position else earliest,
        "latest": None if by_position else end_of(day) + timedelta(hours=quality.max_future_hours),
        "typed": columns.event_type is not None,
        "types": list(config.events.types),
        "min_weight": quality.min_weight,
        "max_weight": quality.max_weight,
    }
    with Progress("check rows", total, "rows") as progress:
        for first in range(0, total, ROWS_PER_SLICE):
            past = min(first + ROWS_PER_SLICE, total)
            connection.execute(statement("quality/row_rules"), {**bounds, "first": first, "past": past})
            progress.update(past - first)


def _figures(config: QualityConfig, batch: BatchFigures) -> list[Figure]:
    """The batch rules that apply. What rows of one rule are to the whole is there to be seen in Data Docs."""
    most = config.max_quarantined_share
    figures = [
        Figure("rows", batch.rows, least=1),
        Figure("quarantined_share", batch.quarantined_share, most=most),
        Figure("files_refused_whole", batch.whole_files, most=0),
        *(Figure(f"share_against_{rule}", batch.broken.get(rule, 0) / batch.rows, most=most) for rule in ROW_RULES),
        Figure("duplicate_share", batch.duplicate_share, most=config.max_duplicate_share),
    ]
    if batch.volume_ratio is not None:
        figures.append(
            Figure("volume_ratio", batch.volume_ratio, least=config.min_volume_ratio, most=config.max_volume_ratio)
        )
    if batch.staleness_days is not None and config.max_staleness_days is not None:
        figures.append(Figure("staleness_days", batch.staleness_days, most=config.max_staleness_days))
    return figures


def check_batch(project: Path, config: QualityConfig, batch: BatchFigures, run_name: str, examples: str) -> None:
    """Check the batch as a whole and keep a page of Data Docs about it.

    Args:
        project: folder of the Great Expectations project.
        config: bounds.
        batch: what was counted; at least one row.
        run_name: what Data Docs call this pull.
        examples: a few refused rows in words, for the message; may be empty.

    Raises:
        QualityError: a rule is broken; names it with its figures.
    """
    with open_project(project) as opened:
        broken = broken_figures(opened, "staged_batch", _figures(config, batch), run_name)
    if broken:
        raise QualityError(
            f"The batch of {batch.rows} rows broke its rules and nothing has been loaded: "
            f"{'; '.join(map(str, broken))}. {examples}"
            f"Mend the files, or change the bounds under [quality]. Details: {data_docs(project)}"
        )
