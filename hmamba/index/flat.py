"""Exact search by FAISS, and FAISS itself with this project's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from hmamba.index.base import Excluded, RealArray, Searcher, are_excluded
from hmamba.sequences.histories import IntArray

_PRODUCT_FROM = 256
"""Numbers in the queries of one call from which FAISS multiplies matrices: about four queries."""


def faiss_module() -> Any:
    """Return FAISS, set to compare by matrix products.

    By default, 1.15 does so for calls with 128,000 numbers or more, which is 1,940 queries of 66. Under that it
    compares item by item, which took three times as long in blocks of 512 (``python -m bench.speed --only search``).
    The setting is one of the process; it changes times and the last digits of products.
    """
    import faiss  # takes a while, and machines without it can search by matrix products

    faiss.cvar.distance_compute_blas_threshold = _PRODUCT_FROM
    return faiss


class FlatSearcher(Searcher):
    """FAISS's ``IndexFlatIP``, which compares every query with every item."""

    name = "flat"
    _FILE = "items.faiss"

    def __init__(self, index: Any, vectors: RealArray) -> None:
        self.faiss, self.vectors = index, vectors

    @classmethod
    def build(cls, vectors: RealArray, device: torch.device | None = None) -> Self:
        """Index float32 vectors (V, X); FAISS searches on the CPU."""
        index = faiss_module().IndexFlatIP(vectors.shape[1])
        index.add(np.asarray(vectors, dtype=np.float32))
        return cls(index, vectors)

    def search(self, queries: RealArray, k: int, excluded: Excluded | None = None) -> tuple[RealArray, IntArray]:
        """Search for as many more items as any query excludes, and drop the excluded ones."""
        if excluded is None:
            found: tuple[RealArray, IntArray] = self.faiss.search(np.ascontiguousarray(queries), k)
            return found
        cuts = np.searchsorted(excluded[0], np.arange(len(queries) + 1))
        depth = min(k + int(np.diff(cuts).max(initial=0)), len(self.vectors))
        products_RD, columns_RD = self.faiss.search(np.ascontiguousarray(queries), depth)
        is_out_RD = are_excluded(columns_RD, excluded[1], (cuts[:-1], cuts[1:]), len(self.vectors))
        products_RD[is_out_RD] = -np.inf
        first_Rk = np.argsort(is_out_RD, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(products_RD, first_Rk, axis=1), np.take_along_axis(columns_RD, first_Rk, axis=1)

    def save(self, folder: Path) -> None:
        """Write FAISS's index, which holds the vectors."""
        faiss_module().write_index(self.faiss, str(folder / self._FILE))

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> Self:
        """Read the index and the vectors in it."""
        index = faiss_module().read_index(str(folder / cls._FILE))
        return cls(index, index.reconstruct_n(0, index.ntotal))
