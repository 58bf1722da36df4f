"""How much an IVF search compares: raised until its recall on the night's own queries reaches a floor."""

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
    """How much is compared.

    Attributes:
        nprobe: IVF lists that a query scans.
        k_factor: items that are re-ranked with their own vectors, for each item wanted.
    """

    nprobe: int
    k_factor: int


START = SearchParameters(nprobe=1, k_factor=2)

_K_FACTORS = (2, 4, 8, 16)
_FIRST_SHARE = 256  # 1 / share of the lists to start with; each step scans half as many again
_HELD = 4  # times k items in the lists that are scanned: with fewer, many queries would fall short and be exact
_BEYOND = 3  # steps with enough recall that are compared: more lists can need less re-ranking
_RERANK_COST = 32  # of an item, in comparisons of codes, as measured with 400,000 items
_LEAST_GAIN = 5e-4  # of recall, under which a higher k_factor is not tried further


def recalls(found: IntArray, products: RealArray, right: IntArray, best: RealArray) -> DoubleArray:
    """Share (R,) of each query's best items that was found; 1 where there is nothing to find.

    Args:
        found: (R, k) columns that the approximate search found.
        products: (R, k) their products, -inf where there is no item.
        right: (R, k) columns that the exact search found.
        best: (R, k) their products, -inf where there is no item.
    """
    rows = np.arange(len(right))[:, None]
    stride = int(max(found.max(initial=0), right.max(initial=0))) + 1
    wanted = np.isfinite(best)
    mine = (rows * stride + found)[np.isfinite(products)]
    hits = np.isin(rows * stride + right, mine) & wanted
    share: DoubleArray = np.where(wanted.any(axis=1), hits.sum(axis=1) / np.maximum(wanted.sum(axis=1), 1), 1.0)
    return share


def tune(searcher: IvfSearcher, trial: Trial) -> Tuned:
    """Raise ``nprobe`` and ``k_factor`` until the floor is reached, and choose the parameters with the least work.

    The floor must be reached on both halves of the queries, so that parameters are not chosen by luck with these
    queries alone. Work is counted and not timed, so that the same night chooses the same parameters.
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
