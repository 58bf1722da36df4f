"""Exact search by matrix products, which sorts only the items that can be among the k best.

A product of queries and items is cheap; finding the k largest of a long row is not. A row's scores are therefore split
into groups of a few items. The k groups with the largest maxima contain the k largest scores, since an item outside
them is no larger than k maxima. The other groups are not sorted.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from hmamba.index.base import Excluded, RealArray, Searcher
from hmamba.sequences.histories import IntArray

_GROUP = 16
_ENTRIES = 2**24
"""Largest number of products in memory: 64 MB in float32."""
_ROWS = 256  # largest number of queries per block; larger blocks are not faster and do not fit the cache


def block_rows(items: int) -> int:
    """Number of queries that are multiplied with ``items`` items at once."""
    return max(1, min(_ROWS, _ENTRIES // items))


def largest(scores_RV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest scores of each row, largest first, and their columns, like :func:`torch.topk`."""
    items = scores_RV.shape[1]
    groups = items // _GROUP
    if groups < 2 * k:
        best = scores_RV.topk(k, dim=1)
        return best.values, best.indices
    # A group holds every ``groups``-th item, so that the maxima are taken along contiguous memory.
    grouped_RSG = scores_RV[:, : groups * _GROUP].unflatten(1, (_GROUP, groups))
    kept_Rk = grouped_RSG.amax(1).topk(k, dim=1, sorted=False).indices
    inside_RSk = grouped_RSG.gather(2, kept_Rk[:, None].expand(-1, _GROUP, -1))
    candidates_RC = torch.cat([inside_RSk.flatten(1), scores_RV[:, groups * _GROUP :]], dim=1)
    best = candidates_RC.topk(k, dim=1)
    place_Rk = best.indices
    grouped_Rk = kept_Rk.gather(1, place_Rk % k) + place_Rk // k * groups
    beyond_Rk = place_Rk - _GROUP * k + groups * _GROUP
    return best.values, torch.where(place_Rk < _GROUP * k, grouped_Rk, beyond_Rk)


def _exclude(scores_RV: Tensor, start: int, excluded: Excluded) -> None:
    """Set the scores of excluded items to -inf; row 0 of the scores is query ``start``."""
    rows, columns = excluded
    cuts = np.searchsorted(rows, np.arange(start, start + len(scores_RV) + 1))
    if scores_RV.device.type != "cpu":
        block = slice(cuts[0], cuts[-1])
        at_E, of_E = (torch.from_numpy(part[block]).to(scores_RV.device) for part in excluded)
        scores_RV[at_E - start, of_E] = -torch.inf
        return
    # One row at a time takes a fifth of the time: the row stays in the cache, and no index array is allocated.
    for scores_V, (first, last) in zip(scores_RV.numpy(), pairwise(cuts), strict=True):
        scores_V[columns[first:last]] = -np.inf


class MatmulSearcher(Searcher):
    """PyTorch's matrix product of queries and items, in float32 on any device.

    Args:
        vectors: (V, X) item vectors.
        device: device for the products; None for the CPU.
    """

    name = "matmul"
    _FILE = "items.npy"

    def __init__(self, vectors: RealArray, device: torch.device | None = None) -> None:
        self.vectors = vectors
        self._items_XV = torch.from_numpy(vectors).to(device or "cpu").T.contiguous()

    @classmethod
    def build(cls, vectors: RealArray, device: torch.device | None = None) -> Self:
        """Move the vectors to the device and lay them out for the product."""
        return cls(vectors, device)

    @torch.inference_mode()
    def search(self, queries: RealArray, k: int, excluded: Excluded | None = None) -> tuple[RealArray, IntArray]:
        """Multiply one block of queries at a time, and sort only the groups that can contain the ``k`` largest."""
        items_XV = self._items_XV
        rows = block_rows(items_XV.shape[1])
        products_Rk = np.empty((len(queries), k), dtype=queries.dtype)
        columns_Rk = np.empty((len(queries), k), dtype=np.int64)
        scores_RV = items_XV.new_empty(
            min(rows, len(queries)), items_XV.shape[1]
        )  # reused: allocating costs a third more
        for start in range(0, len(queries), rows):
            block = slice(start, start + rows)
            queries_RX = torch.from_numpy(queries[block]).to(items_XV.device)
            held_RV = scores_RV[: len(queries_RX)]
            torch.mm(queries_RX, items_XV, out=held_RV)
            if excluded is not None:
                _exclude(held_RV, start, excluded)
            best_Rk, at_Rk = largest(held_RV, k)
            products_Rk[block], columns_Rk[block] = best_Rk.cpu().numpy(), at_Rk.cpu().numpy()
        return products_Rk, columns_Rk

    def save(self, folder: Path) -> None:
        """Write the vectors."""
        np.save(folder / self._FILE, self.vectors, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> Self:
        """Read the vectors."""
        return cls(np.load(folder / cls._FILE, allow_pickle=False), device)


class Float64Searcher(MatmulSearcher):
    """The same product in float64, always on the CPU: most GPUs are slow in float64, and some do not support it."""

    name = "float64"
    dtype = np.float64

    def __init__(self, vectors: RealArray, device: torch.device | None = None) -> None:
        super().__init__(vectors)
