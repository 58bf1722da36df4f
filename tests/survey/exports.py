"""Exports as they come from shops, films and logs, with the names and units of real ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

GENRES = ("Comedy|Drama", "Drama", "Crime|Thriller", "Comedy", "Horror|Thriller")


def _times(rows: int, start: str = "2024-03-01", days: int = 60) -> pd.Series:
    random = np.random.default_rng(rows)
    seconds = np.sort(random.integers(0, days * 86400 - 1, rows))
    return pd.Series(pd.Timestamp(start) + pd.to_timedelta(seconds, unit="s"))


def _epoch(times: pd.Series, unit: str) -> pd.Series:
    return times.dt.as_unit(unit).astype("int64")  # type: ignore[arg-type]


def movielens(folder: Path, rows: int = 3000) -> Path:
    """ratings.csv, movies.csv, links.csv and tags.csv, as MovieLens comes; some of it is older than 1990."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = np.random.default_rng(0).permutation(100 * 150)[:rows]
    random = np.random.default_rng(1)
    ratings = pd.DataFrame(
        {
            "userId": pairs // 150 + 1,
            "movieId": pairs % 150 + 1,
            "rating": random.integers(1, 11, rows) / 2,
            "timestamp": _epoch(_times(rows, "1989-06-01", 9000), "s"),
        }
    )
    ratings.sort_values(["userId", "movieId"]).to_csv(folder / "ratings.csv", index=False)
    numbers = np.arange(1, 161)
    movies = pd.DataFrame(
        {"movieId": numbers, "title": [f"Film {n} (1990)" for n in numbers], "genres": np.resize(GENRES, 160)}
    )
    movies.to_csv(folder / "movies.csv", index=False)
    pd.DataFrame({"movieId": numbers, "imdbId": numbers + 9000, "tmdbId": numbers + 70}).to_csv(
        folder / "links.csv", index=False
    )
    ratings.head(50).drop(columns="rating").assign(tag="dark").to_csv(folder / "tags.csv", index=False)
    (folder / "README.txt").write_text("about", encoding="utf-8")
    return folder


def sessions(folder: Path, rows: int = 4000) -> Path:
    """events.csv of anonymous visitors with event types, in milliseconds."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(2)
    events = pd.DataFrame(
        {
            "timestamp": _epoch(_times(rows), "ms"),
            "visitorid": random.integers(0, 300, rows),
            "event": random.choice(["view", "addtocart", "transaction"], rows, p=[0.8, 0.15, 0.05]),
            "itemid": random.integers(0, 120, rows),
            "transactionid": np.nan,
        }
    )
    events.to_csv(folder / "events.csv", index=False)
    return folder


def groceries(folder: Path, rows: int = 4000) -> Path:
    """One Parquet file a day in folders of their own, bought again and again; products with a path of categories."""
    random = np.random.default_rng(3)
    users = random.integers(0, 40, rows)
    baskets = pd.DataFrame(
        {
            "customer_key": [f"C{user:05d}" for user in users],
            "basket_id": random.integers(10**9, 2 * 10**9, rows),
            "sku": [
                f"{user % 5 * 30 + item:06d}" for user, item in zip(users, random.integers(0, 30, rows), strict=True)
            ],
            "qty": random.integers(1, 5, rows),
            "purchased_at": _times(rows).dt.as_unit("us"),
            "price": 1.5,
        }
    )
    for day, part in baskets.groupby(baskets["purchased_at"].dt.date):
        place = folder / "sales" / f"dt={day}"
        place.mkdir(parents=True)
        part.to_parquet(place / "part-00000.parquet", index=False)
    (folder / "sales" / "_SUCCESS").write_bytes(b"")
    numbers = np.arange(150)
    pd.DataFrame(
        {
            "sku": [f"{number:06d}" for number in numbers],
            "product_name": [f"Thing {number}" for number in numbers],
            "category": [f"c{number // 10}" for number in numbers],
            "department": [f"d{number // 50}" for number in numbers],
            "brand": "b",
        }
    ).to_parquet(folder / "sales" / "products.parquet", index=False)
    return folder / "sales"


def reviews(folder: Path, rows: int = 2000) -> Path:
    """Gzipped JSON lines as Amazon's reviews come, and their metadata with lists of categories."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = np.random.default_rng(4).permutation(80 * 60)[:rows]
    seconds = _epoch(_times(rows, "2013-01-01", 300), "s")
    records: list[dict[str, Any]] = [
        {
            "reviewerID": f"A{pair // 60}",
            "asin": f"B{pair % 60:05d}",
            "overall": float(pair % 5 + 1),
            "helpful": [0, 1],
            "reviewTime": "09 13, 2013",
            "unixReviewTime": int(second),
        }
        for pair, second in zip(pairs, seconds, strict=True)
    ]
    meta = [{"asin": f"B{n:05d}", "title": f"Thing {n}", "categories": ["Beauty", f"C{n % 4}"]} for n in range(60)]
    for name, lines in (("reviews", records), ("meta", meta)):
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as stream:
            stream.writelines(json.dumps(line) + "\n" for line in lines)
    return folder


def ordered(folder: Path) -> Path:
    """Parquet with positions and no times, and items with lists of categories."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(user, (user * 7 + place * 3) % 50, place) for user in range(60) for place in range(12)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "position"]).to_parquet(
        folder / "interactions.parquet", index=False
    )
    items = pd.DataFrame({"item_id": range(50), "title": None, "categories": [[str(n % 3), str(n)] for n in range(50)]})
    items.astype({"title": "string"}).to_parquet(folder / "items.parquet", index=False)
    return folder
