"""Step metrics: what each step counts, prints as its last line and keeps under the run's ``metrics/``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import ClassVar, Literal, Self

from pydantic import Field

from hmamba.contracts.document import Document
from hmamba.contracts.models import EpochMetrics, ScoreTermFit
from hmamba.contracts.verdict import Verdict


class StepMetrics(Document):
    """What every step records.

    Attributes:
        step: its name.
        day: the UTC day that was processed.
        seconds: wall time; filled in when the step ends.
        peak_bytes: peak resident memory; filled in when the step ends.
    """

    CURE: ClassVar[str] = "Run that step again."

    step: str
    day: date
    seconds: float = 0.0
    peak_bytes: int = 0


class IngestMetrics(StepMetrics):
    """A pull. Rows read are the sum of rows loaded, duplicate and quarantined.

    Attributes:
        batch_id: the batch in the ledger; None if nothing was new.
        files, files_skipped: new files, and files that had been read before.
        quarantined_by_rule: rows by the rule that they broke; a row may break several.
        rows_late: loaded rows older than ``warehouse.overlap_days`` before the watermark.
        rows_left: rows of later days, left in their files.
        items_new: items seen for the first time.
        watermark_from, watermark_to: newest event before and after the pull, UTC without offset.
        staleness_days: from the newest event to the end of the day; None where that means nothing.
        warnings: sentences.
        catalogue_warning: a sentence; None if the catalogue matches.
        data_docs: path of the Data Docs; None before the first check.
    """

    step: Literal["ingest"] = "ingest"
    batch_id: int | None = None
    files: int = 0
    files_skipped: int
    rows_read: int = 0
    rows_loaded: int = 0
    rows_duplicate: int = 0
    rows_quarantined: int = 0
    quarantined_by_rule: dict[str, int] = Field(default_factory=dict)
    rows_late: int = 0
    rows_left: int = 0
    items_new: int = 0
    watermark_from: datetime | None = None
    watermark_to: datetime | None = None
    staleness_days: float | None
    warnings: tuple[str, ...]
    catalogue_warning: str | None
    data_docs: str | None


class SnapshotMetrics(StepMetrics):
    """A snapshot; see :class:`~hmamba.contracts.snapshot.SnapshotManifest`."""

    step: Literal["snapshot"] = "snapshot"
    users: int
    events: int
    items: int
    shards: int
    newest_event: datetime | None
    digest: str


class TrainMetrics(StepMetrics):
    """A training; see :class:`~hmamba.contracts.models.TrainingMetrics`. Without one, ``skipped_reason`` says why.

    ``reused``: the version had been trained before, from the same data and settings.
    """

    step: Literal["train"] = "train"
    version: str | None = None
    parent: str | None
    reused: bool = False
    skipped_reason: str | None = None
    epochs: tuple[EpochMetrics, ...] = ()
    events: int | None = None
    rows: int | None = None
    items: int | None = None
    parameters: int | None = None
    curvature: float | None = None
    score_terms: dict[str, ScoreTermFit] = Field(default_factory=dict)
    device: str | None = None
    processes: int | None = None


class GateMetrics(Verdict, StepMetrics):
    """The verdict, and how the serving model was refitted.

    Attributes:
        refit: the epoch after the verdict; None without one.
        refit_skipped_reason: why there was none although ``train.refit`` is set; None otherwise.
    """

    step: Literal["gate"] = "gate"
    refit: EpochMetrics | None = None
    refit_skipped_reason: str | None = None


class IndexMetrics(StepMetrics):
    """The index.

    Attributes:
        items: candidate items.
        kind: how it is searched; "none" where a baseline serves, which has no index and none of what follows.
        device: where queries are computed.
        model_version: what serves.
        dim: coordinates per item.
        bytes: size of the index.
        float32_recall: share of float64's ``float32_recall_at`` best items that float32 finds, the mean over
            ``float32_recall_users`` users; None where nobody could be tried. Under ``float32_recall_floor`` the search
            runs in float64.
        queries_per_second: of each way to search that was timed.
        recall: share of the ``recall_at`` best items that an approximate search finds; None where none was tried.
            Under ``recall_floor`` the search is exact.
        looked_at: parameters of the approximate search, such as ``nprobe``; None where the search is exact.
    """

    step: Literal["index"] = "index"
    items: int
    kind: str
    device: str
    model_version: str
    dim: int | None = None
    bytes: int | None = None
    float32_recall: float | None = None
    float32_recall_floor: float | None = None
    float32_recall_at: int | None = None
    float32_recall_users: int | None = None
    queries_per_second: dict[str, int] = Field(default_factory=dict)
    recall: float | None = None
    looked_at: dict[str, int] | None = None
    recall_floor: float | None = None
    recall_at: int | None = None


class ShardMetrics(StepMetrics):
    """The candidates of one shard's users. ``fallback_users`` received popular items for want of a usable history."""

    step: Literal["score"] = "score"
    shard: int
    users: int
    fallback_users: int
    rows: int


