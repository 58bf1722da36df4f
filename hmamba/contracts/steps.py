"""Step metrics: each step prints them as its last line and stores them under the run's ``metrics/``."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from typing import ClassVar, Literal, Self

from pydantic import Field

from hmamba.contracts.contents import HashedFile
from hmamba.contracts.delivery import Way
from hmamba.contracts.document import Document, Part
from hmamba.contracts.guards import GuardResult
from hmamba.contracts.manifest import Experiment, SnapshotTotals
from hmamba.contracts.models import EpochMetrics, RankerFit, RecipeUsed, ScoreTermFit
from hmamba.contracts.tables import WrittenTable
from hmamba.contracts.verdict import Verdict
from hmamba.text import counted


class StepMetrics(Document):
    """Metrics that every step records.

    Attributes:
        step: name of the step.
        day: the UTC day that was processed.
        seconds: wall time; set when the step ends.
        peak_bytes: peak resident memory; set when the step ends.
    """

    CURE: ClassVar[str] = "Run that step again."

    step: str
    day: date
    seconds: float = 0.0
    peak_bytes: int = 0

    @property
    @abstractmethod
    def in_a_line(self) -> str:
        """The metrics in one line, shared by the command line, the demo and the report."""


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


class RuleEffects(Part):
    """What rules did to the lists of some users.

    Attributes:
        short_users: users with fewer rows than without rules.
        users_without_rows: of them, users without any.
        removed: number of items among the users' best that each rule removes, by the rule's name.
        deepened: users for whom longer lists had to be retrieved.
    """

    short_users: int = 0
    users_without_rows: int = 0
    removed: dict[str, int] = Field(default_factory=dict)
    deepened: int = 0

    @classmethod
    def sum_of(cls, parts: Sequence[RuleEffects | None]) -> RuleEffects | None:
        """The effects on all users; None without rules."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        removed: Counter[str] = Counter()
        for part in known:
            removed.update(part.removed)
        return cls(
            short_users=sum(part.short_users for part in known),
            users_without_rows=sum(part.users_without_rows for part in known),
            removed=dict(removed),
            deepened=sum(part.deepened for part in known),
        )


class _ScoredUsers(StepMetrics):
    """Metrics of scoring users.

    Attributes:
        fallback_users: users without usable history, who received popular items.
        effects: what rules did; None without rules.
    """

    step: Literal["score"] = "score"
    users: int
    fallback_users: int
    rows: int
    effects: RuleEffects | None = None

    @property
    def in_a_line(self) -> str:
        """The users and their rows."""
        short = "" if self.effects is None else f"; rules leave {counted(self.effects.short_users, 'user')} with fewer"
        return f"{counted(self.users, 'user')}, {counted(self.rows, 'row')}{short}"


class ShardMetrics(_ScoredUsers):
    """Metrics of scoring one shard, and what was scored.

    Attributes:
        shard: the shard.
        snapshot: digest of the snapshot.
        served: digest of the model and its index, or of the baseline and its candidate items.
        part: the candidates.
        points: the users' points.
        tables: the shard's parts of tables about users, by name (``publish.tables``).
        experiment: the experiment; None without one.
        rules: digest of the rules and of what they read; None without rules.
    """

    shard: int
    snapshot: str
    served: str
    part: HashedFile
    points: HashedFile
    tables: dict[str, WrittenTable] = Field(default_factory=dict)
    experiment: Experiment | None = None
    rules: str | None = None


class ScoreMetrics(_ScoredUsers):
    """Sums over several shards; ``seconds`` is a sum too, ``peak_bytes`` the maximum."""

    shards: str

    @classmethod
    def of(cls, parts: Sequence[ShardMetrics]) -> Self:
        """Sum the metrics of one or more shards, in order."""
        return cls(
            day=parts[0].day,
            shards=f"{parts[0].shard}-{parts[-1].shard}",
            users=sum(part.users for part in parts),
            fallback_users=sum(part.fallback_users for part in parts),
            rows=sum(part.rows for part in parts),
            effects=RuleEffects.sum_of([part.effects for part in parts]),
            seconds=round(sum(part.seconds for part in parts), 3),
            peak_bytes=max(part.peak_bytes for part in parts),
        )


