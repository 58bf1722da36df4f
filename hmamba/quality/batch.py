"""Rules of the staged batch. A broken row rule sends rows to quarantine; a broken batch rule stops the pull."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import duckdb

from hmamba.config import Config, QualityConfig
from hmamba.errors import QualityError
from hmamba.progress import Progress
from hmamba.quality.checks import check
from hmamba.quality.expectations import Figure
from hmamba.quality.row_rules import EVENT_RULES, with_rules
from hmamba.storage.checks_layout import ChecksLayout

ROWS_PER_SLICE = 4_000_000
"""Rows that are checked between two updates of the progress."""


@dataclass(frozen=True)
class BatchFigures:
    """Figures of a whole batch. Shares are from 0 to 1; None if there is nothing to compare with.

    Attributes:
        rows: number of considered rows; 0 if there is no new data.
        quarantined_share: share of the rows that go to quarantine.
        whole_files: number of files of which every row is refused.
        duplicate_share: share of the rows in new files that are already in the warehouse.
        volume_ratio: ratio of ``rows`` to ``usual_rows``.
        staleness_days: age of the newest event at the end of the day.
        broken: number of rows that broke each row rule.
        usual_rows: median number of rows of earlier pulls.
    """

    rows: int
    quarantined_share: float = 0.0
    whole_files: int = 0
    duplicate_share: float = 0.0
    volume_ratio: float | None = None
    staleness_days: float | None = None
    broken: Mapping[str, int] = field(default_factory=dict)
    usual_rows: float | None = None


def check_rows(connection: duckdb.DuckDBPyConnection, config: Config, latest: datetime, total: int) -> None:
    """Insert (position, rule) into the table ``broken`` for every row rule that a row of ``staged`` breaks.

    DuckDB checks the rows slice by slice; Great Expectations checks only the number of rows that broke each rule.

    Args:
        connection: the warehouse, with the tables ``staged`` and ``broken``.
        config: bounds, event types, and whether events are ordered by position.
        latest: naive UTC; events at or after it are refused. Positions have no bounds.
        total: number of rows of ``staged``, whose positions count from 0.
    """
    quality, columns = config.quality, config.source.columns
    bounds = {
        "max_id_length": quality.max_id_length,
        "by_position": columns.by_position,
        "earliest": None if columns.by_position else quality.min_time,
        "latest": None if columns.by_position else latest,
        "typed": columns.event_type is not None,
        "types": list(config.events.types),
        "min_weight": quality.min_weight,
        "max_weight": quality.max_weight,
    }
    rules = with_rules("quality/row_rules", EVENT_RULES)
    with Progress("check rows", total, "rows") as progress:
        for first in range(0, total, ROWS_PER_SLICE):
            past = min(first + ROWS_PER_SLICE, total)
            connection.execute(rules, {**bounds, "first": first, "past": past})
            progress.update(past - first)


def _figures(config: QualityConfig, batch: BatchFigures) -> list[Figure]:
    """Figures of the batch rules that apply. The share of each row rule has no bound and is for Data Docs only."""
    figures = []
    if batch.rows:
        figures += [
            Figure(
                "quarantined_share",
                batch.quarantined_share,
                most=config.max_quarantined_share,
                meaning="rows that break a row rule and go to quarantine, of all new rows",
                unit="share",
                most_setting="quality.max_quarantined_share",
            ),
            Figure("files_refused_whole", batch.whole_files, most=0, meaning="files of which every row is refused"),
            Figure(
                "duplicate_share",
                batch.duplicate_share,
                most=config.max_duplicate_share,
                meaning="rows of new files that are in the warehouse already, of all new rows",
                unit="share",
                most_setting="quality.max_duplicate_share",
            ),
            *(
                Figure(
                    f"share_against_{rule.name}",
                    batch.broken.get(rule.name, 0) / batch.rows,
                    meaning=f"refused: {rule.broken_by}",
                    unit="share",
                )
                for rule in EVENT_RULES
            ),
        ]
    if batch.volume_ratio is not None and (batch.rows or config.min_volume_ratio):
        figures.append(
            Figure(
                "volume_ratio",
                batch.volume_ratio,
                least=config.min_volume_ratio,
                most=config.max_volume_ratio,
                meaning="new rows, as a ratio to the median of earlier pulls",
                unit="ratio",
                least_setting="quality.min_volume_ratio",
                most_setting="quality.max_volume_ratio",
            )
        )
    if batch.staleness_days is not None and config.max_staleness_days is not None:
        figures.append(
            Figure(
                "staleness_days",
                batch.staleness_days,
                most=config.max_staleness_days,
                meaning="age of the newest event at the end of the day",
                unit="days",
                most_setting="quality.max_staleness_days",
            )
        )
    return figures


def _in_words(figure: Figure, batch: BatchFigures, config: QualityConfig) -> str:
    """A broken rule in words, with its figures and its setting."""
    if figure.name == "staleness_days":
        return (
            f"the newest event is {in_days(figure.value)} old, allowed {config.max_staleness_days:g} "
            "(staleness_days, quality.max_staleness_days)"
        )
    if figure.name == "volume_ratio" and figure.value < config.min_volume_ratio:
        return (
            f"{batch.rows} rows against a median of {batch.usual_rows or 0:g}, allowed ratio "
            f"{config.min_volume_ratio:g} ({figure}; quality.min_volume_ratio)"
        )
    return str(figure)


def in_days(days: float) -> str:
    """Format an age, such as "10 days" or "0.096 days"."""
    return f"{days:.0f} days" if days >= 10 else f"{days:.2g} days"


def stale_warning(config: QualityConfig, staleness_days: float | None) -> str | None:
    """A warning if the newest event is older than quality.warn_staleness_days, else None."""
    most = config.warn_staleness_days
    if staleness_days is None or most is None or staleness_days <= most:
        return None
    return (
        f"The newest event is {in_days(staleness_days)} old at the end of the day, more than "
        f"quality.warn_staleness_days = {most:g}: check whether the source still delivers."
    )


def check_batch(place: ChecksLayout, config: QualityConfig, batch: BatchFigures, name: str, examples: str) -> None:
    """Check the batch rules and add a page to Data Docs.

    Args:
        place: folder of the checks.
        config: bounds.
        batch: figures. Without rows, only volume and staleness are checked, if they have bounds; otherwise this does
            nothing.
        name: name of this pull in Data Docs.
        examples: sentences about refused rows, for the error message; may be empty.

    Raises:
        QualityError: a rule is broken; the message names it with its figures.
    """
    figures = _figures(config, batch)
    if not figures:
        return
    outcome = check(place, "staged_batch", name, figures)
    if outcome.broken:
        what = f"The batch of {batch.rows} rows broke its rules" if batch.rows else "No new rows have come"
        reasons = "; ".join(_in_words(figure, batch, config) for figure in outcome.broken)
        raise QualityError(
            f"{what} and nothing has been loaded: {reasons}. {examples}{_cure(outcome.broken, batch)}{outcome.details}"
        )


def _cure(broken: Sequence[Figure], batch: BatchFigures) -> str:
    """A sentence that says how to fix a broken batch. No setting allows a file of which every row is refused."""
    if batch.whole_files:
        return "Correct the files or the setting that reads them wrongly, or move these files out of the source."
    cure = "Correct the files" if batch.rows else "Check whether the source still delivers"
    settings = sorted({setting for figure in broken if (setting := figure.broken_setting) is not None})
    return f"{cure}, or change {' and '.join(settings)}."
