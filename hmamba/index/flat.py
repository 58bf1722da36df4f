"""FAISS's exact index, and FAISS itself as this program wants it.

FAISS is imported where an index is made or read, so that anything that searches can stand in for one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hmamba.index.matmul import Excluded, RealArray
from hmamba.sequences.histories import IntArray

_PRODUCT_FROM = 256
"""Numbers in the queries of one call from which FAISS multiplies matrices: about four queries."""


def faiss_module() -> Any:
    """FAISS, told to compare by matrix products.

    Left alone, 1.15 does so for calls with 128,000 numbers or more, which is 1,940 queries of 66. Under that it
    compares item by item, which took three times as long in blocks of 512 (``python -m bench.speed --only search``).
    The setting is one of the process; it changes times and the last digits of products.
    """
    import faiss

    faiss.cvar.distance_compute_blas_threshold = _PRODUCT_FROM
    return faiss


class Flat:
    """FAISS's exact index."""

    def __init__(self, index: Any) -> None:
        self.faiss = index

    @classmethod
    def of(cls, vectors: RealArray) -> Flat:
        """Index float32 vectors (V, X)."""
        index = faiss_module().IndexFlatIP(vectors.shape[1])
        index.add(np.asarray(vectors, dtype=np.float32))
        return cls(index)

    def search(self, queries: RealArray, k: int, excluded: Excluded | None = None) -> tuple[RealArray, IntArray]:
        """As :meth:`Product.search`, but it asks for as many more as any query has barred, and returns those too."""
        more = 0 if excluded is None else int(np.bincount(excluded[0]).max(initial=0))
        products, columns = self.faiss.search(np.ascontiguousarray(queries), min(k + more, self.faiss.ntotal))
        return products, columns