class PublishMetrics(StepMetrics):
    """Metrics of publishing; see :class:`~hmamba.contracts.manifest.Manifest`.

    Attributes:
        files: number of Parquet files.
        changed: false if the same content was already published.
        distinct_items: number of items recommended to at least one user.
        guards: what each guard of ``[publish.guards]`` with a bound found.
        tables: rows of each table beside the candidates, by name.
        control_users: users of the control group; None without an experiment.
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
    guards: dict[str, GuardResult] = Field(default_factory=dict)
    tables: dict[str, int] = Field(default_factory=dict)
    control_users: int | None = None

    @property
    def in_a_line(self) -> str:
        """The table."""
        same = "" if self.changed else "; the same as already published"
        rows, users = counted(self.rows, "row"), counted(self.users, "user")
        warnings = sum(result.warning is not None for result in self.guards.values())
        warned = f"; {counted(warnings, 'warning')} of the guards" if warnings else ""
        beside = f"; beside them {', '.join(self.tables)}" if self.tables else ""
        control = "" if self.control_users is None else f", {self.control_users:,} of them in the control group"
        return f"{rows} for {users}{control}, at most {self.k} each{beside}{same}{warned}"


class RefreshMetrics(StepMetrics):
    """Metrics of a refresh between nights.

    Attributes:
        night: day of the refreshed table.
        model_version: the model or baseline that serves.
        new_events: events since the night's snapshot.
        users, new_users: users with new events, and those of them without rows in the night's table.
        advanced, reencoded: users encoded from their carried state, and from their whole history.
        rows: rows of the whole table; None if nothing was published.
        changed: whether anything was published.
        guards: as of a night; empty if nothing was published.
    """

    step: Literal["refresh"] = "refresh"
    night: date
    model_version: str
    new_events: int
    users: int = 0
    new_users: int = 0
    advanced: int = 0
    reencoded: int = 0
    rows: int | None = None
    changed: bool = False
    guards: dict[str, GuardResult] = Field(default_factory=dict)

    @property
    def in_a_line(self) -> str:
        """The users with new events, and how they were encoded."""
        if not self.users:
            return "no user has new events; nothing was published"
        return (
            f"{counted(self.users, 'user')} with new events, {self.new_users:,} of them new; "
            f"{self.advanced:,} read from their stored state, {self.reencoded:,} from their whole history"
        )


class Delivery(Part):
    """A delivery to one target; see :class:`hmamba.delivery.deliver.Done`."""

    target: str
    day: date
    way: Way
    users: int
    seconds: float


class DeliverMetrics(StepMetrics):
    """Metrics of a delivery of the newest table.

    Attributes:
        night: day of the table.
        deliveries: what each target got.
    """

    step: Literal["deliver"] = "deliver"
    night: date
    deliveries: tuple[Delivery, ...]

    @property
    def in_a_line(self) -> str:
        """The targets, and how many users they got."""
        return ", ".join(f"{one.target}: {one.way}, {counted(one.users, 'user')}" for one in self.deliveries)


class ReportMetrics(StepMetrics):
    """Metrics of the report; ``path`` is relative to the root."""

    step: Literal["report"] = "report"
    path: str
    bytes: int

    @property
    def in_a_line(self) -> str:
        """The page."""
        return self.path


class StepFailure(Document):
    """The last failure of a step. The file is removed when the step succeeds.

    Attributes:
        step: name of the step.
        shard: the shard, for a step that is mapped over shards; None otherwise.
        message: the logged error message.
        exit_status: exit status of the process.
        seconds: wall time until the failure.
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
    "deliver": DeliverMetrics,
}
"""The kind of metrics that each step stores. ``score`` stores one file per shard."""
