"""Typed documents with a schema version that steps exchange with each other and with readers.

Every JSON file under a root is written and read through one of these models. :mod:`hmamba.contracts.document` describes
how they are checked.
"""

from hmamba.contracts.backtest import BacktestInputs, BacktestNight, SystemMetrics
from hmamba.contracts.document import Document, Part
from hmamba.contracts.index import IndexDescription
from hmamba.contracts.manifest import Manifest, PublishedFile, Refresh
from hmamba.contracts.models import (
    EpochMetrics,
    ModelMetrics,
    Promotion,
    Promotions,
    ScoreTermFit,
    TrainingMetrics,
    TrainingResult,
)
from hmamba.contracts.snapshot import SnapshotFile, SnapshotManifest
from hmamba.contracts.steps import (
    KEPT_METRICS,
    GateMetrics,
    IndexMetrics,
    IngestMetrics,
    PublishMetrics,
    RefreshMetrics,
    ReportMetrics,
    ScoreMetrics,
    ShardMetrics,
    SnapshotMetrics,
    StepFailure,
    StepMetrics,
    TrainMetrics,
)
from hmamba.contracts.verdict import Comparison, Says, Verdict, read_serving

__all__ = [
    "KEPT_METRICS",
    "BacktestInputs",
    "BacktestNight",
    "Comparison",
    "Document",
    "EpochMetrics",
    "GateMetrics",
    "IndexDescription",
    "IndexMetrics",
    "IngestMetrics",
    "Manifest",
    "ModelMetrics",
    "Part",
    "Promotion",
    "Promotions",
    "PublishMetrics",
    "PublishedFile",
    "Refresh",
    "RefreshMetrics",
    "ReportMetrics",
    "Says",
    "ScoreMetrics",
    "ScoreTermFit",
    "ShardMetrics",
    "SnapshotFile",
    "SnapshotManifest",
    "SnapshotMetrics",
    "StepFailure",
    "StepMetrics",
    "SystemMetrics",
    "TrainMetrics",
    "TrainingMetrics",
    "TrainingResult",
    "Verdict",
    "read_serving",
]
