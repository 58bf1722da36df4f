"""What a model must beat: global popularity, and what this user buys most."""

from __future__ import annotations

import numpy as np

from hmamba.sequences.histories import Histories, IntArray

_ROWS = 256


def _rank(histories: Histories, popularity: IntArray, k: int, *, personal: bool, exclude_seen: bool) -> IntArray:
    """Own count first (if ``personal``), popularity among equals, then the lower index. (U, k), -1 where none is left.

    Exact without scoring the catalogue for each user: a user's own items are few, and whatever else they get is among
    the k + own most popular. Memory grows with histories and k, not with the catalogue times users.
    """
    by_popularity = np.lexsort((np.arange(len(popularity)), -popularity))
    by_popularity = by_popularity[popularity[by_popularity] > 0]
    place = np.full(len(popularity), len(by_popularity))  # items that nobody has had come after all others
    place[by_popularity] = np.arange(len(by_popularity))
    result = np.full((len(histories), k), -1, dtype=np.int64)
    # What counts towards a user's own is what was read; what is left out is what was seen.
    mine = histories.read if personal else histories
    if not personal and histories.seen is not None:
        mine = histories.keep(histories.seen)
    for start in range(0, len(histories), _ROWS):
        part = mine.select(np.arange(start, min(start + _ROWS, len(histories))))
        rows, places = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        if personal or exclude_seen:
            pairs, counts = np.unique(part.owner * len(popularity) + part.items, return_counts=True)
            rows, places = pairs // len(popularity), place[pairs % len(popularity)]
            order = np.lexsort((places, -counts, rows))
            order = order[places[order] < len(by_popularity)]
            rows, places = rows[order], places[order]
        width = min(k + int(np.bincount(rows).max(initial=0)), len(by_popularity))
        had = np.zeros((len(part), width), dtype=bool)
        within = places < width
        had[rows[within], places[within]] = True
        other_rows, other_places = np.nonzero(~had)
        if personal:
            rows, places = np.concatenate([rows, other_rows]), np.concatenate([places, other_places])
            order = np.argsort(rows, kind="stable")
            rows, places = rows[order], places[order]
        else:
            rows, places = other_rows, other_places
        column = np.arange(len(rows)) - np.searchsorted(rows, rows)
        best = column < k
        result[start + rows[best], column[best]] = by_popularity[places[best]]
    return result


def popular(histories: Histories, popularity: IntArray, k: int, *, exclude_seen: bool) -> IntArray:
    """Most popular items (U, k) for each user, given events of each item index (size,)."""
    return _rank(histories, popularity, k, personal=False, exclude_seen=exclude_seen)


def most_bought(histories: Histories, popularity: IntArray, k: int) -> IntArray:
    """Items (U, k) that each user has taken most often, filled up with popular ones."""
    return _rank(histories, popularity, k, personal=True, exclude_seen=False)
