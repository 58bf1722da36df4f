"""Documents as steps write them, with values that a test can change."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from hmamba.contracts import Manifest
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.scored import ShardMetrics
from hmamba.contracts.steps import (
    GateMetrics,
    IndexMetrics,
    IngestMetrics,
    ReportMetrics,
    SnapshotMetrics,
    TrainMetrics,
)
from hmamba.contracts.verdict import Verdict
from hmamba.storage.local import read_json, write_json

DAY = date(2024, 1, 30)
FILE = HashedFile(name="part-0000.parquet", bytes=0, sha256="89ab")
"""A file that nobody reads."""


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a document on purpose, as a user would: without its checksum."""
    values = read_json(path)
    values.pop("checksum", None)
    write_json(path, values | changes)


def verdict(**changes: Any) -> Verdict:
    """A model that serves, judged on nobody."""
    return Verdict.model_validate(
        {
            "day": DAY,
            "holdout_from": None,
            "holdout_to": None,
            "users": 0,
            "queries": 0,
            "split": "days",
            "split_why": "as configured",
            "challenger": None,
            "champion": "v1",
            "metric": "ndcg@10",
            "metrics": {},
            "serving": "v1",
            "reason": "no new model was trained",
        }
        | changes
    )


def manifest(**changes: Any) -> Manifest:
    """The manifest of a table without files."""
    return Manifest.model_validate(
        {
            "run_id": "manual",
            "day": DAY,
            "model_version": "v1",
            "k": 10,
            "rows": 400,
            "users": 40,
            "fallback_users": 0,
            "exclude_seen": False,
            "warning": None,
            "snapshot": "0123",
            "refresh": None,
            "created_at": datetime(2024, 1, 31, 2, tzinfo=UTC),
            "files": (),
        }
        | changes
    )


def shard_metrics(shard: int, fallback_users: int = 0, users: int = 20, rows: int = 200) -> ShardMetrics:
    """A shard that was scored."""
    return ShardMetrics(
        day=DAY,
        shard=shard,
        users=users,
        fallback_users=fallback_users,
        rows=rows,
        snapshot="0123",
        served="4567",
        part=FILE,
        points=FILE,
    )


def index_metrics(**changes: Any) -> IndexMetrics:
    """An exact index of one item."""
    values = {"day": DAY, "items": 1, "kind": "flat", "device": "cpu", "model_version": "v1", "points": FILE}
    return IndexMetrics.model_validate(values | changes)


def printed(shards: int) -> dict[str, str]:
    """By step, the line that it prints in a night on the CPU with so many shards; those of the report too."""
    metrics = (
        IngestMetrics(
            day=DAY, files_skipped=0, staleness_days=None, warnings=(), catalogue_warning=None, data_docs=None
        ),
        SnapshotMetrics(day=DAY, users=1, events=1, items=1, shards=shards, newest_event=None, digest="0123"),
        TrainMetrics(day=DAY, parent=None, skipped_reason="no new events"),
        GateMetrics(**verdict().model_dump()),
        index_metrics(),
        ReportMetrics(day=DAY, path="reports/2024-01-30/index.html", bytes=1),
    )
    return {one.step: one.model_dump_json() for one in metrics}
