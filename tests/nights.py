"""Whole nights of a small shop, run step by step in the test's process."""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import duckdb
import pandas as pd

from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from jobs import gate, index, ingest, publish, report, score, snapshot, train
from tests.landing import TINY_ONCE
from tests.synthetic import make_catalogue, make_interactions, write_landing

USERS = 120
FIRST, QUIET, THIRD = date(2024, 1, 28), date(2024, 1, 29), date(2024, 1, 30)
SETTINGS = (
    TINY_ONCE.replace("[model]", "[model]\ncategory_levels = [1, 2]").replace("epochs = 4", "epochs = 1")
    + """
[gate]
min_users = 10
tolerance = 0.9
[catalogue]
path = "landing/products/*.parquet"
category_path = ["department", "category"]
attributes = ["brand"]
[publish]
changes = true
tables = ["similar_items", "popular", "segments", "user_vectors", "item_vectors"]
[publish.segments]
k = 30
items = 10
"""
)


def run_night(layout: Layout, day: date, run_id: str, *, full_retrain: bool = False) -> dict[str, Any]:
    """Run all steps; the metrics of each."""
    arguments = ["--root", str(layout.root), "--day", day.isoformat(), "--run-id", run_id]
    extra = {"train": ["--full-retrain"] if full_retrain else []}
    for step in (ingest, snapshot, train, gate, index):
        name = step.__name__.removeprefix("jobs.")
        assert step.main([*arguments, *extra.get(name, [])]) == 0, name
    for shard in range(2):
        assert score.main([*arguments, "--shard", str(shard)]) == 0
    assert publish.main(arguments) == 0
    assert report.main(arguments) == 0
    folder = layout.run(day, run_id).metrics
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def state(layout: Layout) -> dict[str, Any]:
    """What must not change when a night is run again."""
    with duckdb.connect(str(layout.warehouse), read_only=True) as connection:
        tables = {
            table: sorted(connection.table(table).fetchall(), key=repr)
            for table in ("interactions", "items", "batches", "quarantine")
        }
    return {**tables, "latest": read_json(layout.latest), "champion": read_json(layout.champion)}


def open_shop(layout: Layout) -> None:
    """Make a root with settings, a catalogue and the events up to the first night."""
    layout.root.mkdir(parents=True, exist_ok=True)
    layout.config.write_text(SETTINGS)
    events = make_interactions(users=USERS, items=80, days=28)
    write_landing(layout.root, events)
    products = layout.landing / "products"
    products.mkdir()
    brands = [[f"brand {number // 4 % 5}"] for number in range(79)]  # one item has no category and no brand
    make_catalogue(79).assign(brand=brands).to_parquet(products / "products.parquet", index=False)


def newcomers() -> pd.DataFrame:
    """Two ordinary days, a user with one event, and an item that nobody has had before."""
    events = make_interactions(users=USERS, items=80, days=30)
    late = events[events["event_time"] >= datetime(2024, 1, 29)]
    odd = pd.DataFrame(
        {
            "user_id": ["newcomer", late["user_id"].iloc[0]],
            "item_id": [late["item_id"].iloc[0], "brand new"],
            "event_time": [datetime(2024, 1, 30, 12), datetime(2024, 1, 30, 13)],
            "weight": [1.0, 1.0],
        }
    )
    return pd.concat([late, odd], ignore_index=True)
