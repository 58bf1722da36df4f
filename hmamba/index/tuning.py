"""How much an approximate search has to look at: raised until its recall on the night's own queries reaches a floor."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import numpy as np

from hmamba.index.ivf import Approximate, Effort
from hmamba.index.matmul import DoubleArray, Excluded, RealArray
from hmamba.sequences.histories import IntArray

log = logging.getLogger("hmamba")

START = Effort(cells=1, deep=2)

_DEEP = (2, 4, 8, 16)
_FIRST_SHARE = 256  # of the cells; each step looks into half as many again
_HELD = 4  # times k: in fewer items many queries would come short, and be searched exactly
_BEYOND = 3  # steps with enough recall that are compared: more cells can need fewer products
_PRODUCT = 128  # what a product anew costs, in comparisons of codes, as measured
_SAME = 5e-4  # gain under which deeper is no remedy


@dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
        recall: share of each query's best items by the exact search that the approximate one finds; the mean over the
            queries, at the effort that was chosen, or at the last one where none did.
        index: of the efforts that reach the floor, the one with the least work; None: there is none that is worth it.
    """

    recall: float
    index: Approximate | None


def recalls(found: IntArray, products: RealArray, right: IntArray, best: RealArray) -> DoubleArray:
    """Share (R,) of each query's best items that was found; 1 where there is nothing to find.

    Args:
        found: (R, k) columns, and ``products`` their products, -inf where there is no item.
        products: see above.
        right: (R, k) columns by the exact search, and ``best`` theirs.
        best: see above.
    """
    rows = np.arange(len(right))[:, None]
    stride = int(max(found.max(initial=0), right.max(initial=0))) + 1
    wanted = np.isfinite(best)
    mine = (rows * stride + found)[np.isfinite(products)]
    hits = np.isin(rows * stride + right, mine) & wanted
    share: DoubleArray = np.where(wanted.any(axis=1), hits.sum(axis=1) / np.maximum(wanted.sum(axis=1), 1), 1.0)
    return share


def tune(
    index: Approximate,
    queries: RealArray,
    k: int,
    excluded: Excluded | None,
    exact: tuple[RealArray, IntArray],
    *,
    floor: float,
    seconds: float,
) -> Tuned:
    """Raise the effort until the floor is reached by both halves of the queries, and take what is least work.

    An effort is not chosen by luck with these queries alone if it does for either half of them. Work is counted and not
    timed, so that the same night chooses the same effort.

    Args:
        index: the cells.
        queries: (R, X), two or more.
        k: items wanted of each.
        excluded: entries to leave out.
        exact: products (R, k) and columns of the exact search of the same.
        floor: least recall.
        seconds: that the exact search of these queries takes; nothing slower is tried further.
    """
    chosen: tuple[float, Approximate, float] | None = None
    recall, beyond = 0.0, 0
    cells = max(1, index.count // _FIRST_SHARE, _HELD * k * index.count // index.items)
    while cells <= index.count and beyond < _BEYOND:
        before = 0.0
        for deep in _DEEP:
            tried = index.with_effort(Effort(cells, deep))
            started = time.perf_counter()
            products, found = tried.search(queries, k, excluded)
            taken = time.perf_counter() - started
            shares = recalls(found, products, exact[1], exact[0])
            reached = min(shares[::2].mean(), shares[1::2].mean()) >= floor
            log.info("index: %d of %d cells, %d times k: recall %.4f", cells, index.count, deep, shares.mean())
            if chosen is None:
                recall = float(shares.mean())
            work = cells * index.items / index.count + _PRODUCT * deep * k
            if reached and (chosen is None or work < chosen[0]):
                chosen = work, tried, float(shares.mean())
            if reached or taken > seconds or shares.mean() < before + _SAME:
                break
            before = float(shares.mean())
        if taken > seconds:
            break
        beyond += chosen is not None
        cells += max(1, cells // 2)
    if chosen is None:
        return Tuned(round(recall, 6), None)
    return Tuned(round(chosen[2], 6), chosen[1])