class ScoreMetrics(StepMetrics):
    """Sums over several shards; ``seconds`` is a sum as well, ``peak_bytes`` the highest."""

    step: Literal["score"] = "score"
    shards: str
    users: int
    fallback_users: int
    rows: int

    @classmethod
    def of(cls, parts: Sequence[ShardMetrics]) -> Self:
        """Add up shards, at least one, in order."""
        return cls(
            day=parts[0].day,
            shards=f"{parts[0].shard}-{parts[-1].shard}",
            users=sum(part.users for part in parts),
            fallback_users=sum(part.fallback_users for part in parts),
            rows=sum(part.rows for part in parts),
            seconds=round(sum(part.seconds for part in parts), 3),
            peak_bytes=max(part.peak_bytes for part in parts),
        )


class PublishMetrics(StepMetrics):
    """A publication; see :class:`~hmamba.contracts.manifest.Manifest`.

    Attributes:
        files: number of Parquet files.
        changed: false if the same content had been published before.
        distinct_items: items that are recommended to anybody.
    """

    step: Literal["publish"] = "publish"
    users: int
    rows: int
    k: int
    files: int
    changed: bool
    model_version: str
    warning: str | None
    distinct_items: int


class RefreshMetrics(StepMetrics):
    """A refresh between nights.

    Attributes:
        night: the day of the table that is refreshed.
        model_version: what serves.
        new_events: events since the night's snapshot.
        users, new_users: users with new events, and those whom the night's table did not hold.
        advanced, anew: users read from their carried state, and from their whole history.
        rows: of the whole table; None if nothing was published.
        changed: whether anything was published.
    """

    step: Literal["refresh"] = "refresh"
    night: date
    model_version: str
    new_events: int
    users: int = 0
    new_users: int = 0
    advanced: int = 0
    anew: int = 0
    rows: int | None = None
    changed: bool = False


class ReportMetrics(StepMetrics):
    """The report's page: ``path`` relative to the root."""

    step: Literal["report"] = "report"
    path: str
    bytes: int


class StepFailure(Document):
    """How a step failed last. Removed when the step succeeds.

    Attributes:
        step: its name.
        shard: of a step that is mapped over shards; None otherwise.
        message: as it was logged.
        exit_status: of its process.
        seconds: how long it ran.
    """

    CURE: ClassVar[str] = "Run that step again."

    step: str
    shard: int | None
    message: str
    exit_status: int
    seconds: float


KEPT_METRICS: dict[str, type[StepMetrics]] = {
    "ingest": IngestMetrics,
    "snapshot": SnapshotMetrics,
    "train": TrainMetrics,
    "gate": GateMetrics,
    "index": IndexMetrics,
    "score": ShardMetrics,
    "publish": PublishMetrics,
    "report": ReportMetrics,
    "refresh": RefreshMetrics,
}
"""The metrics that each step keeps. ``score`` keeps one file per shard."""
