"""Lists of items as tables, and what rules do to them: remove, boost, diversify, cap and pin.

A table has a row for each of U users, best item first: item indices (U, D), -1 after the last one, and scores (U, D),
-inf there. All functions work on all rows at once, one position of the lists at a time where a choice depends on the
choices before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hmamba.sequences.histories import IntArray

FloatArray: TypeAlias = npt.NDArray[np.float32]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Lists: TypeAlias = tuple[IntArray, FloatArray]
"""Item indices (U, D) of U users, best first, and their scores; -1 and -inf where none is left."""


_GROUPS = 4
"""Counters are kept for all groups if these are at most so many times the items of a list."""


@dataclass(frozen=True)
class Limit:
    """At most ``most`` items of a group among the first ``top``.

    Attributes:
        groups: (size,) group of each item index, from 0; -1 for items that are not counted.
        most: number of items of a group.
        top: number of ranks.
    """

    groups: IntArray
    most: int
    top: int


def kept(lists: Lists, keep: BoolArray) -> Lists:
    """The entries (U, D) to keep, in their order, with the empty places at the end."""
    if keep.all():
        return lists
    rows, places = np.nonzero(keep)
    to = rows, (np.cumsum(keep, axis=1) - 1)[rows, places]
    items, scores = np.full_like(lists[0], -1), np.full_like(lists[1], -np.inf)
    items[to], scores[to] = lists[0][rows, places], lists[1][rows, places]
    return items, scores


def by_score(lists: Lists) -> Lists:
    """The same entries by score. NaN comes first, so that the checks of the candidates find it; ties stay in order."""
    items, scores = lists
    key = np.where(np.isnan(scores), np.inf, scores)
    order = np.argsort(-key, axis=1, kind="stable")
    return np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1)


def not_rising(scores: FloatArray) -> FloatArray:
    """Scores (U, k) that do not increase with the rank: each is the largest of its own and all later ones."""
    rising: FloatArray = np.maximum.accumulate(scores[:, ::-1], axis=1)[:, ::-1]
    return rising


def diversified(lists: Lists, *, weight: float, top: int, pool: int, likeness: Likeness) -> Lists:
    """Choose the first ``top`` items from the first ``pool`` by maximal marginal relevance; others keep their order.

    Of the items that are left, the one with the largest ``weight * relevance - (1 - weight) * likeness`` comes next.
    Relevance is the score, scaled to [0, 1] over the pool of the user. Likeness is that to the most similar one chosen.

    Args:
        lists: the lists.
        weight: lambda: 1 keeps the order.
        top: number of chosen items.
        pool: number of items to choose from.
        likeness: how alike items are.
    """
    items, scores = lists
    pool = min(pool, items.shape[1])
    if not pool or weight == 1:
        return lists
    of_pool, present = items[:, :pool], items[:, :pool] >= 0
    relevance = _scaled(scores[:, :pool], present)
    gain = np.where(present, weight * relevance, -np.inf)
    nearest = np.zeros((len(items), pool), dtype=np.float64)
    rank = np.full((len(items), pool), pool, dtype=np.int64)
    row = np.arange(len(items))
    features = likeness.of(of_pool)
    for place in range(min(top, pool)):
        value = np.where(rank == pool, gain - (1 - weight) * nearest, -np.inf)
        best = value.argmax(axis=1)
        chosen = np.isfinite(value[row, best])
        rank[row[chosen], best[chosen]] = place
        nearest = np.maximum(nearest, likeness.between(features, best))
    order = np.argsort(rank, axis=1, kind="stable")
    result = items.copy(), scores.copy()
    result[0][:, :pool] = np.take_along_axis(of_pool, order, axis=1)
    result[1][:, :pool] = np.take_along_axis(scores[:, :pool], order, axis=1)
    return result


def _scaled(scores: FloatArray, present: BoolArray) -> npt.NDArray[np.float64]:
    """Scores of each row scaled to [0, 1]; 1 where all are equal."""
    values = np.where(present, scores, np.nan).astype(np.float64)
    low = np.where(present, values, np.inf).min(axis=1, keepdims=True)
    high = np.where(present, values, -np.inf).max(axis=1, keepdims=True)
    span = high - low
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.where(span > 0, (values - low) / span, 1.0)
    return np.where(present, scaled, 0.0)


class Likeness:
    """How alike items are: 1 within a group, 0 otherwise.

    Args:
        groups: (size,) group of each item index; -1 for items that are like no other.
    """

    def __init__(self, groups: IntArray) -> None:
        self._groups = groups

    def of(self, items: IntArray) -> npt.NDArray[Any]:
        """What is compared of items (U, P), -1 for none."""
        return np.where(items >= 0, self._groups[items], -1)

    def between(self, features: npt.NDArray[Any], chosen: IntArray) -> npt.NDArray[np.float64]:
        """Likeness (U, P) of each item to the one at the chosen position (U,) of its row."""
        own = np.take_along_axis(features, chosen[:, None], axis=1)
        alike: npt.NDArray[np.float64] = ((features == own) & (own >= 0)).astype(np.float64)
        return alike


class VectorLikeness(Likeness):
    """How alike items are: the cosine of their vectors, at least 0.

    Args:
        vectors: (V, d) a vector of each item that has one.
        column: (size,) row of each item index in the vectors; -1 for items without one, which are like no other.
    """

    def __init__(self, vectors: npt.NDArray[np.floating], column: IntArray) -> None:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        none = np.zeros((1, vectors.shape[1]), dtype=np.float32)
        self._unit = np.concatenate([(vectors / np.maximum(norms, 1e-12)).astype(np.float32), none])
        self._column = column

    def of(self, items: IntArray) -> npt.NDArray[Any]:
        """What is compared of items (U, P), -1 for none: (U, P, d)."""
        return self._unit[np.where(items >= 0, self._column[items], -1)]

    def between(self, features: npt.NDArray[Any], chosen: IntArray) -> npt.NDArray[np.float64]:
        """Likeness (U, P) of each item to the one at the chosen position (U,) of its row."""
        own = features[np.arange(len(features)), chosen]
        alike: npt.NDArray[np.float64] = np.maximum(np.einsum("upd,ud->up", features, own), 0).astype(np.float64)
        return alike


def capped(lists: Lists, k: int, limits: Sequence[Limit], pins: IntArray | None = None) -> Lists:
    """Choose ``k`` items of each user: at each rank the best item that no limit forbids there.

    Limits for fewer ranks than k hold up to their rank; items that they hold back can follow after it. A list ends
    where no item is allowed.

    Args:
        lists: the lists; no item occurs twice in a row.
        k: number of items.
        limits: the limits.
        pins: (U, k) items with fixed ranks, -1 where there is none. They are not limited, but count.

    Returns:
        The lists (U, k). The score of a pinned item that was not in the list is -inf.
    """
    items, scores = lists
    if pins is None:
        if not limits:
            return _cut(lists, k)
        pins = np.full((len(items), k), -1, dtype=np.int64)
    at = _choose(items, k, limits, pins)
    row = np.arange(len(items))[:, None]
    chosen = np.where(at >= 0, items[row, np.maximum(at, 0)] if items.shape[1] else -1, pins)
    values = np.where(at >= 0, scores[row, np.maximum(at, 0)] if items.shape[1] else -np.inf, -np.inf)
    for place in np.flatnonzero((pins >= 0).any(axis=0)).tolist():
        own = (items == pins[:, place][:, None]) & (pins[:, place] >= 0)[:, None]
        found = own.any(axis=1)
        values[found, place] = scores[found, own[found].argmax(axis=1)]
    return kept((chosen, values.astype(np.float32)), chosen >= 0)


def _cut(lists: Lists, k: int) -> Lists:
    items, scores = lists
    missing = ((0, 0), (0, max(0, k - items.shape[1])))
    cut = items[:, :k], scores[:, :k]
    return np.pad(cut[0], missing, constant_values=-1), np.pad(cut[1], missing, constant_values=-np.inf)


def _choose(items: IntArray, k: int, limits: Sequence[Limit], pins: IntArray) -> IntArray:
    """Walk down the lists: the position (U, k) of the item of each rank, -1 where there is none; see :func:`capped`."""
    users, depth = items.shape
    row = np.arange(users)
    is_free = pins < 0
    slots = np.argsort(~is_free, axis=1, kind="stable")  # the ranks without a pin, in order
    at = np.full((users, k), -1, dtype=np.int64)
    taken = np.zeros((users, depth), dtype=bool)
    open_ = items >= 0
    for place in np.flatnonzero(~is_free.all(axis=0)).tolist():
        open_ &= items != pins[:, place][:, None]
    counters = [_Counter(limit, items, pins) for limit in limits]
    count = np.zeros(users, dtype=np.int64)
    ends = sorted({min(limit.top, k) for limit in limits} | {k})
    most = np.zeros(users, dtype=np.int64)
    for end in ends:
        active = [counter for counter in counters if counter.limit.top >= end]
        most = np.where(count < most, count, is_free[:, :end].sum(axis=1))  # a list that has ended goes no further
        if not active and depth:
            _fill(at, taken, open_, slots, count, most)
            continue
        for place in range(depth):
            wanted = open_[:, place] & ~taken[:, place] & (count < most)
            for counter in active:
                wanted &= counter.allows(place)
            chosen = row[wanted]
            if not len(chosen):
                if bool((count >= most).all()):
                    break
                continue
            for counter in counters:
                counter.add(place, chosen)
            at[chosen, slots[chosen, count[chosen]]] = place
            taken[chosen, place] = True
            count[chosen] += 1
    return at


def _fill(at: IntArray, taken: BoolArray, open_: BoolArray, slots: IntArray, count: IntArray, most: IntArray) -> None:
    """Give the free ranks up to ``most`` (U,) to the best items that are left, which nothing limits."""
    left = open_ & ~taken
    order = np.cumsum(left, axis=1) - 1 + count[:, None]
    wanted = left & (order < most[:, None])
    rows, places = np.nonzero(wanted)
    at[rows, slots[rows, order[rows, places]]] = places
    taken |= wanted
    count += wanted.sum(axis=1)


class _Counter:
    """Counts the chosen items of each user and group."""

    def __init__(self, limit: Limit, items: IntArray, pins: IntArray) -> None:
        self.limit = limit
        both = np.concatenate([items, pins], axis=1)
        groups = np.where(both >= 0, limit.groups[both], -1)
        counted = groups >= 0
        width = int(limit.groups.max(initial=-1)) + 2
        keys = np.arange(len(both))[:, None] * width + groups + 1
        dense = np.where(counted, keys + 1, 0)  # 0: not counted
        if width > _GROUPS * both.shape[1]:  # most groups do not occur
            dense[counted] = np.unique(keys[counted], return_inverse=True)[1] + 1
        self._group = np.ascontiguousarray(dense[:, : items.shape[1]].T)
        self._number = np.zeros(int(dense.max(initial=0)) + 1, dtype=np.int64)
        pinned = dense[:, items.shape[1] :][:, : limit.top]
        np.add.at(self._number, pinned[pins[:, : limit.top] >= 0], 1)
        self._number[0] = -(1 << 62)

    def allows(self, place: int) -> BoolArray:
        """Whether one more item of the group of the item at this position is allowed (U,)."""
        allowed: BoolArray = self._number[self._group[place]] < self.limit.most
        return allowed

    def add(self, place: int, rows: IntArray) -> None:
        """Count the items of these rows at a position; the groups of different rows differ."""
        groups = self._group[place, rows]
        self._number[groups[groups > 0]] += 1
