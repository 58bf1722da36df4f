"""Small Parquet files for the measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bench.datasets import Data, load
from tests.synthetic import make_interactions


def written(path: Path, **columns: list[object]) -> str:
    """A file of these columns; returns its path."""
    pd.DataFrame(columns).to_parquet(path, index=False)
    return str(path)


def order_only(path: Path, users: int = 30, items: int = 25, seed: int = 0, *, repeats: bool = False) -> Path:
    """Users with one to twelve events, in a shuffled file whose positions tell the order."""
    random = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        taken = random.choice(items, random.integers(1, 13), replace=repeats)
        rows += [(f"u{user}", int(item) + 100, position) for position, item in enumerate(taken)]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "position"])
    frame.sample(frac=1, random_state=seed).to_parquet(path, index=False)
    return path


def cyclic(path: Path, users: int = 40, items: int = 12, seed: int = 0) -> Path:
    """After item i everybody takes i + 1: the next event can be known."""
    starts = np.random.default_rng(seed).integers(0, items, users)
    rows = [(user, 1 + (start + n) % items, n) for user, start in enumerate(starts) for n in range(9)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "position"]).to_parquet(path, index=False)
    return path


def order_data(folder: Path, **options: int) -> Data:
    """The file of :func:`order_only`, loaded."""
    return load(str(order_only(folder / "order.parquet", **options)))


def shop(folder: Path) -> Data:
    """Baskets of 40 users over 30 days, loaded."""
    path = folder / "shop.parquet"
    make_interactions().to_parquet(path, index=False)
    return load(str(path))
