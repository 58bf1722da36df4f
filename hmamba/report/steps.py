"""One line about each step, shared by the command line, the demo and the report."""

from __future__ import annotations

from hmamba.contracts.steps import (
    GateMetrics,
    IndexMetrics,
    IngestMetrics,
    PublishMetrics,
    RefreshMetrics,
    ReportMetrics,
    ScoreMetrics,
    ShardMetrics,
    SnapshotMetrics,
    StepMetrics,
    TrainMetrics,
)
from hmamba.text import counted


def in_a_line(metrics: StepMetrics) -> str:
    """Summarise a step's metrics in one line.

    Raises:
        TypeError: there is no line for metrics of this kind.
    """
    match metrics:
        case IngestMetrics():
            return _ingest(metrics)
        case SnapshotMetrics():
            parts = {"user": metrics.users, "item": metrics.items, "event": metrics.events, "shard": metrics.shards}
            return ", ".join(counted(number, thing) for thing, number in parts.items())
        case TrainMetrics():
            return _train(metrics)
        case GateMetrics():
            return f"{'promoted' if metrics.promoted else 'not promoted'}: {metrics.reason}"
        case IndexMetrics():
            kind = "no index: a baseline serves" if metrics.kind == "none" else metrics.kind
            return f"{counted(metrics.items, 'item')}, {kind}"
        case ShardMetrics() | ScoreMetrics():
            return f"{counted(metrics.users, 'user')}, {counted(metrics.rows, 'row')}"
        case PublishMetrics():
            same = "" if metrics.changed else "; the same as already published"
            rows, users = counted(metrics.rows, "row"), counted(metrics.users, "user")
            return f"{rows} for {users}, at most {metrics.k} each{same}"
        case RefreshMetrics():
            return _refresh(metrics)
        case ReportMetrics():
            return metrics.path
    raise TypeError(f"no line for {type(metrics).__name__}")


def _ingest(metrics: IngestMetrics) -> str:
    if not metrics.rows_read:
        return "no new rows"
    before = "loaded before by this run: " if metrics.repeated else ""
    return (
        f"{before}{counted(metrics.rows_read, 'row')} read from {counted(metrics.files, 'file')}: "
        f"{metrics.rows_loaded:,} loaded, {metrics.rows_duplicate:,} duplicate, {metrics.rows_quarantined:,} refused; "
        f"{counted(metrics.items_new, 'new item')}"
    )


def _train(metrics: TrainMetrics) -> str:
    if metrics.version is None:
        return f"nothing trained: {metrics.skipped_reason}"
    if metrics.reused:
        return f"{metrics.version} was trained already"
    trained = sum(epoch.epoch > 0 for epoch in metrics.epochs)
    return f"{metrics.version}, from {metrics.parent or 'nothing'}, {counted(trained, 'epoch')}"


def _refresh(metrics: RefreshMetrics) -> str:
    if not metrics.users:
        return "no user has new events; nothing was published"
    return (
        f"{counted(metrics.users, 'user')} with new events, {metrics.new_users:,} of them new; "
        f"{metrics.advanced:,} read from their stored state, {metrics.reencoded:,} from their whole history"
    )
