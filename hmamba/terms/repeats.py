"""Features of repeat consumption: evidence in a user's own history that the user will consume an item again.

In data with many repeat purchases, ranking by the user's own counts is hard to beat with a vector of 64 numbers, which
cannot hold the rates of a few hundred items. The paper does not address this, so this project adds a learned term,
:class:`hmamba.model.repeats.Repeats`. It keeps one state per (user, item) and time scale, with the recurrence of the
scan and fixed decays instead of learned ones:

    n_k(u, v, t) = exp(-gap / tau_k) n_k(u, v, t-1) + w[the event is v]        q_k = n_k / (sum over v of n_k)

with w the event's weight, 1 if events have none. An event is either a new choice or a repeat, so the two rates add up
(an unnormalised pointer mixture):

    score(u, v) = log(exp(base(u, v)) + exp(g(u) + f(u, v)) sum_k pi_k(u) q_k(u, v))

Gate g and mixture pi are functions of the user's hidden state. Factor f depends on how often, how regularly and how
recently the user interacted with the item, and on how often all users repeat it. If items have categories, f also reads
these features of the item's category and the item's share of it: a user who bought another milk yesterday needs none
today. Items that the user has never interacted with keep their base score. The term is therefore sparse and retrieval
stays exact: search the index for items that are new to the user, rescore the others, and merge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, IntArray, offsets_of, owners, run_starts, spans
from hmamba.terms.base import Entries

FloatArray = npt.NDArray[np.float32]

TIME_SCALES = (15.0, 60.0, 120.0, 480.0)
"""tau_k in days: from weeks to more than a year."""

FEATURES = 6
_SHARED_FEATURES = 4  # features that categories have too: all but those of the row
CATEGORY_FEATURES = _SHARED_FEATURES + len(TIME_SCALES)
LEAST_KNOWN = 1e-6  # added to shares before their logarithm is taken


@dataclass(frozen=True)
class RepeatFeatures(Entries):
    """Candidate items that users have interacted with; a row is one moment of one user.

    Attributes:
        items: (E,) item indices.
        shares: (E, K) q_k, the item's share of the row's decayed events, one column per time scale.
        features: (E, F) logarithms of 1 + days and of 1 + baskets since the item's last event, of its number of
            events, of 1 + the mean days between two of them (0 after one event), of the row's number of baskets, and
            of 1 + days since the row's newest event. Days count back from the start of the day for which the row
            recommends, or from the row's newest event if that is later. Then, for each category level: the first four
            of these for the item's category, and the log ratios of the category's q_k to the item's.
    """

    items: IntArray
    shares: FloatArray
    features: FloatArray

    @classmethod
    def before(
        cls,
        histories: Histories,
        candidate_items: CandidateItems,
        users: IntArray,
        ends: IntArray,
        category: IntArray | None = None,
        asked: IntArray | None = None,
    ) -> RepeatFeatures:
        """Collect the items that the user of each row has interacted with before the end of the row.

        Shares are ratios, so the reference time cancels out. It is each row's newest event, so the sums of an old
        history do not decay to zero.

        Time and memory are those of the result and of one sort of the users' events, whatever the number of rows: n_k
        is computed at each event and decayed from there to each row for which the event is the item's latest.

        Args:
            histories: all events that the model reads.
            candidate_items: the candidate items; other items count in the denominator of the shares only.
            users: (R,) user of each row.
            ends: (R,) flat position after the last event that the row may use.
            category: (L, size) category number of each item, from 0, on each of L levels; None without categories.
            asked: (R,) time for which each row recommends, microseconds; None: its newest event.

        Returns:
            Entries sorted by row and then by the time of the user's first event with the item.
        """
        if category is None or not len(users):
            return cls._of_items(histories, candidate_items, users, ends, asked)
        # The following passes read all events of the histories, so select the users of the rows.
        selected, users = np.unique(users, return_inverse=True)
        starts, histories = histories.offsets[selected], histories.select(selected)
        ends = ends - starts[users] + histories.offsets[users]
        repeats = cls._of_items(histories, candidate_items, users, ends, asked)
        features = [repeats.features]
        for of_item in category:
            count = int(of_item.max()) + 1
            everything = CandidateItems(np.arange(count), np.arange(count))
            whole = cls._of_items(replace(histories, items=of_item[histories.items]), everything, users, ends, asked)
            key = whole.rows * count + whole.columns
            order = np.argsort(key)
            match = order[np.searchsorted(key, repeats.rows * count + of_item[repeats.items], sorter=order)]
            log_ratio = np.log((whole.shares[match] + LEAST_KNOWN) / (repeats.shares + LEAST_KNOWN))
            features += [whole.features[match, :_SHARED_FEATURES], log_ratio]
        return replace(repeats, features=np.concatenate(features, axis=1))

    @classmethod
    def _of_items(
        cls,
        histories: Histories,
        candidate_items: CandidateItems,
        users: IntArray,
        ends: IntArray,
        asked: IntArray | None,
    ) -> RepeatFeatures:
        nonempty = np.flatnonzero(ends > histories.offsets[users])
        order = nonempty[np.argsort(ends[nonempty], kind="stable")]  # positions are sorted by user and time
        past = _Past.of(histories, users[order], ends[order])
        first_row, last_row = np.searchsorted(past.row_ends, past.positions, side="right"), past.last_row
        # An event gives the features of its item in the rows after it, up to the item's next event.
        renewed = np.append(past.ordinal[1:] > 0, False)
        until = np.where(renewed, np.append(first_row[1:], 0), last_row)
        width = until - first_row
        event, row = owners(width), spans(first_row, width)

        entries = np.zeros(len(users), dtype=np.int64)
        entries[order] = np.bincount(row, minlength=len(order))
        starts = offsets_of(entries)
        place = starts[order[row]] + past.rank[event]
        rows, columns = owners(entries), np.empty(len(row), dtype=np.int64)
        columns[place] = candidate_items.column[past.items[event]]
        shares = np.empty((len(row), len(TIME_SCALES)), dtype=np.float32)
        age = past.newest_day[row] - past.days[event]
        for k, scale in enumerate(TIME_SCALES):
            weight = past.decayed(scale)[event] * np.exp(-age / scale)
            shares[place, k] = weight / np.bincount(row, weights=weight, minlength=len(order))[row]
        gap = np.zeros(len(order))
        if asked is not None:
            gap = np.maximum(asked[order] // MICROSECONDS_A_DAY - past.newest_day, 0)
        features = np.empty((len(row), FEATURES), dtype=np.float32)
        features[place, 0] = np.log1p(age + gap[row])
        features[place, 1] = np.log1p(past.newest_basket[row] - past.baskets[event])
        features[place, 2] = np.log1p(past.ordinal)[event]
        features[place, 3] = np.log1p(past.mean_gap)[event]
        features[place, 4] = np.log1p(past.newest_basket - past.first_basket)[row]
        features[place, 5] = np.log1p(gap)[row]
        known = columns >= 0
        rows, columns = rows[known], columns[known]
        return cls(rows, columns, candidate_items.eligible[columns], shares[known], features[known])


def items_before(histories: Histories, users: IntArray, ends: IntArray) -> IntArray:
    """Number (R,) of distinct items that the user of each row has interacted with before the end of the row.

    Args:
        histories: all events that the model reads.
        users: (R,) user of each row.
        ends: (R,) flat position after the last event that the row may use.
    """
    stride = int(histories.items.max(initial=0)) + 1
    _, first = np.unique(histories.owner * stride + histories.items, return_index=True)
    firsts = np.zeros(histories.events + 1, dtype=np.int64)
    firsts[first + 1] = 1
    np.cumsum(firsts, out=firsts)
    counts: IntArray = firsts[ends] - firsts[histories.offsets[users]]
    return counts


@dataclass(frozen=True)
class _Past:
    """The N events that sorted rows may use, sorted by user, item and time.

    Attributes:
        row_ends: (R,) position after the last event of each row, ascending.
        newest_day, newest_basket: (R,) day and basket of each row's last event.
        first_basket: (R,) first basket of each row's user.
        positions, items, days, baskets: (N,) of each event; a position is a number in the order of user and time.
        ordinal: (N,) number of earlier events of the same user and item.
        mean_gap: (N,) mean days between these events, this one included; 0 at the first.
        rank: (N,) number of items that the user interacted with before the first event of this item.
        last_row: (N,) row after the last row of the event's user.
        weights: (N,) weight of each event; None for 1 each.
    """

    row_ends: IntArray
    newest_day: npt.NDArray[np.float64]
    newest_basket: IntArray
    first_basket: IntArray
    positions: IntArray
    items: IntArray
    days: npt.NDArray[np.float64]
    baskets: IntArray
    ordinal: IntArray
    mean_gap: npt.NDArray[np.float64]
    rank: IntArray
    last_row: IntArray
    weights: npt.NDArray[np.float64] | None

    @classmethod
    def of(cls, histories: Histories, users: IntArray, ends: IntArray) -> _Past:
        last_of_user = np.flatnonzero(np.append(users[1:] != users[:-1], True)) if len(users) else users
        starts = histories.offsets[users[last_of_user]]
        lengths = ends[last_of_user] - starts
        flat, begin = spans(starts, lengths), offsets_of(lengths)[:-1]
        owner = owners(lengths)
        days = histories.times[flat] / MICROSECONDS_A_DAY
        row_owner = owners(np.diff(last_of_user, prepend=-1))
        row_ends = ends - (starts - begin)[row_owner]
        baskets = np.searchsorted(histories.basket_starts, flat, side="right")

        stride = int(histories.items[flat].max(initial=0)) + 1
        key = owner * stride + histories.items[flat]
        order = np.argsort(key, kind="stable")
        first = run_starts(key[order])
        group = owners(np.diff(first, append=len(key)))
        # Number the first events of all (user, item) pairs by position; subtracting those of earlier users gives ranks.
        by_first = np.argsort(np.argsort(order[first]))
        items_before = np.searchsorted(np.sort(order[first]), begin)
        ordinal = np.arange(len(order)) - first[group]
        return cls(
            row_ends,
            days[row_ends - 1],
            baskets[row_ends - 1],
            baskets[begin][row_owner],
            order,
            histories.items[flat][order],
            days[order],
            baskets[order],
            ordinal,
            (days[order] - days[order][first[group]]) / np.maximum(ordinal, 1),
            by_first[group] - items_before[owner[order]],
            (last_of_user + 1)[owner[order]],
            None if histories.weights is None else histories.weights[flat][order].astype(np.float64),
        )

    def decayed(self, scale: float) -> npt.NDArray[np.float64]:
        """n_k at each event for the time scale ``scale`` in days: its weight plus the decayed weights before it.

        After the step of width d, each sum covers 2 d events, so log2 of the largest number of events of one user and
        item is enough steps.
        """
        count = np.ones(len(self.days)) if self.weights is None else self.weights.copy()
        step = 1
        later = np.flatnonzero(self.ordinal >= step)
        while len(later):
            gap = self.days[later] - self.days[later - step]
            count[later] += np.exp(-gap / scale) * count[later - step]
            step *= 2
            later = later[self.ordinal[later] >= step]
        return count
