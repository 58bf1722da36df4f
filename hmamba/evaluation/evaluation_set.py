"""The evaluation set: queries with a past, and the items that the user interacted with next.

Events of one user that share a time are a basket. Each held-out basket that has events before it is a query. Its past
may include held-out events too: the model's weights are fixed by then, so nothing leaks, and users who first appear in
the held-out part, such as sessions of a few minutes, are evaluated like all others. All queries of a user together
count as one user.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hmamba.sequences.histories import BoolArray, Histories, IntArray, owners, run_starts, spans
from hmamba.sequences.sets import distinct

MOST_OF_A_USER = 10
"""Queries of one user, evenly spread over the user's baskets. Each user counts once in the metrics, so more queries of
one user would cost time and hardly narrow the interval."""


@dataclass(frozen=True)
class Baskets:
    """The B baskets that can be queries, sorted by user and time.

    Attributes:
        owner: (B,) the user of each basket.
        starts, ends: (B,) flat positions of a basket's first event and after its last one.
        answers: (N,) whether each of all events is a relevant item of its basket.
    """

    owner: IntArray
    starts: IntArray
    ends: IntArray
    answers: BoolArray

    @classmethod
    def of(cls, histories: Histories, *, exclude_seen: bool) -> Baskets:
        """All baskets that hold a relevant item and follow an event that the model reads.

        Args:
            histories: U users, N events.
            exclude_seen: whether items that the user has seen before the basket are not relevant.
        """
        starts = histories.basket_starts
        if len(starts) == 1:
            nothing = np.zeros(0, dtype=np.int64)
            return cls(nothing, nothing, nothing, np.zeros(0, dtype=bool))
        answers = histories.wanted
        if exclude_seen:
            answers = answers & ~_seen_before(histories)
        owner = histories.owner[starts[:-1]]
        readable = np.ones(histories.events, dtype=bool) if histories.weights is None else histories.weights > 0
        so_far = np.append(0, np.cumsum(readable))
        is_query = np.logical_or.reduceat(answers, starts[:-1])
        is_query &= so_far[starts[:-1]] > so_far[histories.offsets[owner]]
        return cls(owner[is_query], starts[:-1][is_query], starts[1:][is_query], answers)


def _seen_before(histories: Histories) -> BoolArray:
    """(N,) whether the user of each event has seen its item before the event's basket."""
    key = histories.owner * (int(histories.items.max()) + 1) + histories.items
    seen = np.arange(histories.events) if histories.seen is None else np.flatnonzero(histories.seen)
    if not len(seen):
        return np.zeros(histories.events, dtype=bool)
    order = seen[np.argsort(key[seen], kind="stable")]
    first = order[run_starts(key[order])]
    keys = key[first]
    place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    starts = histories.basket_starts
    basket_start = np.repeat(starts[:-1], np.diff(starts))
    before: BoolArray = (keys[place] == key) & (first[place] < basket_start)
    return before


@dataclass(frozen=True)
class EvaluationSet:
    """Q queries, each with the events before it and the relevant items.

    Attributes:
        past: (Q) events before each query; their ``asked`` is ``as_of``.
        as_of: (Q,) time of each query, microseconds.
        rows, items: (pairs,) query and item of each relevant item; an item occurs once a query.
        of_user: (Q,) the evaluated user of each query, from 0, ascending; None: each query is of another user.
    """

    past: Histories
    as_of: IntArray
    rows: IntArray
    items: IntArray
    of_user: IntArray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "past", replace(self.past, asked=self.as_of))

    @classmethod
    def of(
        cls, histories: Histories, starts: IntArray, ends: IntArray, *, exclude_seen: bool, most: int | None = None
    ) -> EvaluationSet:
        """Make queries of the baskets between two positions of each user.

        Args:
            histories: all events of U users.
            starts: (U,) flat position of the first event that may be relevant; the start of a basket.
            ends: (U,) flat position after the last one; the end of a basket.
            exclude_seen: whether only items that are new to the user are relevant.
            most: upper bound on the number of users, who are sampled with a fixed seed; None: all.
        """
        users = np.flatnonzero(ends > starts)
        part = histories.select(users, ends[users])
        baskets = Baskets.of(part, exclude_seen=exclude_seen)
        own_start = part.offsets[:-1] + starts[users] - histories.offsets[users]
        chosen = np.flatnonzero(baskets.starts >= own_start[baskets.owner])
        chosen = chosen[_spread(baskets.owner[chosen], MOST_OF_A_USER)]
        judged = distinct(baskets.owner[chosen])
        if most is not None and len(judged) > most:
            judged = np.sort(np.random.default_rng(0).choice(judged, most, replace=False))
            chosen = chosen[np.isin(baskets.owner[chosen], judged)]
        owner, first = baskets.owner[chosen], baskets.starts[chosen]
        lengths = baskets.ends[chosen] - first
        events = spans(first, lengths)
        row = owners(lengths)
        is_answer = baskets.answers[events]
        stride = int(part.items.max(initial=0)) + 1
        pairs = distinct(row[is_answer] * stride + part.items[events[is_answer]])
        return cls(
            part.select(owner, first),
            part.times[first],
            pairs // stride,
            pairs % stride,
            np.searchsorted(judged, owner),
        )

    def since(self, moment: int) -> EvaluationSet:
        """The queries at or after a time in microseconds."""
        return self.only(self.as_of[self.rows] >= moment)

    def only(self, kept: BoolArray) -> EvaluationSet:
        """The kept ones (pairs,) of the relevant items, and the queries with at least one of them."""
        if kept.all():
            return self
        queries = distinct(self.rows[kept])
        return EvaluationSet(
            self.past.select(queries),
            self.as_of[queries],
            np.searchsorted(queries, self.rows[kept]),
            self.items[kept],
            np.unique(self.users[queries], return_inverse=True)[1].astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.past)

    @cached_property
    def users(self) -> IntArray:
        """(Q,) the evaluated user of each query."""
        return np.arange(len(self)) if self.of_user is None else self.of_user

    @property
    def judged(self) -> int:
        """Number of evaluated users."""
        return int(self.users[-1]) + 1 if len(self) else 0

    @property
    def user_ids(self) -> pa.Array:
        """External ids of the evaluated users."""
        return self.past.users.take(pa.array(np.unique(self.users, return_index=True)[1]))

    def by_user(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Means (users,) of values (Q,) over each user's queries."""
        sums = np.bincount(self.users, weights=values, minlength=self.judged)
        means: npt.NDArray[np.float64] = sums / np.bincount(self.users, minlength=self.judged)
        return means


def _spread(owner: IntArray, most: int) -> IntArray:
    """Positions of at most ``most`` entries of each owner, evenly spaced and with the last one; owners ascend."""
    if not len(owner):
        return np.zeros(0, dtype=np.int64)
    first = run_starts(owner)
    count = np.diff(np.append(first, len(owner)))
    last = np.repeat(first + count - 1, count)
    back = last - np.arange(len(owner))
    count_of = np.repeat(count, count)
    # Of an owner's c entries, those are kept at which floor(back * most / c) changes: min(most, c) entries. The last
    # entry has back = 0 and is always kept, because the floor at back - 1 is -1.
    share = np.minimum(most, count_of)
    kept = back * share // count_of != (back - 1) * share // count_of
    return np.flatnonzero(kept)
