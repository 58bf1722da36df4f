"""Rules of the staged batch. A row rule sends rows to quarantine; a batch rule stops the pull."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from hmamba import columns
from hmamba.config import QualityConfig
from hmamba.errors import QualityError
from hmamba.quality.expectations import RULE, Figure, broken_figures, broken_rows, data_docs, open_project

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.expectations.expectation import Expectation

POSITION = "position"
MALFORMED = "malformed"
ROW_RULES = (
    "record_readable",
    "user_id_present",
    "user_id_length",
    "item_id_present",
    "item_id_length",
    "event_time_readable",
    "event_time_not_before",
    "event_time_not_after",
    "weight_is_number",
    "weight_in_bounds",
)


@dataclass(frozen=True)
class BatchFigures:
    """What is known of a batch as a whole. Shares are of 1; None where there is nothing to compare with."""

    rows: int
    quarantined: int
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


def row_rules(config: QualityConfig, day: date) -> list[Expectation]:
    """The row rules, as expectations over a frame of the staged batch."""
    from great_expectations import expectations as gxe

    earliest = config.min_time
    if earliest.tzinfo is not None:
        earliest = earliest.astimezone(UTC).replace(tzinfo=None)
    latest = end_of(day) + timedelta(hours=config.max_future_hours)
    rules: list[Expectation] = [gxe.ExpectColumnValuesToBeNull(column=MALFORMED, meta={RULE: "record_readable"})]
    for column in (columns.USER_ID, columns.ITEM_ID):
        rules += [
            gxe.ExpectColumnValuesToNotBeNull(column=column, meta={RULE: f"{column}_present"}),
            gxe.ExpectColumnValueLengthsToBeBetween(
                column=column, min_value=1, max_value=config.max_id_length, meta={RULE: f"{column}_length"}
            ),
        ]
    when, weight = columns.EVENT_TIME, columns.WEIGHT
    return [
        *rules,
        gxe.ExpectColumnValuesToNotBeNull(column=when, meta={RULE: "event_time_readable"}),
        gxe.ExpectColumnValuesToBeBetween(column=when, min_value=earliest, meta={RULE: "event_time_not_before"}),
        gxe.ExpectColumnValuesToBeBetween(
            column=when, max_value=latest, strict_max=True, meta={RULE: "event_time_not_after"}
        ),
        gxe.ExpectColumnValuesToNotBeNull(column=weight, meta={RULE: "weight_is_number"}),
        gxe.ExpectColumnValuesToBeBetween(
            column=weight, min_value=config.min_weight, max_value=config.max_weight, meta={RULE: "weight_in_bounds"}
        ),
    ]


def check_rows(
    project: Path, config: QualityConfig, day: date, frames: Iterable[pd.DataFrame]
) -> Iterator[tuple[str, list[int]]]:
    """Yield (rule, positions of the rows that break it).

    Args:
        project: folder of the Great Expectations project.
        config: bounds.
        day: the day that is processed; later events than its end plus the tolerance are refused.
        frames: slices of the staged batch with the columns position (int), malformed (text or null), user_id, item_id,
            event_time (naive UTC or NaT) and weight (float).

    Raises:
        QualityError: a rule could not be computed.
    """
    with open_project(project) as opened:
        yield from broken_rows(opened, "staged_rows", row_rules(config, day), frames, POSITION)


def _figures(config: QualityConfig, batch: BatchFigures) -> list[Figure]:
    """The batch rules that apply. What rows of one rule are to the whole is there to be seen in Data Docs."""
    most = config.max_quarantined_share
    figures = [
        Figure("rows", batch.rows, least=1),
        Figure("quarantined_share", batch.quarantined_share, most=most),
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
