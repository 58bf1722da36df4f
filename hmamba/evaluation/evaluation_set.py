"""What is asked of a model: what did users take next?

Events of one user that share a time are a basket, and each basket with something before it is a question, also where
what is before it lies in the held-out part itself: weights are fixed by then, so nothing leaks. Users who first appear
there, and sessions that live for minutes, are asked like everyone else. A user's questions count as one user together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hmamba.sequences.histories import BoolArray, Histories, IntArray, owners, run_starts, spans
from hmamba.sequences.sets import distinct

MOST_OF_A_USER = 10
"""Questions of one user, evenly spread over what could be asked: a user who rates a thousand films in an evening counts
as one, and more of their questions would add cost and no certainty."""


@dataclass(frozen=True)
class Baskets:
    """Baskets that can be asked for: B of them, by user and time.

    Attributes:
        owner: (B,) the user.
        starts, ends: (B,) flat positions of the first event and after the last.
        answers: (N,) which of all events are answers to the basket they are in.
    """

    owner: IntArray
    starts: IntArray
    ends: IntArray
    answers: BoolArray

    @classmethod
    def of(cls, histories: Histories, *, exclude_seen: bool) -> Baskets:
        """All baskets with an answer, and with an event before them that the model reads.

        Args:
            histories: U users, N events.
            exclude_seen: an item that the user had seen before the basket is no answer.
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
        is_askable = np.logical_or.reduceat(answers, starts[:-1])
        is_askable &= so_far[starts[:-1]] > so_far[histories.offsets[owner]]
        return cls(owner[is_askable], starts[:-1][is_askable], starts[1:][is_askable], answers)


def _seen_before(histories: Histories) -> BoolArray:
    """(N,) whether the event's user had seen its item before the event's basket."""
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
    """Q questions about users: given a past, what did they take next?

    Attributes:
        past: (Q) what came before each.
        as_of: (Q,) the moment of each, microseconds.
        rows, items: (pairs) the answers: which question, which item; each item once a question.
        of_user: (Q,) which judged user a question is about, from 0, ascending; None: each is about a user of its own.
    """

    past: Histories
    as_of: IntArray
    rows: IntArray
    items: IntArray
    of_user: IntArray | None = None

    @classmethod
    def ask(
        cls, histories: Histories, starts: IntArray, ends: IntArray, *, exclude_seen: bool, most: int | None = None
    ) -> EvaluationSet:
        """Ask for the baskets between two positions of each user.

        Args:
            histories: all events of U users.
            starts: (U,) flat position of the first event that may be an answer; the start of a basket.
            ends: (U,) flat position after the last one; the end of a basket.
            exclude_seen: only items that are new to the user count.
            most: a sample of at most so many users, always the same one.
        """
        users = np.flatnonzero(ends > starts)
        part = histories.select(users, ends[users])
        baskets = Baskets.of(part, exclude_seen=exclude_seen)
        own_start = part.offsets[:-1] + starts[users] - histories.offsets[users]
        chosen = np.flatnonzero(baskets.starts >= own_start[baskets.owner])
        chosen = chosen[_spread(baskets.owner[chosen], MOST_OF_A_USER)]
        asked = distinct(baskets.owner[chosen])
        if most is not None and len(asked) > most:
            asked = np.sort(np.random.default_rng(0).choice(asked, most, replace=False))
            chosen = chosen[np.isin(baskets.owner[chosen], asked)]
        owner, first = baskets.owner[chosen], baskets.starts[chosen]
        lengths = baskets.ends[chosen] - first
        events = spans(first, lengths)
        row = owners(lengths)
        is_answer = baskets.answers[events]
        stride = int(part.items.max(initial=0)) + 1
        pairs = distinct(row[is_answer] * stride + part.items[events[is_answer]])
        return cls(
            part.select(owner, first), part.times[first], pairs // stride, pairs % stride, np.searchsorted(asked, owner)
        )

    def since(self, moment: int) -> EvaluationSet:
        """The questions from a moment on, microseconds."""
        kept = self.as_of >= moment
        if kept.all():
            return self
        number = np.cumsum(kept) - 1
        answers = kept[self.rows]
        of_user = np.unique(self.users[kept], return_inverse=True)[1].astype(np.int64)
        return EvaluationSet(
            self.past.select(np.flatnonzero(kept)),
            self.as_of[kept],
            number[self.rows[answers]],
            self.items[answers],
            of_user,
        )

    def __len__(self) -> int:
        return len(self.past)

    @cached_property
    def users(self) -> IntArray:
        """(Q,) which judged user each question is about."""
        return np.arange(len(self)) if self.of_user is None else self.of_user

    @property
    def judged(self) -> int:
        """Number of users."""
        return int(self.users[-1]) + 1 if len(self) else 0

    @property
    def asked(self) -> pa.Array:
        """Ids of the judged users."""
        return self.past.users.take(pa.array(np.unique(self.users, return_index=True)[1]))

    def by_user(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Means (users,) of values (Q,) over each user's questions."""
        sums = np.bincount(self.users, weights=values, minlength=self.judged)
        means: npt.NDArray[np.float64] = sums / np.bincount(self.users, minlength=self.judged)
        return means


def _spread(owner: IntArray, most: int) -> IntArray:
    """Positions of at most ``most`` entries of each owner, evenly spaced, the last one always; owners ascend."""
    if not len(owner):
        return np.zeros(0, dtype=np.int64)
    first = run_starts(owner)
    count = np.diff(np.append(first, len(owner)))
    last = np.repeat(first + count - 1, count)
    back = last - np.arange(len(owner))
    count_of = np.repeat(count, count)
    # Of c entries those are kept at which floor(back * most / c) changes: `most` of them, or all; the last one, from
    # which it is counted back, among them, as the floor before it is -1.
    share = np.minimum(most, count_of)
    kept = back * share // count_of != (back - 1) * share // count_of
    return np.flatnonzero(kept)
