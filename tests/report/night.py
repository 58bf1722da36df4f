"""What the steps of one run leave behind, made up but in the real formats."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.clock import end_of
from hmamba.contracts import (
    Comparison,
    EpochMetrics,
    GateMetrics,
    IndexMetrics,
    IngestMetrics,
    ModelMetrics,
    PublishedFile,
    PublishMetrics,
    Says,
    ScoreTermFit,
    SnapshotManifest,
    SnapshotMetrics,
    StepFailure,
    StepMetrics,
    TrainingMetrics,
    TrainMetrics,
    Verdict,
)
from hmamba.storage.layout import Layout
from hmamba.storage.local import sha256
from tests.documents import manifest, shard_metrics
from tests.synthetic import make_catalogue

DAY = date(2024, 1, 30)
RUN = "manual"
VERSION = "20240130-new"
CHAMPION = "20240129-old"
EPOCHS = tuple(
    EpochMetrics(epoch=n + 1, loss=8.0 - 1.5 * n**0.5, ndcg=0.12 + 0.01 * n - 0.001 * n**2, seconds=3.0)
    for n in range(8)
)
MB = 2**20
HOSTILE = "<script>alert('x')</script> \"& 🧀 \u202eevil"
WEIGHTS = {"strength": 1.5, "scale": 0.0003}
COOCCURRENCE = ScoreTermFit(weights=WEIGHTS, users=1234, ndcg=0.144, ndcg_without=0.128)
TRAINED = TrainingMetrics(
    version=VERSION,
    parent=CHAMPION,
    epochs=EPOCHS,
    events=1000,
    rows=40,
    items=60,
    parameters=123456,
    curvature=0.0156,
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
            f"coverage@{cutoff}": 0.05 * (place + 1) * scale,
        }
    return found


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
        "questions": 40,
        "split": "days",
        "split_why": "1 held-out day and 1 validation day, as configured",
        "challenger": VERSION,
        "champion": CHAMPION,
        "serving": VERSION,
        "promoted": True,
        "reason": "ndcg@10 0.1760 against the champion's 0.1600",
        "warning": None,
        "metric": "ndcg@10",
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
        "data_docs": "gx/uncommitted/data_docs/local_site/index.html",
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


def write_night(
    layout: Layout,
    events: pd.DataFrame,
    catalogue: pd.DataFrame,
    k: int = 10,
    dim: int = 8,
    seed: int = 0,
    judged: Verdict | None = None,
) -> None:
    """Write a whole run.

    Args:
        layout: an empty root.
        events: user_id, item_id, event_time, weight.
        catalogue: item_id, title and category_path (lists).
        k: candidates a user.
        dim: width of the items' points.
        seed: of vectors and candidates.
        judged: the gate's verdict; a promotion by default.
    """
    random = np.random.default_rng(seed)
    run = layout.run(DAY, RUN)
    items = _write_snapshot(run.sequences, events, catalogue)
    _write_vectors(run.vectors, items, dim, random)
    users = sorted(events["user_id"].unique())
    _write_candidates(run.candidates, users, items, k, random)
    judged = judged or verdict()
    judged.write(run.verdict)
    ModelMetrics(training=TRAINED, gate=judged).write(layout.model_metrics(VERSION))
    page = layout.expectations / "uncommitted" / "data_docs" / "local_site" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<!doctype html>", encoding="utf-8")
    snapshot = SnapshotManifest.read(run.sequences / "manifest.json")
    record(
        layout,
        ingest_metrics(),
        SnapshotMetrics(
            day=DAY,
            users=len(users),
            events=len(events),
            items=len(items),
            shards=2,
            newest_event=snapshot.newest_event,
            digest=snapshot.digest,
            seconds=1.2,
            peak_bytes=300 * MB,
        ),
        train_metrics(),
        gate_metrics(judged),
        index_metrics(len(items), dim + 2),
        *(shard_metrics(n).model_copy(update={"seconds": 4.0 + n, "peak_bytes": 800 * MB}) for n in range(2)),
        PublishMetrics(
            day=DAY,
            users=len(users),
            rows=len(users) * k,
            k=k,
            files=2,
            changed=True,
            model_version=VERSION,
            warning=None,
            distinct_items=len(items),
            seconds=7.0,
            peak_bytes=650 * MB,
        ),
    )


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
        "float32_recall": 0.99998,
        "float32_recall_floor": 0.999,
        "float32_recall_at": 100,
        "float32_recall_users": 31,
    }
    return IndexMetrics.model_validate(values | changes)


def fail(layout: Layout, step: str, message: str, status: int, shard: int | None = None) -> None:
    """Record that a step of the run failed, as the steps do. What it and later ones left on an earlier try stays."""
    run = layout.run(DAY, RUN)
    failure = StepFailure(step=step, shard=shard, message=message, exit_status=status, seconds=2.5)
    failure.write(run.step_failure(step, shard))


def make_baseline_night(layout: Layout) -> None:
    """Turn the written night into one that a baseline serves, as the steps leave it."""
    run, judged = layout.run(DAY, RUN), baseline_verdict()
    judged.write(run.verdict)
    record(layout, gate_metrics(judged))
    listed = pq.read_table(run.vectors / "items.parquet", columns=["item_index", "item_id"])
    pq.write_table(listed, run.vectors / "items.parquet")
    serving = str(judged.serving)
    record(layout, IndexMetrics(day=DAY, items=len(listed), kind="none", device="cpu", model_version=serving))


def _write_snapshot(folder: Path, events: pd.DataFrame, catalogue: pd.DataFrame) -> pd.DataFrame:
    folder.mkdir(parents=True)
    counts = events.groupby("item_id").agg(events=("event_time", "size"), first_seen=("event_time", "min"))
    items = catalogue.merge(counts, on="item_id").sort_values("item_id", ignore_index=True)
    items.insert(0, "item_index", np.arange(1, len(items) + 1, dtype=np.int32))
    items = items[["item_index", "item_id", "title", "category_path", "first_seen", "events"]]
    pq.write_table(pa.Table.from_pandas(items, preserve_index=False), folder / "items.parquet")
    rows = events.merge(items[["item_index", "item_id"]], on="item_id").sort_values(
        ["user_id", "event_time", "item_index"]
    )[["user_id", "item_index", "event_time", "weight"]]
    rows = rows.assign(is_target=True, is_seen=True)
    shards = rows["user_id"].map(lambda user: sum(user.encode()) % 2)
    for shard in range(2):
        rows[shards == shard].to_parquet(folder / f"shard-{shard:04d}.parquet", index=False)
    SnapshotManifest(
        day=DAY,
        end=end_of(DAY),
        by_position=False,
        shards=2,
        users=rows["user_id"].nunique(),
        events=len(rows),
        items=len(items),
        newest_event=datetime(2024, 1, 30, 21, 15),
        batch=1,
        files=(),
        digest="0123",
    ).write(folder / "manifest.json")
    return items


def _write_vectors(folder: Path, items: pd.DataFrame, dim: int, random: np.random.Generator) -> None:
    """Popular items near the origin, each department around a direction of its own."""
    folder.mkdir(parents=True)
    departments = [path[0] if path is not None and len(path) else "" for path in items["category_path"]]
    centres = {name: random.normal(size=dim) for name in sorted(set(departments))}
    directions = np.stack([centres[name] for name in departments]) + random.normal(size=(len(items), dim)) * 0.7
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rarity = 1 - np.log1p(items["events"].to_numpy()) / np.log1p(items["events"].max())
    distance = 0.3 + 2.2 * rarity + random.normal(size=len(items)) * 0.1
    space = directions * np.sinh(np.abs(distance))[:, None] * 8.0
    points = lorentz(space, 64.0)
    table = pa.table(
        {
            "item_index": items["item_index"].to_numpy(),
            "item_id": items["item_id"].tolist(),
            "point": pa.array(points.tolist(), type=pa.list_(pa.float32())),
            "space_norm": np.linalg.norm(space, axis=1).astype(np.float32),
        }
    )
    pq.write_table(table, folder / "items.parquet")


def _write_candidates(folder: Path, users: list[str], items: pd.DataFrame, k: int, random: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    chances = items["events"].to_numpy() ** 0.8
    chances = chances / chances.sum()
    for part, members in enumerate((users[::2], users[1::2])):
        chosen = [random.choice(len(items), size=k, replace=False, p=chances) for _ in members]
        frame = pd.DataFrame(
            {
                "user_id": np.repeat(members, k),
                "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), len(members)),
                "item_id": items["item_id"].to_numpy()[np.concatenate(chosen)],
                "score": np.tile(np.linspace(5, 1, k, dtype=np.float32), len(members)),
                "model_version": VERSION,
            }
        )
        frame.to_parquet(folder / f"part-{part:04d}.parquet", index=False)


def publish(layout: Layout) -> None:
    """Publish the run's candidates as the publishing step does."""
    target = layout.published(DAY)
    target.parent.mkdir(exist_ok=True)
    layout.run(DAY, RUN).candidates.rename(target)
    parts = sorted(target.glob("part-*.parquet"))
    frame = pd.concat(map(pd.read_parquet, parts))
    files = [
        PublishedFile(
            path=part.relative_to(layout.root).as_posix(),
            rows=pq.read_metadata(part).num_rows,
            bytes=part.stat().st_size,
            sha256=sha256(part),
        )
        for part in parts
    ]
    manifest(
        model_version=VERSION,
        k=int(frame["rank"].max()),
        rows=len(frame),
        users=frame["user_id"].nunique(),
        files=files,
    ).write(layout.latest)


def hostile_catalogue(items: int = 60) -> pd.DataFrame:
    """A catalogue with a hostile title, a hostile department, an empty title, no category and a title without end."""
    found = make_catalogue(items)
    found["category_path"] = [list(row) for row in found[["department", "category"]].itertuples(index=False)]
    found.at[0, "title"] = HOSTILE
    found.at[1, "category_path"] = ["</style><script>", "b"]
    found.at[2, "title"] = None
    found.at[3, "category_path"] = None
    found.at[4, "title"] = "x" * 10_000
    return found
