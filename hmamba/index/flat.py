"""Exact search with FAISS, and the FAISS module with this project's settings."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from hmamba.index.base import Excluded, RealArray, Searcher, are_excluded
from hmamba.sequences.histories import IntArray

_PRODUCT_FROM = 256
"""Smallest size of a call (queries times coordinates) for which FAISS multiplies matrices: about four queries."""


def has_faiss() -> bool:
    """Whether FAISS is installed."""
    return find_spec("faiss") is not None


def faiss_module() -> Any:
    """Return FAISS, configured to compare by matrix products.

    By default FAISS 1.15 does so for calls of 128,000 numbers or more, which is 1,940 queries of 66 coordinates.
    Smaller calls compare item by item, which took three times as long in blocks of 512 queries
    (``python -m bench.speed --only search``). The setting is global to the process; it affects times and the last
    digits of products.
    """
    import faiss  # slow to import, and absent on machines that search by matrix products only

    faiss.cvar.distance_compute_blas_threshold = _PRODUCT_FROM
    return faiss


class FlatSearcher(Searcher):
    """Exact search with FAISS's ``IndexFlatIP``."""

    name = "flat"
    _FILE = "items.faiss"

    def __init__(self, index: Any, vectors: RealArray) -> None:
        self.faiss, self.vectors = index, vectors

    @classmethod
    def is_available(cls) -> bool:
        """Whether FAISS is installed."""
        return has_faiss()

    @classmethod
    def build(cls, vectors: RealArray, device: torch.device | None = None) -> Self:
        """Index float32 vectors (V, X); FAISS searches on the CPU."""
        index = faiss_module().IndexFlatIP(vectors.shape[1])
        index.add(np.asarray(vectors, dtype=np.float32))
        return cls(index, vectors)

    def search(self, queries: RealArray, k: int, excluded: Excluded | None = None) -> tuple[RealArray, IntArray]:
        """Over-fetch by the largest number of excluded items of any query, then drop the excluded items."""
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
        """Write the FAISS index, which includes the vectors."""
        faiss_module().write_index(self.faiss, str(folder / self._FILE))

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> Self:
        """Read the FAISS index and its vectors."""
        index = faiss_module().read_index(str(folder / cls._FILE))
        return cls(index, index.reconstruct_n(0, index.ntotal))
