"""The files that the steps of one run leave behind, made up but in the real formats."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.clock import end_of
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.manifest import PublishedFile, SnapshotFile, SnapshotManifest
from hmamba.contracts.models import ModelMetrics
from hmamba.contracts.published import PublishMetrics
from hmamba.contracts.step import StepFailure
from hmamba.contracts.steps import SnapshotMetrics
from hmamba.contracts.verdict import Verdict
from hmamba.storage.layout import Layout
from hmamba.storage.local import sha256
from tests import documents
from tests.documents import manifest, shard_metrics
from tests.report.metrics_of_night import (
    DAY,
    MB,
    RUN,
    TRAINED,
    VERSION,
    baseline_verdict,
    gate_metrics,
    index_metrics,
    ingest_metrics,
    lorentz,
    record,
    train_metrics,
    verdict,
)
from tests.synthetic import make_catalogue

HOSTILE = "<script>alert('x')</script> \"& 🧀 \u202eevil"


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
    layout.checks.folder.mkdir()
    layout.checks.index.write_text("<!doctype html>", encoding="utf-8")
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
    record(layout, documents.index_metrics(items=len(listed), kind="none", model_version=serving))


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
        files=tuple(
            SnapshotFile(rows=pq.read_metadata(path).num_rows, **HashedFile.of(path).model_dump())
            for path in sorted(folder.glob("*.parquet"))
        ),
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
