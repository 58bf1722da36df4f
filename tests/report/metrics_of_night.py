"""What the steps of one run record: made-up metrics in the real documents."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np

from hmamba.contracts.models import EpochMetrics, RecipeUsed, ScoreTermFit, TrainingMetrics
from hmamba.contracts.step import StepMetrics
from hmamba.contracts.steps import GateMetrics, IndexMetrics, IngestMetrics, TrainMetrics
from hmamba.contracts.verdict import Comparison, Says, Verdict
from hmamba.storage.layout import Layout
from tests.documents import FILE

DAY = date(2024, 1, 30)
RUN = "manual"
VERSION = "20240130-new"
CHAMPION = "20240129-old"
EPOCHS = tuple(
    EpochMetrics(epoch=n + 1, loss=8.0 - 1.5 * n**0.5, ndcg=0.12 + 0.01 * n - 0.001 * n**2, seconds=3.0)
    for n in range(8)
)
MB = 2**20
WEIGHTS = {"new": 0.91, "seen": 0.2}
COOCCURRENCE = ScoreTermFit(weights=WEIGHTS, intervals={"new": 0.042}, users=1234, ndcg=0.144, ndcg_without=0.128)
TRAINED = TrainingMetrics(
    version=VERSION,
    parent=CHAMPION,
    epochs=EPOCHS,
    events=1000,
    rows=40,
    items=60,
    parameters=123456,
    curvature=0.0156,
    recipe=RecipeUsed(tokens=2403, epochs=28, patience=5, dropout=0.5, horizon=5),
    score_terms={"cooccurrence": COOCCURRENCE},
    device="cpu",
    processes=1,
)


def metrics(scale: float) -> dict[str, float]:
    """Figures of one model, larger with ``scale``."""
    found = {}
    for place, cutoff in enumerate((10, 20, 40)):
        found |= {
            f"hr@{cutoff}": (0.5 + 0.1 * place) * scale,
            f"ndcg@{cutoff}": (0.16 + 0.02 * place) * scale,
            f"mrr@{cutoff}": 0.25 * scale,
            f"recall@{cutoff}": (0.1 + 0.05 * place) * scale,
            f"coverage@{cutoff}": 0.05 * (place + 1) * scale,
        }
    return found | {"recall@100": 0.4 * scale}


def compared(one: str, other: str, difference: float, low: float, high: float) -> Comparison:
    """A comparison as the gate writes it."""
    says: Says = "better" if low > 0 else "worse" if high < 0 else "cannot be told"
    return Comparison(
        one=one,
        other=other,
        metric="ndcg@10",
        users=31,
        difference=difference,
        low=low,
        high=high,
        relative=None,
        says=says,
    )


def verdict(**changes: Any) -> Verdict:
    """A promoted challenger against a champion and both baselines."""
    values = {
        "day": DAY.isoformat(),
        "holdout_from": DAY.isoformat(),
        "holdout_to": DAY.isoformat(),
        "users": 31,
        "queries": 40,
        "split": "days",
        "split_why": "1 held-out day and 1 validation day, as configured",
        "challenger": VERSION,
        "champion": CHAMPION,
        "serving": VERSION,
        "promoted": True,
        "reason": "ndcg@10 0.1760 against the champion's 0.1600",
        "warning": None,
        "metric": "ndcg@10",
        "k": 100,
        "rare": {
            "most_events": 5,
            "answers": 7,
            "users": 4,
            "metrics": {
                name: {"ndcg@10": 0.01 * scale, "hr@100": 0.05 * scale}
                for name, scale in (("challenger", 1.1), ("champion", 1.0), ("popularity", 0.0), ("most_bought", 0.9))
            },
        },
        "metrics": {
            "challenger": metrics(1.1),
            "champion": metrics(1.0),
            "popularity": metrics(0.5),
            "most_bought": metrics(0.9),
        },
        "comparisons": [
            compared("challenger", "champion", 0.016, 0.002, 0.031),
            compared("challenger", "popularity", 0.096, 0.071, 0.12),
            compared("challenger", "most_bought", 0.032, -0.004, 0.066),
            compared("champion", "popularity", 0.08, 0.061, 0.101),
            compared("champion", "most_bought", 0.016, -0.011, 0.043),
        ],
    }
    return Verdict.model_validate(values | changes)


def baseline_verdict(**changes: Any) -> Verdict:
    """A first night of which the model is not shown to be better than what each user had most."""
    why = "the first model is not shown to be better than what each user had most: ndcg@10 0.1760 against 0.1440"
    values = {
        "champion": None,
        "serving": "baseline-most_bought",
        "promoted": False,
        "reason": f"{why}; what each user had most serves",
        "warning": f"No model serves: the table ranks items by what each user had most (a baseline), because {why}",
        "metrics": {name: found for name, found in verdict().metrics.items() if name != "champion"},
        "comparisons": [entry for entry in verdict().comparisons if "champion" not in (entry.one, entry.other)],
    }
    return verdict(**(values | changes))


def ingest_metrics(**changes: Any) -> IngestMetrics:
    """A pull of one file with three refused rows."""
    values = {
        "day": DAY,
        "seconds": 9.1,
        "peak_bytes": 700 * MB,
        "batch_id": 1,
        "files": 1,
        "files_skipped": 2,
        "rows_read": 1000,
        "rows_loaded": 990,
        "rows_duplicate": 7,
        "rows_quarantined": 3,
        "quarantined_by_rule": {"event_time is in range": 2, "user_id is not null": 1},
        "rows_late": 0,
        "rows_left": 0,
        "staleness_days": 0.1,
        "warnings": [],
        "catalogue_warning": None,
        "items_new": 4,
        "watermark_from": "2024-01-29T22:00:00",
        "watermark_to": "2024-01-30T22:00:00",
        "data_docs": "gx/index.html",
    }
    return IngestMetrics.model_validate(values | changes)


def lorentz(space: np.ndarray, k: float) -> np.ndarray:
    """[N, d] space parts to [N, d+1] points with <x,x>_L = -k."""
    time_part = np.sqrt(k + (space.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return np.concatenate([time_part, space], axis=1).astype(np.float32)


def train_metrics(**changes: Any) -> TrainMetrics:
    """The training of the challenger."""
    values = {"day": DAY, "seconds": 75.5, "peak_bytes": 1800 * MB, **TRAINED.model_dump()}
    return TrainMetrics.model_validate(values | changes)


def nothing_trained(reason: str) -> TrainMetrics:
    """A train step that has found nothing to train."""
    return TrainMetrics(day=DAY, parent=None, skipped_reason=reason, seconds=0.1, peak_bytes=MB)


def gate_metrics(judged: Verdict, **changes: Any) -> GateMetrics:
    """A gate with this verdict."""
    return GateMetrics.model_validate({**judged.model_dump(), "seconds": 6.0, "peak_bytes": 900 * MB} | changes)


def record(layout: Layout, *metrics: StepMetrics) -> None:
    """Record steps, as they do."""
    for one in metrics:
        one.write(layout.run(DAY, RUN).step_metrics(one.step, getattr(one, "shard", None)))


def index_metrics(items: int, dim: int, **changes: Any) -> IndexMetrics:
    """An exact index in single precision."""
    values = {
        "day": DAY,
        "seconds": 1.5,
        "peak_bytes": 600 * MB,
        "items": items,
        "dim": dim,
        "kind": "flat",
        "device": "cpu",
        "model_version": VERSION,
        "points": FILE,
        "float32_recall": 0.99998,
        "float32_recall_floor": 0.999,
        "float32_recall_at": 100,
        "float32_recall_users": 31,
    }
    return IndexMetrics.model_validate(values | changes)
