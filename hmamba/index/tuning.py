"""Tune an IVF search: raise nprobe and k_factor until the recall on the night's own queries reaches a floor."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hmamba.index.base import DoubleArray, RealArray, Trial, Tuned
from hmamba.sequences.histories import IntArray

if TYPE_CHECKING:
    from hmamba.index.ivf import IvfSearcher

log = logging.getLogger("hmamba")


@dataclass(frozen=True)
class SearchParameters:
    """Parameters of an IVF search.

    Attributes:
        nprobe: number of IVF lists that a query scans.
        k_factor: number of items that are re-ranked with their own vectors, in multiples of k.
    """

    nprobe: int
    k_factor: int


START = SearchParameters(nprobe=1, k_factor=2)

_K_FACTORS = (2, 4, 8, 16)
_FIRST_SHARE = 256  # the first nprobe is nlist / 256; each step raises it by half
_HELD = 4  # the scanned lists hold at least 4 k items on average; with fewer, many queries fall back to exact search
_BEYOND = 3  # values of nprobe tried from the first with enough recall on, since more lists can need less re-ranking
_RERANK_COST = 32  # cost of re-ranking an item, in comparisons of codes, measured with 400,000 items
_LEAST_GAIN = 5e-4  # smallest gain of recall for which a higher k_factor is tried


def recalls(found: IntArray, products: RealArray, right: IntArray, best: RealArray) -> DoubleArray:
    """Recall (R,) of each query: the share of the exact results that were found; 1 if there are no exact results.

    Args:
        found: (R, k) columns that the approximate search found.
        products: (R, k) their products, -inf for no item.
        right: (R, k) columns that the exact search found.
        best: (R, k) their products, -inf for no item.
    """
    rows = np.arange(len(right))[:, None]
    stride = int(max(found.max(initial=0), right.max(initial=0))) + 1
    relevant = np.isfinite(best)
    keys = (rows * stride + found)[np.isfinite(products)]
    hits = np.isin(rows * stride + right, keys) & relevant
    share: DoubleArray = np.where(relevant.any(axis=1), hits.sum(axis=1) / np.maximum(relevant.sum(axis=1), 1), 1.0)
    return share


def tune(searcher: IvfSearcher, trial: Trial) -> Tuned:
    """Raise ``nprobe`` and ``k_factor`` until the floor is reached, and choose the parameters with the least work.

    The floor must be reached on both halves of the queries, which guards against a chance result. Work is counted
    instead of timed, so that a night always chooses the same parameters.
    """
    items = len(searcher.vectors)
    least_work, chosen, recall, beyond = np.inf, None, 0.0, 0
    nprobe = max(1, searcher.nlist // _FIRST_SHARE, _HELD * trial.k * searcher.nlist // items)
    while nprobe <= searcher.nlist and beyond < _BEYOND:
        before = 0.0
        for k_factor in _K_FACTORS:
            tried = searcher.with_parameters(SearchParameters(nprobe, k_factor))
            started = time.perf_counter()
            products, found = tried.search(trial.queries, trial.k, trial.excluded)
            taken = time.perf_counter() - started
            shares = recalls(found, products, trial.columns, trial.products)
            mean = float(shares.mean())
            reached = min(shares[::2].mean(), shares[1::2].mean()) >= trial.floor
            log.info("index: nprobe %d of %d lists, k_factor %d: recall %.4f", nprobe, searcher.nlist, k_factor, mean)
            work = nprobe * items / searcher.nlist + _RERANK_COST * k_factor * trial.k
            if reached and work < least_work:
                least_work, chosen, recall = work, tried, mean
            elif chosen is None:
                recall = mean
            if reached or taken > trial.seconds or mean < before + _LEAST_GAIN:
                break
            before = mean
        if taken > trial.seconds:
            break
        beyond += chosen is not None
        nprobe += max(1, nprobe // 2)
    return Tuned(round(recall, 6), chosen)
