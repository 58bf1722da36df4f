"""FAISS's flat index as a peer: in blocks, by matrix products and with FAISS's own settings."""

from __future__ import annotations

import numpy as np

from hmamba.index.base import RealArray
from hmamba.index.flat import FlatSearcher, faiss_module
from hmamba.index.index import ROWS

PEER, ALL_AT_ONCE = "FAISS flat", "FAISS flat, all queries at once"
BY_DEFAULT = "FAISS flat by default, item by item"
K = 100
SEEN = 5_000
"""Number of excluded items of each user."""
LEAST_KEPT = 1 / 1.3
"""Minimum share of the speed with exclusion."""

_ITEM_BY_ITEM = 128_000  # FAISS's own threshold, below which it uses no matrix products


def in_blocks(flat: FlatSearcher, queries: RealArray) -> RealArray:
    """The ``K`` largest products (R, K), for blocks of as many queries as in scoring."""
    return np.concatenate([flat.search(queries[at : at + ROWS], K)[0] for at in range(0, len(queries), ROWS)])


def by_default(flat: FlatSearcher, queries: RealArray) -> RealArray:
    """The same with FAISS's default threshold."""
    settings = faiss_module().cvar
    ours, settings.distance_compute_blas_threshold = settings.distance_compute_blas_threshold, _ITEM_BY_ITEM
    try:
        return in_blocks(flat, queries)
    finally:
        settings.distance_compute_blas_threshold = ours
