"""What the steps of one run leave behind, made up but in the real formats."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.evaluation.comparison import Comparison, Says
from hmamba.storage.layout import Layout
from hmamba.storage.local import sha256, write_json
from tests.synthetic import make_catalogue

DAY = date(2024, 1, 30)
RUN = "manual"
VERSION = "20240130-new"
CHAMPION = "20240129-old"
EPOCHS = [
    {"epoch": n + 1, "loss": 8.0 - 1.5 * n**0.5, "ndcg@10": 0.12 + 0.01 * n - 0.001 * n**2, "seconds": 3.0}
    for n in range(8)
]
HOSTILE = "<script>alert('x')</script> \"& 🧀 \u202eevil"
WEIGHTS = {"strength": 1.5, "scale": 0.0003}
COOCCURRENCE = {"weights": WEIGHTS, "ndcg@10": 0.144, "ndcg@10 without": 0.128, "users": 1234}


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


def compared(one: str, other: str, difference: float, low: float, high: float) -> dict[str, Any]:
    """A comparison as the gate writes it."""
    says: Says = "better" if low > 0 else "worse" if high < 0 else "cannot be told"
    return Comparison(one, other, "ndcg@10", 31, difference, low, high, None, says).as_json()


def verdict(**changes: Any) -> dict[str, Any]:
    """A promoted challenger against a champion and both baselines."""
    return {
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
    } | changes


def baseline_verdict(**changes: Any) -> dict[str, Any]:
    """A first night of which the model is not shown to be better than what each user had most."""
    why = "the first model is not shown to be better than what each user had most: ndcg@10 0.1760 against 0.1440"
    return (
        verdict(
            champion=None,
            serving="baseline-most_bought",
            promoted=False,
            reason=f"{why}; what each user had most serves",
            warning=f"No model serves: the table ranks items by what each user had most (a baseline), because {why}",
            metrics={name: found for name, found in verdict()["metrics"].items() if name != "champion"},
            comparisons=[
                entry for entry in verdict()["comparisons"] if "champion" not in (entry["one"], entry["other"])
            ],
        )
        | changes
    )


def ingest_facts(**changes: Any) -> dict[str, Any]:
    """A pull of one file with three refused rows."""
    return {
        "batch_id": "b1",
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
    } | changes


def lorentz(space: np.ndarray, k: float) -> np.ndarray:
    """[N, d] space parts to [N, d+1] points with <x,x>_L = -k."""
    time_part = np.sqrt(k + (space.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return np.concatenate([time_part, space], axis=1).astype(np.float32)


def write_facts(layout: Layout, step: str, seconds: float, peak: int, name: str | None = None, **facts: Any) -> None:
    """Record one step."""
    value = {"step": step, "day": DAY.isoformat(), **facts, "seconds": seconds, "peak_bytes": peak}
    write_json(layout.run(DAY, RUN).facts / f"{name or step}.json", value)


def write_night(
    layout: Layout,
    events: pd.DataFrame,
    catalogue: pd.DataFrame,
    k: int = 10,
    dim: int = 8,
    seed: int = 0,
    judged: dict[str, Any] | None = None,
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
    judged, trained = judged or verdict(), {"epochs": EPOCHS, "score_terms": {"cooccurrence": COOCCURRENCE}}
    write_json(run.verdict, judged)
    write_json(layout.model(VERSION) / "metrics.json", {"training": trained, "gate": judged})
    page = layout.expectations / "uncommitted" / "data_docs" / "local_site" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("<!doctype html>", encoding="utf-8")
    mb = 2**20
    write_facts(layout, "ingest", 9.1, 700 * mb, **ingest_facts())
    counts = {"users": len(users), "events": len(events), "items": len(items), "shards": 2}
    write_facts(layout, "snapshot", 1.2, 300 * mb, newest_event="2024-01-30T21:15:00", **counts)
    found = {"version": VERSION, "parent": CHAMPION, "reused": False, "skipped_reason": None}
    write_facts(layout, "train", 75.5, 1800 * mb, **found, **trained, parameters=123456, curvature=0.0156, device="cpu")
    write_facts(layout, "gate", 6.0, 900 * mb, **judged, refit=None)
    measured = {
        "float32_recall": 0.99998,
        "float32_recall_floor": 0.999,
        "float32_recall_at": 100,
        "float32_recall_users": 31,
    }
    write_facts(layout, "index", 1.5, 600 * mb, items=len(items), dim=dim + 2, kind="flat", **measured)
    for shard in range(2):
        write_facts(
            layout, "score", 4.0 + shard, 800 * mb, f"score-{shard:04d}", shard=shard, users=20, fallback_users=0
        )
    rows = len(users) * k
    published = {"users": len(users), "rows": rows, "k": k, "changed": True}
    write_facts(layout, "publish", 7.0, 650 * mb, model_version=VERSION, **published)


def fail(layout: Layout, step: str, message: str, status: int, shard: int | None = None) -> None:
    """Record that a step of the run failed, as the steps do. What it and later ones left on an earlier try stays."""
    run = layout.run(DAY, RUN)
    record = {"step": step, "shard": shard, "message": message, "exit_status": status, "seconds": 2.5}
    write_json(run.step_failure(step, shard), record)


def make_baseline_night(layout: Layout) -> None:
    """Turn the written night into one that a baseline serves, as the steps leave it."""
    run, judged = layout.run(DAY, RUN), baseline_verdict()
    write_json(run.verdict, judged)
    write_facts(layout, "gate", 6.0, 2**20, **judged)
    listed = pq.read_table(run.vectors / "items.parquet", columns=["item_index", "item_id"])
    pq.write_table(listed, run.vectors / "items.parquet")
    write_facts(layout, "index", 0.1, 2**20, items=len(listed), kind="none", device="cpu")


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
    end = datetime.combine(DAY + timedelta(days=1), time(), UTC)
    write_json(folder / "manifest.json", {"day": DAY.isoformat(), "end": end.isoformat(), "shards": 2})
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
        {
            "path": part.relative_to(layout.root).as_posix(),
            "rows": pq.read_metadata(part).num_rows,
            "bytes": part.stat().st_size,
            "sha256": sha256(part),
        }
        for part in parts
    ]
    counts = {"rows": len(frame), "users": frame["user_id"].nunique(), "fallback_users": 0}
    identity = {"run_id": RUN, "day": DAY.isoformat(), "model_version": VERSION, "k": int(frame["rank"].max())}
    write_json(layout.latest, {**identity, **counts, "exclude_seen": False, "files": files})


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
