"""Statistics of the candidates and items, computed by DuckDB from Parquet. Only per-item results are in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hmamba.config import WarehouseConfig
from hmamba.report.disk import MAX_POINTS, Disk, draw
from hmamba.statements import one, rows, statement
from hmamba.warehouse.connection import in_memory

LIMITS = WarehouseConfig(memory_limit="700MB")
CATEGORIES = 12
TOP_ITEMS = 10


@dataclass(frozen=True)
class Category:
    """A category's share of all recommendations and of all events, both in [0, 1]."""

    name: str
    of_recommendations: float
    of_events: float


@dataclass(frozen=True)
class TopItem:
    """An item and the share of users (in [0, 1]) to whom it is recommended."""

    item_id: str
    title: str
    of_users: float


@dataclass(frozen=True)
class CandidateStatistics:
    """Coverage and novelty of a night's candidates.

    ``new_to_user`` is None where the snapshot is gone. ``gini`` is 0 when all candidate items are recommended
    equally often and near 1 when a few take everything; ``top_percent`` is the share of all recommendations that goes
    to the most recommended 1 % of the candidate items.
    """

    rows: int
    users: int
    k: int
    distinct_items: int
    catalogue: int
    new_to_user: float | None
    gini: float
    top_percent: float
    categories: tuple[Category, ...]
    top_items: tuple[TopItem, ...]

    @property
    def coverage(self) -> float:
        """Share of the candidate items that is recommended to at least one user."""
        return self.distinct_items / self.catalogue

    @property
    def widest(self) -> float:
        """The largest share of a category."""
        return max((max(row.of_recommendations, row.of_events) for row in self.categories), default=1.0)


def gini(counts: NDArray[np.int64], catalogue: int) -> float:
    """Gini coefficient of how often items are recommended, items never recommended included.

    Args:
        counts: number of recommendations of each recommended item, in any order.
        catalogue: number of candidate items.
    """
    ordered = np.sort(counts)
    total = int(ordered.sum())
    if total == 0:
        return 0.0
    ranks = np.arange(catalogue - len(ordered) + 1, catalogue + 1)
    return float(2 * (ranks * ordered).sum() / (catalogue * total) - (catalogue + 1) / catalogue)


def describe(parts: list[Path], items: Path, shards: list[Path], vectors: Path | None) -> CandidateStatistics:
    """Compute the statistics of the candidates.

    Args:
        parts: at least one Parquet file of candidates.
        items: the snapshot's items.parquet.
        shards: the snapshot's sequences; if empty, novelty is not computed.
        vectors: the item points; None counts every item of the snapshot as a candidate item.
    """
    candidates = {"candidates": list(map(str, parts))}
    bound = {**candidates, "items": str(items)}
    with in_memory(LIMITS) as connection:
        totals = one(connection, "report/candidate_totals", candidates)
        counted = rows(connection, "report/recommended_items", bound)
        indexed = one(connection, "report/row_count", {"file": str(vectors or items)})["rows"]
        categories = rows(connection, "report/categories", {**bound, "most": CATEGORIES})
        new = None
        if shards and totals["rows"]:
            found = one(connection, "report/new_to_user", {**bound, "shards": list(map(str, shards))})
            new = found["rows"] / totals["rows"]
    # An item that left the index after these candidates were made still counts as a candidate item.
    catalogue = max(indexed, len(counted), 1)
    counts = np.array([row["recommended"] for row in counted], dtype=np.int64)
    return CandidateStatistics(
        **totals,
        distinct_items=len(counted),
        catalogue=catalogue,
        new_to_user=new,
        gini=gini(counts, catalogue),
        top_percent=float(counts[: -(-catalogue // 100)].sum()) / max(1, totals["rows"]),
        categories=tuple(Category(**row) for row in categories),
        top_items=tuple(
            TopItem(row["item_id"], row["title"], row["recommended"] / totals["users"]) for row in counted[:TOP_ITEMS]
        ),
    )


def disk(vectors: Path, items: Path) -> Disk | None:
    """Lay out the most popular items on the Poincare disk; None if there are none."""
    with in_memory(LIMITS) as connection:
        bound = {"vectors": str(vectors), "items": str(items), "most": MAX_POINTS}
        found = connection.execute(statement("report/disk"), bound).fetchall()
        size = one(connection, "report/row_count", {"file": str(vectors)})["rows"]
    if not found:
        return None
    points, titles, departments, events = map(list, zip(*found, strict=True))
    return draw(np.array(points, dtype=np.float64), titles, departments, events, size)
