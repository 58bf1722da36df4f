"""FAISS's flat index as a peer: in blocks, by matrix products and as it comes."""

from __future__ import annotations

import numpy as np

from hmamba.index.base import RealArray
from hmamba.index.flat import FlatSearcher, faiss_module
from hmamba.index.index import ROWS

PEER, ALL_AT_ONCE = "FAISS flat", "FAISS flat, all queries at once"
AS_IT_COMES = "FAISS flat as it comes, item by item"
K = 100
SEEN = 5_000
"""Items of each user that are left out."""
LEAST_KEPT = 1 / 1.3
"""Of the speed, where they are."""

_ITEM_BY_ITEM = 128_000  # FAISS's own threshold, under which it multiplies no matrices


def in_blocks(flat: FlatSearcher, queries: RealArray) -> RealArray:
    """The ``K`` largest products (R, K), of as many queries at once as scoring asks."""
    return np.concatenate([flat.search(queries[at : at + ROWS], K)[0] for at in range(0, len(queries), ROWS)])


def as_it_comes(flat: FlatSearcher, queries: RealArray) -> RealArray:
    """The same with FAISS's own threshold."""
    settings = faiss_module().cvar
    ours, settings.distance_compute_blas_threshold = settings.distance_compute_blas_threshold, _ITEM_BY_ITEM
    try:
        return in_blocks(flat, queries)
    finally:
        settings.distance_compute_blas_threshold = ours
