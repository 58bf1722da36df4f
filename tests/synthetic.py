"""Small made-up shops. People have tastes and buy some things again; baskets share a timestamp."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

CLUSTERS = 4
DEPARTMENTS = ("bakery", "dairy", "garden", "toys")


def make_interactions(
    users: int = 40, items: int = 60, days: int = 30, seed: int = 0, start: date = date(2024, 1, 1)
) -> pd.DataFrame:
    """Baskets of ``users`` people over ``days`` days, sorted by time.

    Each user has a favourite cluster of items (item number modulo ``CLUSTERS``) and three staples inside it that come
    back often. Somebody buys something on every day.

    Returns:
        Columns user_id (str), item_id (str), event_time (datetime64[us], naive UTC) and weight (float32), without two
        rows for the same user, item and time.
    """
    random = np.random.default_rng(seed)
    midnight = np.datetime64(start.isoformat(), "us")
    clusters = [np.arange(cluster, items, CLUSTERS) for cluster in range(min(CLUSTERS, items))]
    popularity = [1.0 / (1.0 + np.arange(len(members))) for members in clusters]
    rows: list[tuple[str, str, np.datetime64, float]] = []
    for user in range(users):
        taste = user % len(clusters)
        staples = random.choice(clusters[taste], size=min(3, len(clusters[taste])), replace=False)
        visits = np.flatnonzero(random.random(days) < 0.35)
        if user < days:
            visits = np.union1d(visits, np.arange(user, days, users))
        for day in visits:
            when = midnight + np.timedelta64(int(day), "D") + np.timedelta64(int(random.integers(8 * 3600, 79200)), "s")
            basket: set[int] = set()
            for _ in range(int(random.integers(1, 5))):
                if random.random() < 0.5:
                    basket.add(int(random.choice(staples)))
                    continue
                cluster = taste if random.random() < 0.8 else int(random.integers(len(clusters)))
                chances = popularity[cluster] / popularity[cluster].sum()
                basket.add(int(random.choice(clusters[cluster], p=chances)))
            rows += [(f"user-{user:03d}", f"item-{item:03d}", when, float(random.integers(1, 4))) for item in basket]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "event_time", "weight"])
    frame["event_time"] = frame["event_time"].astype("datetime64[us]")
    frame["weight"] = frame["weight"].astype("float32")
    return frame.sort_values(["event_time", "user_id", "item_id"], ignore_index=True)


def make_catalogue(items: int = 60) -> pd.DataFrame:
    """Titles, departments (one a cluster of :func:`make_interactions`) and categories of ``items`` items."""
    numbers = np.arange(items)
    departments = [DEPARTMENTS[number % CLUSTERS] for number in numbers]
    return pd.DataFrame(
        {
            "item_id": [f"item-{number:03d}" for number in numbers],
            "title": [f"Thing {number}" for number in numbers],
            "department": departments,
            "category": [f"{name} {number // CLUSTERS % 3}" for name, number in zip(departments, numbers, strict=True)],
        }
    )


def write_landing(root: Path, frame: pd.DataFrame, name: str = "events.parquet") -> Path:
    """Drop ``frame`` into the root's landing folder, in the format that ``name`` ends with; returns its path."""
    path = root / "landing" / "interactions" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    compression = "gzip" if name.endswith(".gz") else None
    kind = name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        frame.to_parquet(path, index=False)
    elif kind == "csv":
        frame.to_csv(path, index=False, compression=compression)
    elif kind in ("json", "jsonl", "ndjson"):
        frame.to_json(path, orient="records", lines=True, date_format="iso", date_unit="us", compression=compression)
    else:
        raise ValueError(f"{name}: write .parquet, .csv, .json, .jsonl or .ndjson, the text ones also as .gz")
    return path
