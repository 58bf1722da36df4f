"""What a model must beat: global popularity, and what this user buys most."""

from __future__ import annotations

import numpy as np

from hmamba.sequences.histories import Histories, IntArray

_ROWS = 256


def _rank(histories: Histories, popularity: IntArray, k: int, *, personal: bool, exclude_seen: bool) -> IntArray:
    """Dense, exact: own count first (if ``personal``), popularity among equals. (U, k), -1 where none is left."""
    size = len(popularity)
    # Popularity as a fraction below one, so that it only decides between equal personal counts.
    general = (popularity / (popularity.max(initial=1) + 1.0)).astype(np.float64)
    general[popularity == 0] = -np.inf
    depth = min(k, size)
    result = np.full((len(histories), k), -1, dtype=np.int64)
    for start in range(0, len(histories), _ROWS):
        part = histories.select(np.arange(start, min(start + _ROWS, len(histories))))
        scores = np.repeat(general[None], len(part), axis=0)
        if exclude_seen:
            scores[part.owner, part.items] = -np.inf
        elif personal:
            np.add.at(scores, (part.owner, part.items), 1.0)
        top = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        order = np.lexsort((top, -np.take_along_axis(scores, top, 1)), axis=1)
        top = np.take_along_axis(top, order, 1)
        result[start : start + len(part), :depth] = np.where(np.isfinite(np.take_along_axis(scores, top, 1)), top, -1)
    return result


def popular(histories: Histories, popularity: IntArray, k: int, *, exclude_seen: bool) -> IntArray:
    """Most popular items (U, k) for each user, given events of each item index (size,)."""
    return _rank(histories, popularity, k, personal=False, exclude_seen=exclude_seen)


def most_bought(histories: Histories, popularity: IntArray, k: int) -> IntArray:
    """Items (U, k) that each user has taken most often, filled up with popular ones."""
    return _rank(histories, popularity, k, personal=True, exclude_seen=False)
