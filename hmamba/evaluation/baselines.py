"""Baselines that a model must beat: global popularity, and each user's most frequent items."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hmamba.sequences.histories import Histories, IntArray

Popularity: TypeAlias = IntArray | npt.NDArray[np.float64]
"""(size,) number or share of the events of each item index."""

_ROWS = 256


def _rank(histories: Histories, popularity: Popularity, k: int, *, personal: bool, exclude_seen: bool) -> IntArray:
    """Rank by the user's own count (if ``personal``), then popularity, then index: (U, k), padded with -1.

    No user is scored against all items: a user's own items are few, and all others that can be ranked are among the
    k + own most popular ones. Memory grows with the histories and k, not with items times users.
    """
    by_popularity = np.lexsort((np.arange(len(popularity)), -popularity))
    by_popularity = by_popularity[popularity[by_popularity] > 0]
    place = np.full(len(popularity), len(by_popularity))  # items without events come last
    place[by_popularity] = np.arange(len(by_popularity))
    result = np.full((len(histories), k), -1, dtype=np.int64)
    # Own counts are of events that the model reads; exclusion is of items that count as seen.
    own = histories.read if personal else histories
    if not personal and histories.seen is not None:
        own = histories.keep(histories.seen)
    for start in range(0, len(histories), _ROWS):
        part = own.select(np.arange(start, min(start + _ROWS, len(histories))))
        rows, places = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        if personal or exclude_seen:
            pairs, counts = np.unique(part.owner * len(popularity) + part.items, return_counts=True)
            rows, places = pairs // len(popularity), place[pairs % len(popularity)]
            order = np.lexsort((places, -counts, rows))
            order = order[places[order] < len(by_popularity)]
            rows, places = rows[order], places[order]
        width = min(k + int(np.bincount(rows).max(initial=0)), len(by_popularity))
        is_own = np.zeros((len(part), width), dtype=bool)
        within = places < width
        is_own[rows[within], places[within]] = True
        other_rows, other_places = np.nonzero(~is_own)
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


def popular(histories: Histories, popularity: Popularity, k: int, *, exclude_seen: bool) -> IntArray:
    """The most popular items (U, k) for each user."""
    return _rank(histories, popularity, k, personal=False, exclude_seen=exclude_seen)


def most_bought(histories: Histories, popularity: IntArray, k: int) -> IntArray:
    """The items (U, k) that each user has interacted with most often, followed by popular ones."""
    return _rank(histories, popularity, k, personal=True, exclude_seen=False)


def own_counts(histories: Histories, rows: IntArray, items: IntArray, size: int) -> IntArray:
    """How often (E,) the user of each row has interacted with an item; ``size``: number of item indices."""
    read = histories.read
    pairs, number = np.unique(read.owner * size + read.items, return_counts=True)
    if not len(pairs):
        return np.zeros(len(rows), dtype=np.int64)
    keys = rows * size + items
    place = np.minimum(np.searchsorted(pairs, keys), len(pairs) - 1)
    return np.where(pairs[place] == keys, number[place], 0)
