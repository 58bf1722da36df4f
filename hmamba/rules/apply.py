"""Apply rules to lists of the best items, and ask for longer lists until every user has enough items.

The result is that of applying the rules to the list of all items, best first. A rule that removes items leaves room for
later ones, a boost can raise an item from far below: each list is therefore trusted only down to the score below which
an item that was not retrieved could belong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hmamba.rules.tables import (
    BoolArray,
    FloatArray,
    Likeness,
    Lists,
    by_score,
    capped,
    diversified,
    kept,
    not_rising,
)
from hmamba.sequences.histories import IntArray
from hmamba.sequences.sets import contained

if TYPE_CHECKING:
    from hmamba.rules.night import BlockRules

_MORE = 3
"""Each further list of a user is so many times as long as the one before."""
_SPARE, _MOST = 0.1, 8
"""The first lists are longer than needed by this share, and again for caps and boosts; at most so many times."""
_SAMPLED_ROWS, _SAMPLED_ITEMS, _FEW = 64, 256, 0.2
"""Size of the sample, and the quantile of users for whom the first lists are meant."""
_ENTRIES, _ROWS = 1 << 19, 512
"""Entries of lists that are processed at once, more of which do not fit into the cache, in whole blocks of a search."""

Join = Callable[[Lists, Lists, int], Lists]
"""Joins the lists of known and of new items: the k candidates first, then the others by score; see ``Quota.apply``."""


@dataclass(frozen=True)
class Found:
    """Lists of the best items of some rows.

    Attributes:
        lists: the lists, before boosts; some places may be empty.
        bounds: (R,) the largest score that an item beyond a list can have under the boosts; -inf if there is none.
    """

    lists: Lists
    bounds: FloatArray

    @classmethod
    def of(cls, lists: Lists, depth: int, rise: float, *, is_log: bool) -> Found:
        """Lists of the ``depth`` best items; shorter ones hold all items there are.

        Args:
            lists: the lists.
            depth: number of items that were asked for.
            rise: the largest log of factors of boosts of an item together.
            is_log: see :class:`Serving`.
        """
        items, scores = lists
        last = scores[:, depth - 1] if items.shape[1] >= depth else np.full(len(items), -np.inf, dtype=np.float32)
        return cls(lists, (last + rise if is_log else last * np.exp(rise)).astype(np.float32))


class Retrieve(Protocol):
    """Retrieves the best items of some users."""

    def __call__(self, rows: IntArray, depth: int, *, narrowed: bool) -> tuple[Found, Found | None]:
        """Lists of at least ``depth`` items of each of these rows, or of all items there are.

        Args:
            rows: positions among the rows of the block.
            depth: number of items.
            narrowed: whether items that are not recommended to anybody may be left out.

        Returns:
            Known items and, if they are ranked apart, new items; for each row best first.
        """


@dataclass(frozen=True)
class Serving:
    """How the lists of a block are made.

    Attributes:
        k: number of items of a user.
        retrieve: retrieves lists.
        join: joins known and new items; None where there are no new ones.
        candidate: (size,) items that may be recommended.
        seen: ascending keys (row times size plus item) of what may not be recommended because it was seen; None if it
            may.
        is_log: whether scores are logs of odds, to which a boost adds; otherwise it multiplies.
        likeness: likeness of items by their vectors; None where there are none.
    """

    k: int
    retrieve: Retrieve
    join: Join | None
    candidate: BoolArray
    seen: IntArray | None
    is_log: bool = True
    likeness: Likeness | None = None


@dataclass
class Effects:
    """What rules have done to the lists of some users.

    Attributes:
        short_users: users with fewer items than without rules.
        users_without_rows: of them, users without any although they would have some.
        removed: number of items among the users' k best that each filter and each cap removes, by name; an item may
            count for several.
        deepened: users for whom longer lists were retrieved.
    """

    short_users: int = 0
    users_without_rows: int = 0
    removed: dict[str, int] = field(default_factory=dict)
    deepened: int = 0

    def add(self, other: Effects) -> None:
        """Add the effects on other users."""
        self.short_users += other.short_users
        self.users_without_rows += other.users_without_rows
        for name, number in other.removed.items():
            self.removed[name] = self.removed.get(name, 0) + number
        self.deepened += other.deepened


def apply(rules: BlockRules, serving: Serving) -> tuple[Lists, Effects]:
    """The lists (R, k) of a block under its rules, and what the rules did.

    Scores do not increase with the rank: where an item stands above one with a larger score, it has that score.
    """
    names = (*rules.filters, *(cap.name for cap in rules.night.book.cap))
    k, effects = serving.k, Effects(removed=dict.fromkeys(names, 0))
    items = np.full((len(rules), k), -1, dtype=np.int64)
    scores = np.full((len(rules), k), -np.inf, dtype=np.float32)
    pins = rules.pins(k, serving.candidate, serving.seen)
    diversity = rules.night.book.diversity
    needed = k if diversity is None else max(k, diversity.considered)
    depth, waiting, first = _first_depth(rules, serving, needed), np.arange(len(rules)), True
    plain_number = np.zeros(len(rules), dtype=np.int64)
    while len(waiting):
        after = []
        step = max(1, _ENTRIES // depth // _ROWS) * _ROWS
        for start in range(0, len(waiting), step):
            rows = waiting[start : start + step]
            found = serving.retrieve(rows, depth, narrowed=not first)
            if first:
                plain = _joined(serving, found, k)
                effects.add(_removed(rules, rows, plain))
                plain_number[rows] = (plain[0] >= 0).sum(axis=1)
            made, is_done = _ruled(rules, serving, rows, found, needed, None if pins is None else pins[rows])
            items[rows], scores[rows] = made
            after.append(rows[~is_done])
        waiting = np.concatenate(after)
        effects.deepened += len(waiting) if first else 0
        depth, first = _MORE * depth, False
    number = (items >= 0).sum(axis=1)
    effects.short_users = int((number < plain_number).sum())
    effects.users_without_rows = int(((number == 0) & (plain_number > 0)).sum())
    return (items, not_rising(_filled(scores, items))), effects


def _first_depth(rules: BlockRules, serving: Serving, needed: int) -> int:
    """Length of the first lists: enough for most users, by the share of items that is left of a sample.

    It changes the time that lists take, not the lists.
    """
    every = np.flatnonzero(serving.candidate)
    if not len(rules) or not len(every):
        return needed
    rows = np.unique(np.linspace(0, len(rules) - 1, _SAMPLED_ROWS).astype(np.int64))
    items = every[np.unique(np.linspace(0, len(every) - 1, _SAMPLED_ITEMS).astype(np.int64))]
    keep = rules.keeps(np.repeat(rows, len(items)), np.tile(items, len(rows))).reshape(len(rows), len(items))
    share = float(np.quantile(keep.mean(axis=1), _FEW))
    more = 1 + _SPARE * (1 + bool(rules.night.limits) + bool(rules.boosts))
    return needed + math.ceil(needed * min(more / max(share, 1 / _MOST) - 1, _MOST - 1))


def _joined(serving: Serving, found: tuple[Found, Found | None], depth: int) -> Lists:
    """Known and new items as one list: the k candidates first."""
    known, new = found
    if new is None or serving.join is None:
        return known.lists[0][:, :depth], known.lists[1][:, :depth]
    return serving.join(known.lists, new.lists, depth)


def _removed(rules: BlockRules, rows: IntArray, plain: Lists) -> Effects:
    """How many of the k best items each rule removes."""
    at, places = np.nonzero(plain[0] >= 0)
    effects = Effects()
    for name, matcher in rules.filters.items():
        effects.removed[name] = int(matcher(rows[at], plain[0][at, places]).sum())
    for limit, cap in zip(rules.night.limits, rules.night.book.cap, strict=True):
        kept_ = capped(plain, min(limit.top, max(plain[0].shape[1], 1)), [limit])
        effects.removed[cap.name] = int((plain[0][:, : limit.top] >= 0).sum() - _common(plain, kept_, limit.top))
    return effects


def _common(plain: Lists, under: Lists, top: int) -> int:
    """Number of items that both lists have among their first ``top``."""
    one, other = plain[0][:, :top], under[0][:, :top]
    width = int(max(one.max(initial=0), other.max(initial=0))) + 1
    row = np.arange(len(one))[:, None] * width
    return int(contained((row + one)[one >= 0], np.sort((row + other)[other >= 0])).sum())


def _ruled(
    rules: BlockRules,
    serving: Serving,
    rows: IntArray,
    found: tuple[Found, Found | None],
    needed: int,
    pins: IntArray | None,
) -> tuple[Lists, BoolArray]:
    """Lists (R, k) of some rows under the rules, and for which of them no longer lists are needed."""
    k, (known, new) = serving.k, found
    lists, bounds = _settled(rules, serving, rows, known), known.bounds
    is_settled = _is_settled(lists, bounds, k)
    if new is not None:
        assert serving.join is not None
        others, bounds = _settled(rules, serving, rows, new), np.maximum(bounds, new.bounds)
        is_settled &= _is_settled(others, new.bounds, k)
        lists = serving.join(lists, others, lists[0].shape[1] + others[0].shape[1])
        # The k candidates are settled; of the others, those that no item beyond the lists could precede.
        sure = np.cumsum(lists[1][:, k:] < bounds[:, None], axis=1) == 0
        candidates = np.ones((len(rows), min(k, lists[0].shape[1])), dtype=bool)
        lists = kept(lists, (lists[0] >= 0) & np.concatenate([candidates, sure], axis=1))
    is_settled &= _is_settled(lists, bounds, needed)
    diversity, likeness = rules.night.book.diversity, rules.night.likeness or serving.likeness
    if diversity is not None and likeness is not None:
        top, pool = diversity.top, diversity.considered
        lists = diversified(lists, weight=diversity.weight, top=top, pool=pool, likeness=likeness)
    result = capped(lists, k, rules.night.limits, pins)
    return result, is_settled & _is_settled(result, bounds, k)


def _is_settled(lists: Lists, bounds: FloatArray, number: int) -> BoolArray:
    """Whether a list has so many items, or there are no more (R,)."""
    settled: BoolArray = np.isneginf(bounds) | ((lists[0] >= 0).sum(axis=1) >= number)
    return settled


def _settled(rules: BlockRules, serving: Serving, rows: IntArray, found: Found) -> Lists:
    """What is left of lists after filters and boosts, down to the score that an item beyond them could have."""
    items, scores = found.lists
    at, places = np.nonzero(items >= 0)
    keep = np.zeros(items.shape, dtype=bool)
    keep[at, places] = rules.keeps(rows[at], items[at, places])
    if not rules.boosts:
        return kept(found.lists, keep)
    at, places = np.nonzero(keep)
    bonus = rules.bonus(rows[at], items[at, places])
    own = scores[at, places].astype(np.float64)
    raised = np.full(scores.shape, -np.inf, dtype=np.float32)
    raised[at, places] = own + bonus if serving.is_log else own * np.exp(bonus)
    sure = keep & ~(raised < found.bounds[:, None])
    return by_score((np.where(sure, items, -1), np.where(sure, raised, -np.inf).astype(np.float32)))


def _filled(scores: FloatArray, items: IntArray) -> FloatArray:
    """Scores in which a pinned item without one has that of the item below, or of the one above at the end of a list.

    A list of pinned items only has the score 0.
    """
    own = items >= 0
    missing = own & np.isneginf(scores)
    if not missing.any():
        return scores
    filled = scores.copy()
    last = np.where(own & ~missing, scores, np.inf).min(axis=1)
    filled[missing] = np.where(np.isfinite(last), last, 0.0).astype(np.float32)[np.nonzero(missing)[0]]
    return filled
