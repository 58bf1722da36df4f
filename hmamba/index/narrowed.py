"""Exact search over some of an index's items, for lists from which many items are left out for everybody."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch

from hmamba.index.base import BoolArray, Excluded, RealArray
from hmamba.index.index import ItemIndex
from hmamba.index.matmul import Float64Searcher, MatmulSearcher
from hmamba.sequences.histories import IntArray


class NarrowedSearcher(MatmulSearcher):
    """Search over the kept columns of an index; results have the columns of the whole index.

    Args:
        vectors: (V, X) vectors of all items.
        columns: (N,) ascending columns of the items that can be found.
        device: device for products in float32; None for the CPU.
    """

    name: ClassVar[str] = "narrowed"

    def __init__(self, vectors: RealArray, columns: IntArray, device: torch.device | None = None) -> None:
        self.vectors, self._columns = vectors, columns
        self._place = np.full(len(vectors), -1, dtype=np.int64)
        self._place[columns] = np.arange(len(columns))
        kind = Float64Searcher if vectors.dtype == np.float64 else MatmulSearcher
        kept = vectors[columns]
        self._exact = kind(kept, device) if len(columns) else None

    def search(self, queries: RealArray, k: int, excluded: Excluded | None = None) -> tuple[RealArray, IntArray]:
        """Search exactly; where fewer than ``k`` items are kept, the last products are -inf."""
        products = np.full((len(queries), k), -np.inf, dtype=queries.dtype)
        columns = np.zeros((len(queries), k), dtype=np.int64)
        if self._exact is not None:
            if excluded is not None:
                place = self._place[excluded[1]]
                excluded = excluded[0][place >= 0], place[place >= 0]
            found, at = self._exact.search(queries, min(k, len(self._columns)), excluded)
            products[:, : found.shape[1]], columns[:, : found.shape[1]] = found, self._columns[at]
        return products, columns


def narrowed(index: ItemIndex, removed: BoolArray, device: torch.device | None = None) -> ItemIndex:
    """The same index, whose search does not find some items; new items likewise.

    Score terms still choose their entries among all items, so that scores are those of the whole index.

    Args:
        index: the index.
        removed: (size,) which item indices are not found.
        device: device for products in float32; None for the CPU.
    """
    kept = np.flatnonzero(~removed[index.candidate_items.eligible])
    new = None if index.new is None else narrowed(index.new, removed, device)
    if len(kept) == len(index.candidate_items):
        return replace(index, new=new)
    return replace(index, searcher=NarrowedSearcher(index.vectors, kept, device), new=new)
