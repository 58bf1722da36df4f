"""Statistics of the candidates and items, computed by DuckDB from Parquet. Only per-item results are in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from hmamba.config import WarehouseConfig
from hmamba.report.disk import MAX_POINTS, Disk, draw
from hmamba.statements import statement
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


def _rows(connection: duckdb.DuckDBPyConnection, file: Path) -> int:
    return int(connection.execute(statement("report/row_count"), {"file": str(file)}).fetchall()[0][0])


def _names(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def describe(parts: list[Path], items: Path, shards: list[Path], vectors: Path | None) -> CandidateStatistics:
    """Compute the statistics of the candidates.

    Args:
        parts: at least one Parquet file of candidates.
        items: the snapshot's items.parquet.
        shards: the snapshot's sequences; if empty, novelty is not computed.
        vectors: the item points; None counts every item of the snapshot as a candidate item.
    """
    candidates = {"candidates": _names(parts)}
    with in_memory(LIMITS) as connection:
        rows, users, most = connection.execute(statement("report/candidate_totals"), candidates).fetchall()[0]
        counted = connection.execute(
            statement("report/recommended_items"), {**candidates, "items": str(items)}
        ).fetchall()
        catalogue = _rows(connection, vectors or items)
        categories = connection.execute(
            statement("report/categories"), {**candidates, "items": str(items), "most": CATEGORIES}
        ).fetchall()
        new = None
        if shards and rows:
            bound = {**candidates, "items": str(items), "shards": _names(shards)}
            new = connection.execute(statement("report/new_to_user"), bound).fetchall()[0][0] / rows
    # An item that left the index after these candidates were made still counts as a candidate item.
    catalogue = max(catalogue, len(counted), 1)
    counts = np.array([row[2] for row in counted], dtype=np.int64)
    return CandidateStatistics(
        rows=rows,
        users=users,
        k=most,
        distinct_items=len(counted),
        catalogue=catalogue,
        new_to_user=new,
        gini=gini(counts, catalogue),
        top_percent=float(counts[: -(-catalogue // 100)].sum()) / max(1, rows),
        categories=tuple(Category(*row) for row in categories),
        top_items=tuple(
            TopItem(item_id, title, recommended / users) for item_id, title, recommended in counted[:TOP_ITEMS]
        ),
    )


def disk(vectors: Path, items: Path) -> Disk | None:
    """Lay out the most popular items on the Poincare disk; None if there are none."""
    with in_memory(LIMITS) as connection:
        bound = {"vectors": str(vectors), "items": str(items), "most": MAX_POINTS}
        found = connection.execute(statement("report/disk"), bound).fetchall()
        size = _rows(connection, vectors)
    if not found:
        return None
    points = np.array([row[0] for row in found], dtype=np.float64)
    return draw(points, [row[1] for row in found], [row[2] for row in found], [row[3] for row in found], size)
