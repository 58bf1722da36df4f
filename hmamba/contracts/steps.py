"""Step metrics: each step prints them as its last line and stores them under the run's ``metrics/``."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from hmamba.contracts.contents import HashedFile
from hmamba.contracts.manifest import SnapshotTotals
from hmamba.contracts.models import EpochMetrics, RankerFit, RecipeUsed, ScoreTermFit
from hmamba.contracts.published import DeliverMetrics, PublishMetrics, RefreshMetrics
from hmamba.contracts.scored import ShardMetrics
from hmamba.contracts.step import StepMetrics
from hmamba.contracts.tables import WrittenTable
from hmamba.contracts.verdict import Verdict
from hmamba.text import counted


class IngestMetrics(StepMetrics):
    """Metrics of a pull. Rows read are the sum of rows loaded, duplicate, quarantined and forgotten.

    Attributes:
        batch_id: the batch in the ledger; None without new files.
        repeated: whether an earlier try of this run entered the batch, and this one found nothing new.
        files, files_skipped: number of new files, and of files read by an earlier pull.
        quarantined_by_rule: rows per broken rule; a row may break several.
        rows_forgotten: rows of users who have been forgotten, which are not loaded.
        rows_late: loaded rows older than ``warehouse.overlap_days`` before the watermark.
        rows_left: rows of later days, left in their files.
        items_new: items seen for the first time.
        watermark_from, watermark_to: newest event before and after the pull, UTC without offset.
        staleness_days: days from the newest event to the end of the day; None if undefined.
        warnings: warnings, one sentence each.
        catalogue_warning: how the catalogue mismatches the events; None if it matches.
        data_docs: path of the Data Docs; None before the first check.
    """

    step: Literal["ingest"] = "ingest"
    batch_id: int | None = None
    repeated: bool = False
    files: int = 0
    files_skipped: int
    rows_read: int = 0
    rows_loaded: int = 0
    rows_duplicate: int = 0
    rows_quarantined: int = 0
    rows_forgotten: int = 0
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

    @property
    def in_a_line(self) -> str:
        """The rows, and what became of them."""
        if not self.rows_read:
            return "no new rows"
        before = "loaded before by this run: " if self.repeated else ""
        return (
            f"{before}{counted(self.rows_read, 'row')} read from {counted(self.files, 'file')}: "
            f"{self.rows_loaded:,} loaded, {self.rows_duplicate:,} duplicate, {self.rows_quarantined:,} refused; "
            f"{counted(self.items_new, 'new item')}"
        )


class SnapshotMetrics(StepMetrics, SnapshotTotals):
    """Metrics of a snapshot."""

    step: Literal["snapshot"] = "snapshot"

    @property
    def in_a_line(self) -> str:
        """The totals."""
        parts = {"user": self.users, "item": self.items, "event": self.events, "shard": self.shards}
        return ", ".join(counted(number, thing) for thing, number in parts.items())


class TrainMetrics(StepMetrics):
    """Metrics of a training; see :class:`~hmamba.contracts.models.TrainingMetrics`.

    ``version``, the gate's challenger, is None if nothing was trained; ``skipped_reason`` says why. ``reused``: the
    version was already trained from the same data and settings.
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
    recipe: RecipeUsed | None = None
    score_terms: dict[str, ScoreTermFit] = Field(default_factory=dict)
    ranker: RankerFit | None = None
    device: str | None = None
    processes: int | None = None

    @property
    def in_a_line(self) -> str:
        """The version and its training, or why there is none."""
        if self.version is None:
            return f"nothing trained: {self.skipped_reason}"
        if self.reused:
            return f"{self.version} was trained already"
        trained = sum(epoch.epoch > 0 for epoch in self.epochs)
        return f"{self.version}, from {self.parent or 'nothing'}, {counted(trained, 'epoch')}"


class GateMetrics(Verdict, StepMetrics):
    """The verdict, and how the serving model was refitted.

    Attributes:
        refit: metrics of the refit's epoch; None without a refit.
        refit_skipped_reason: why there was no refit although ``train.refit`` is set; None otherwise.
    """

    step: Literal["gate"] = "gate"
    refit: EpochMetrics | None = None
    refit_skipped_reason: str | None = None

    @property
    def in_a_line(self) -> str:
        """The decision."""
        return f"{'promoted' if self.promoted else 'not promoted'}: {self.reason}"


class IndexMetrics(StepMetrics):
    """Metrics of the index.

    Attributes:
        items: number of candidate items.
        new_items: number of new items, which are searched apart.
        kind: kind of search; "none" where a baseline serves, which has no index and no values below model_version.
        device: device on which queries are computed.
        model_version: the model or baseline that serves.
        points: the items' points; only ids where a baseline serves.
        dim: coordinates per item.
        bytes: size of the index.
        float32_recall: share of float64's ``float32_recall_at`` best items that float32 finds, the mean over
            ``float32_recall_users`` users; None if no user could be tested. Below ``float32_recall_floor`` the search
            runs in float64.
        queries_per_second: throughput of each kind of search that was timed.
        recall: share of the ``recall_at`` best items that an approximate search finds; None if none was tested.
            Below ``recall_floor`` the search is exact.
        looked_at: search parameters of the approximate search, such as ``nprobe``; None where the search is exact.
        tables: tables about items, by name (``publish.tables``); of segments, the items.
        snapshot: digest of all files of the snapshot that the tables were made from.
    """

    step: Literal["index"] = "index"
    items: int
    new_items: int = 0
    kind: str
    device: str
    model_version: str
    points: HashedFile
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
    tables: dict[str, WrittenTable] = Field(default_factory=dict)
    snapshot: str | None = None

    @property
    def in_a_line(self) -> str:
        """The items and the kind of search."""
        kind = "no index: a baseline serves" if self.kind == "none" else self.kind
        new = f" and {counted(self.new_items, 'new item')}" if self.new_items else ""
        return f"{counted(self.items, 'item')}{new}, {kind}"


class ReportMetrics(StepMetrics):
    """Metrics of the report; ``path`` is relative to the root."""

    step: Literal["report"] = "report"
    path: str
    bytes: int

    @property
    def in_a_line(self) -> str:
        """The page."""
        return self.path


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
    "deliver": DeliverMetrics,
}
"""The kind of metrics that each step stores. ``score`` stores one file per shard."""
