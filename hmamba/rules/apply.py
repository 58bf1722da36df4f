"""Apply rules to lists of the best items, and ask for longer lists until every user has enough items.

The result is that of applying the rules to the list of all items, best first. A rule that removes items leaves room for
later ones, a boost can raise an item from far below: each list is therefore trusted only down to the score below which
an item that was not retrieved could belong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hmamba.rules.night import BlockRules
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
    until,
)
from hmamba.sequences.histories import IntArray
from hmamba.sequences.sets import contained

_FIRST, _MORE = 2, 4
"""The first lists are so many times as long as needed, and each further one so many times as long as the one before."""
_ENTRIES = 1 << 22
"""Entries of lists that are processed at once."""

Join = Callable[[Lists, Lists, int], Lists]
"""Joins the lists of known and of new items: the k candidates first, then the others by score; see ``Quota.apply``."""


class Retrieve(Protocol):
    """Retrieves the best items of some users."""

    def __call__(self, rows: IntArray, depth: int, *, narrowed: bool) -> tuple[Lists, Lists | None]:
        """Lists of ``depth`` items of each of these rows; shorter ones hold all items there are.

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
    depth, waiting, first = _FIRST * needed, np.arange(len(rules)), True
    plain_number = np.zeros(len(rules), dtype=np.int64)
    while len(waiting):
        after = []
        step = max(1, _ENTRIES // depth)
        for start in range(0, len(waiting), step):
            rows = waiting[start : start + step]
            known, new = serving.retrieve(rows, depth, narrowed=not first)
            if first:
                plain = _joined(serving, (known, new), k)
                effects.add(_removed(rules, rows, plain))
                plain_number[rows] = (plain[0] >= 0).sum(axis=1)
            found, is_done = _ruled(
                rules, serving, rows, known, new, depth, needed, None if pins is None else pins[rows]
            )
            items[rows], scores[rows] = found
            after.append(rows[~is_done])
        waiting, depth, first = np.concatenate(after), _MORE * depth, False
        effects.deepened += len(waiting)
    number = (items >= 0).sum(axis=1)
    effects.short_users = int((number < plain_number).sum())
    effects.users_without_rows = int(((number == 0) & (plain_number > 0)).sum())
    return (items, not_rising(_filled(scores, items))), effects


def _joined(serving: Serving, parts: tuple[Lists, Lists | None], depth: int) -> Lists:
    """Known and new items as one list: the k candidates first."""
    known, new = parts
    if new is None or serving.join is None:
        return known[0][:, :depth], known[1][:, :depth]
    return serving.join(known, new, depth)


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
    known: Lists,
    new: Lists | None,
    depth: int,
    needed: int,
    pins: IntArray | None,
) -> tuple[Lists, BoolArray]:
    """Lists (R, k) of some rows under the rules, and for which of them no longer lists are needed."""
    k = serving.k
    parts = [_settled(rules, serving, rows, part, depth) for part in (known, new) if part is not None]
    is_whole = np.all([whole for _, _, whole in parts], axis=0)
    bounds = np.max([bound for _, bound, _ in parts], axis=0)
    enough = np.all([whole | ((part[0] >= 0).sum(axis=1) >= k) for part, _, whole in parts], axis=0)
    lists = parts[0][0]
    if len(parts) == 2:
        assert serving.join is not None
        lists = serving.join(parts[0][0], parts[1][0], sum(part[0].shape[1] for part, _, _ in parts))
        # The k candidates are settled; of the others, those that no item beyond the lists could precede.
        sure = np.cumsum(lists[1][:, k:] < bounds[:, None], axis=1) == 0
        candidates = np.ones((len(rows), min(k, lists[0].shape[1])), dtype=bool)
        lists = kept(lists, (lists[0] >= 0) & np.concatenate([candidates, sure], axis=1))
    held = (lists[0] >= 0).sum(axis=1)
    diversity = rules.night.book.diversity
    if diversity is not None:
        likeness = rules.night.likeness or serving.likeness
        if likeness is not None:
            top, pool = diversity.top, diversity.considered
            lists = diversified(lists, weight=diversity.weight, top=top, pool=pool, likeness=likeness)
    result = capped(lists, k, rules.night.limits, pins)
    full = (result[0] >= 0).sum(axis=1) >= k
    return result, is_whole | (enough & full & (held >= needed))


def _settled(
    rules: BlockRules, serving: Serving, rows: IntArray, lists: Lists, depth: int
) -> tuple[Lists, FloatArray, BoolArray]:
    """What is left of lists after filters and boosts, down to what an item beyond them could precede.

    Returns:
        The lists; the score (R,) that no item beyond them exceeds, -inf if there is none; and whether there is none.
    """
    items, scores = lists
    if not items.shape[1]:
        return lists, np.full(len(rows), -np.inf, np.float32), np.ones(len(rows), bool)
    is_whole = (items[:, -1] < 0) if items.shape[1] >= depth else np.ones(len(rows), dtype=bool)
    bounds = np.where(is_whole, -np.inf, scores[:, -1]).astype(np.float32)
    at, places = np.nonzero(items >= 0)
    entries = items[at, places]
    keep = np.zeros(items.shape, dtype=bool)
    keep[at, places] = rules.keeps(rows[at], entries)
    if rules.boosts:
        at, places = np.nonzero(keep)
        bonus = rules.bonus(rows[at], items[at, places])
        raised, largest = scores.copy(), rules.night.largest_boost
        if serving.is_log:
            raised[at, places] += bonus.astype(np.float32)
            bounds = bounds + np.float32(largest)
        else:
            raised[at, places] *= np.exp(bonus).astype(np.float32)
            bounds = bounds * np.float32(np.exp(largest))
        return until(by_score(kept((items, raised), keep)), bounds), bounds, is_whole
    return kept(lists, keep), bounds, is_whole


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
