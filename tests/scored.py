"""Runs that are ready to be published: a real snapshot, and candidates made by a simple rule."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.candidates.part import plain
from hmamba.candidates.served import served_by
from hmamba.columns import CANDIDATES
from hmamba.contracts.contents import Contents, HashedFile
from hmamba.contracts.manifest import SnapshotManifest
from hmamba.contracts.models import IndexDescription
from hmamba.sequences.snapshot import write_snapshot
from hmamba.storage.layout import Layout
from hmamba.storage.run_layout import RunLayout, shard_name
from hmamba.warehouse.tables import create_tables
from tests.documents import index_metrics, shard_metrics, verdict
from tests.synthetic import make_catalogue

SHARDS = 2


def fill(connection: duckdb.DuckDBPyConnection, events: pd.DataFrame) -> None:
    """Enter events as ingest would; items in the order in which they were first seen."""
    create_tables(connection)
    first = events.groupby("item_id").event_time.min().reset_index().sort_values(["event_time", "item_id"])
    connection.register("some_events", events)
    connection.register("some_items", first.assign(item_index=range(1, len(first) + 1)))
    connection.register("some_titles", make_catalogue())
    connection.execute(
        "INSERT INTO interactions BY NAME "
        "SELECT user_id, item_id, event_time, weight, 1 AS batch_id, now() AS loaded_at FROM some_events"
    )
    connection.execute(
        "INSERT INTO items SELECT item_id, f.item_index, t.title, [t.department, t.category], f.event_time, [] "
        "FROM some_titles t FULL JOIN some_items f USING (item_id)"
    )


def candidates(folder: Path, k: int, exclude_seen: bool, least_events: int = 5) -> list[pd.DataFrame]:
    """For each shard of a snapshot: every user's k most bought items, those of the user's own history left out or not.

    Items with fewer events than ``least_events`` do not compete.
    """
    items = pd.read_parquet(folder / "items.parquet")
    items = items[items.events >= least_events].sort_values(["events", "item_index"], ascending=[False, True])
    parts = []
    for number in range(SHARDS):
        history = pd.read_parquet(folder / shard_name(number)).groupby("user_id").item_index.agg(set)
        rows = []
        for user, seen in history.items():
            eligible = items[~items.item_index.isin(seen)] if exclude_seen else items
            best = eligible.item_id.head(k)
            rows += [(user, rank, item, 1.0 / rank, "v1") for rank, item in enumerate(best, 1)]
        parts.append(pd.DataFrame(rows, columns=list(CANDIDATES)))
    return parts


def write_part(path: Path, frame: pd.DataFrame) -> None:
    """Write one part of candidates with the types that readers are promised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.Table.from_pandas(frame, plain(frame.columns), preserve_index=False).replace_schema_metadata(), path
    )


def write_run(
    layout: Layout,
    events: pd.DataFrame,
    day: date,
    run_id: str = "manual",
    k: int = 10,
    exclude_seen: bool = True,
    warning: str | None = None,
) -> None:
    """Everything that the steps before publish would have left behind; ``warning``: the gate's."""
    run = layout.run(day, run_id)
    with duckdb.connect() as connection:
        fill(connection, events)
        write_snapshot(connection, run.sequences, day, SHARDS)
    items = pd.read_parquet(run.sequences / "items.parquet")
    run.vectors.mkdir(parents=True, exist_ok=True)
    items[items.events >= 5][["item_index", "item_id"]].to_parquet(run.vectors / "items.parquet", index=False)
    verdict(day=day, warning=warning).write(run.verdict, run.storage)
    Contents(files=()).write(run.model_contents, run.storage)
    IndexDescription(model_version="v1", kind="flat", sha256={}).write(run.index_description, run.storage)
    index_metrics(points=HashedFile.of(run.item_points)).write(run.step_metrics("index"), run.storage)
    for number, part in enumerate(candidates(run.sequences, k, exclude_seen)):
        write_part(run.candidate_part(number), part)
        record_part(run, number, number + 1)


def record_part(run: RunLayout, shard: int, fallback_users: int = 0) -> None:
    """The record of a shard's candidates, as the score step writes it."""
    part = run.candidate_part(shard)
    scored = {
        "snapshot": SnapshotManifest.read(run.manifest, run.storage).digest,
        "served": served_by(run),
        "part": HashedFile.of(part),
        "rows": pq.read_metadata(part).num_rows,
    }
    shard_metrics(shard, fallback_users).model_copy(update=scored).write(run.step_metrics("score", shard), run.storage)
