"""Similar items, from three sources that make different errors.

===============  ==================================================================================================
bought_together  the co-occurrence table T(a, b) of :mod:`hmamba.terms.cooccurrence`: b was taken shortly after a, or
                 before it, which counts a quarter
same_taste       minus the geodesic distance of the two items' points, in the model's curvature
alike            cosine of the items' attribute vectors of :mod:`hmamba.terms.attributes`
===============  ==================================================================================================

Each source has ranks of its own, because their scores cannot be compared. Of two equal scores, the item with more
events is first. A block of items is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from hmamba.columns import (
    ALIKE,
    BOUGHT_TOGETHER,
    ITEM_ID,
    RANK,
    SAME_TASTE,
    SCORE,
    SIMILAR_ITEM_ID,
    SOURCE,
)
from hmamba.index.index import ItemIndex
from hmamba.model import lorentz
from hmamba.model.hmamba import HMamba
from hmamba.progress import track
from hmamba.sequences.histories import IntArray

if TYPE_CHECKING:
    import scipy.sparse as sp

_ROWS = 256
"""Items whose similar items are computed at once."""
_MORE = 16
"""Items that are retrieved beside the ``k`` nearest, because float32 may order near items differently."""

RealArray = npt.NDArray[np.float64]
Found = tuple[IntArray, IntArray, RealArray]
"""Rows (E,), ascending, item indices (E,) and scores (E,) of similar items, best first in each row."""


@dataclass(frozen=True)
class Choice:
    """The V items that may be called similar.

    Attributes:
        items: (V,) item indices, those with the most events first; of equally many, the lowest index.
        column: (size,) the place of each item index among them, -1 for other items.
    """

    items: IntArray
    column: IntArray

    @classmethod
    def of(cls, eligible: IntArray, events: IntArray) -> Choice:
        """Order items by the number of events (size,) of each item index."""
        items = eligible[np.argsort(-events[eligible], kind="stable")]
        column = np.full(len(events), -1, dtype=np.int64)
        column[items] = np.arange(len(items))
        return cls(items, column)


class Similarity(Protocol):
    """One source of similar items."""

    name: ClassVar[str]

    def best(self, items: IntArray, k: int) -> Found:
        """The ``k`` most similar items of each item (R,), without the item itself."""


@dataclass(frozen=True)
class Together:
    """Items that were taken together, by a co-occurrence table (size or fewer rows and columns)."""

    table: sp.csr_array
    choice: Choice
    name: ClassVar[str] = BOUGHT_TOGETHER

    def best(self, items: IntArray, k: int) -> Found:
        """As :meth:`Similarity.best`."""
        rows = np.flatnonzero(items < self.table.shape[0])
        found = self.table[items[rows]]
        return _best(found.indptr, self.choice.column[found.indices], found.data, self.choice, items[rows], k, rows)


@dataclass(frozen=True)
class Alike:
    """Items with similar attributes.

    Attributes:
        vectors: (size or fewer, A) attribute vectors of length 1; of an item without attributes, 0.
        chosen: (A, V) those of the items that may be called similar.
    """

    vectors: sp.csr_array
    chosen: sp.csr_array
    choice: Choice
    name: ClassVar[str] = ALIKE

    @classmethod
    def of(cls, vectors: sp.csr_array, choice: Choice) -> Alike:
        """Compare attribute vectors."""
        known = Choice(choice.items[choice.items < vectors.shape[0]], choice.column)
        return cls(vectors, vectors[known.items].T.tocsr(), _renumbered(known))

    def best(self, items: IntArray, k: int) -> Found:
        """As :meth:`Similarity.best`."""
        rows = np.flatnonzero(items < self.vectors.shape[0])
        found = (self.vectors[items[rows]] @ self.chosen).tocsr()
        # Rounding may lift the cosine of equal vectors above 1.
        scores = np.minimum(found.data, 1.0)
        return _best(found.indptr, found.indices, scores, self.choice, items[rows], k, rows)


def _renumbered(choice: Choice) -> Choice:
    column = np.full(len(choice.column), -1, dtype=np.int64)
    column[choice.items] = np.arange(len(choice.items))
    return Choice(choice.items, column)


class Near:
    """Items whose points are near.

    They are found by the index of the candidates: a query of an item's point with 0 for the bias ranks by distance.
    Their distances, and the order, are computed in float64.

    Args:
        model: the model.
        known: item indices that have trained vectors, or those of their categories.
        index: the items that may be called similar.
        choice: the same items, in the order of equal distances.
    """

    name: ClassVar[str] = SAME_TASTE

    def __init__(self, model: HMamba, known: IntArray, index: ItemIndex, choice: Choice) -> None:
        self._model, self._choice = model.in_float64().cpu(), choice
        self._is_flat = model.config.variant == "euclidean"
        self._K = float(1 / self._model.curvature.detach())
        self._is_known = np.zeros(len(choice.column), dtype=bool)
        self._is_known[known] = True
        self._parts = [part for part in (index, index.new) if part is not None and len(part.candidate_items)]

    @torch.inference_mode()
    def _points(self, items: IntArray) -> RealArray:
        """Points (..., d + 1) of items (...)."""
        points = self._model.item_points(torch.from_numpy(items.ravel())).numpy()
        return points.reshape(*items.shape, -1)

    def best(self, items: IntArray, k: int) -> Found:
        """As :meth:`Similarity.best`."""
        rows = np.flatnonzero(self._is_known[items])
        nothing = np.zeros(0, dtype=np.int64)
        if not len(rows):
            return nothing, nothing, np.zeros(0)
        points = self._points(items[rows])
        near = [self._nearest(part, items[rows], points, k) for part in self._parts]
        row, other = (
            (np.concatenate([nothing, *found]) for found in zip(*near, strict=True)) if near else (nothing,) * 2
        )
        distance = self._distances(points[row], self._points(other))
        order = np.lexsort((self._choice.column[other], distance, row))
        row, other, distance = row[order], other[order], distance[order]
        first = np.arange(len(row)) - np.searchsorted(row, row) < k
        return rows[row[first]], other[first], -distance[first]

    def _nearest(self, part: ItemIndex, items: IntArray, points: RealArray, k: int) -> tuple[IntArray, IntArray]:
        """Rows and item indices of the nearest items of one index, and of some more than ``k``."""
        # The largest product is that of the nearest point: <x,y>_L, or in flat space 2 x.y - |y|^2.
        queries = np.zeros((len(points), points.shape[1] + 1), dtype=part.vectors.dtype)
        queries[:, 1:-1] = points[:, 1:] * (2 if self._is_flat else 1)
        queries[:, 0] = -1.0 if self._is_flat else -points[:, 0]
        own = part.candidate_items.column[items]
        itself = np.flatnonzero(own >= 0)
        products, columns = part.search(queries, k + _MORE, (itself, own[itself]))
        row, place = np.nonzero(np.isfinite(products))
        return row, part.candidate_items.eligible[columns[row, place]]

    def _distances(self, x: RealArray, y: RealArray) -> RealArray:
        """Distances (E,) of points (E, d + 1)."""
        one, other = torch.from_numpy(x), torch.from_numpy(y)
        if self._is_flat:
            flat: RealArray = (one - other)[:, 1:].norm(dim=1).numpy()
            return flat
        gap = -2 * self._K - 2 * lorentz.inner(one, other)
        found: RealArray = lorentz.distance_from_gap(gap, K=self._K).numpy()
        return found


def _best(
    offsets: IntArray,
    columns: IntArray,
    scores: npt.NDArray[np.floating],
    choice: Choice,
    items: IntArray,
    k: int,
    rows: IntArray,
) -> Found:
    """The ``k`` largest positive scores of each row of a sparse matrix, without columns of -1 and the item itself."""
    own, kept_rows, kept_columns, kept_scores = choice.column[items], [], [], []
    for row in range(len(items)):  # per row: one sort of all rows takes several times as long
        part = slice(offsets[row], offsets[row + 1])
        is_open = (columns[part] >= 0) & (columns[part] != own[row]) & (scores[part] > 0)
        at, of = columns[part][is_open], scores[part][is_open]
        if len(of) > k:
            enough = of >= np.partition(of, -k)[-k]
            at, of = at[enough], of[enough]
        order = np.lexsort((at, -of))[:k]
        kept_rows.append(np.full(len(order), rows[row], dtype=np.int64))
        kept_columns.append(at[order])
        kept_scores.append(of[order])
    nothing = np.zeros(0, dtype=np.int64)
    found = np.concatenate([nothing, *kept_columns]).astype(np.int64)
    return (
        np.concatenate([nothing, *kept_rows]),
        choice.items[found],
        np.concatenate([np.zeros(0), *kept_scores]).astype(np.float64),
    )


def similar_items(sources: Sequence[Similarity], items: IntArray, ids: pa.Array, k: int) -> Iterator[pa.Table]:
    """Rows of the table similar_items, in its order: by item, source and rank.

    Args:
        sources: the sources, in the order of their names.
        items: item indices of the items that get similar ones.
        ids: (size,) item ids by index.
        k: similar items of each item and source.
    """
    names = ids.take(pa.array(items))
    items = items[pc.sort_indices(names).to_numpy()]
    blocks = range(0, len(items), _ROWS)
    for start in track(blocks, "index: similar items", len(blocks), "blocks of items"):
        block = items[start : start + _ROWS]
        found = [source.best(block, k) for source in sources]
        number = np.repeat(np.arange(len(sources)), [len(rows) for rows, _, _ in found])
        rows, others, scores = (np.concatenate(part) for part in zip(*found, strict=True))
        order = np.lexsort((number, rows))  # stable: the best stay first
        rows, number = rows[order], number[order]
        key = rows * len(sources) + number
        yield pa.table(
            {
                ITEM_ID: ids.take(pa.array(block[rows])),
                SOURCE: pa.array([source.name for source in sources]).take(pa.array(number)),
                RANK: pa.array(np.arange(1, len(key) + 1) - np.searchsorted(key, key), pa.int32()),
                SIMILAR_ITEM_ID: ids.take(pa.array(others[order])),
                SCORE: pa.array(scores[order].astype(np.float32)),
            }
        )
