"""Parts of the evaluation set that are reported on their own: by length of history, new users, and popularity of items.

Bands are bounds on numbers of events, so that they can be read without a legend. Those of items are thirds of all
events: the few most popular items that take a third of them, the items with the next third, and all others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from hmamba.contracts.verdict import GroupKind
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import metrics_by_query
from hmamba.sequences.histories import BoolArray, IntArray
from hmamba.sequences.sets import distinct

HISTORY_BANDS = (1, 5, 20, 100)
"""Smallest number of events before a query of each band; a query has at least one."""

_KNOWN = (0, 1)
_BANDS = 3


@dataclass(frozen=True)
class Group:
    """One part: q queries with some or all of their relevant items.

    Attributes:
        kind: what ``least`` and ``most`` count; see :class:`~hmamba.contracts.verdict.GroupMetrics`.
        least, most: smallest and largest number of events; ``most`` is None without an upper bound.
        queries: (q,) their places among all queries, ascending.
        rows, items: (pairs,) query, as a place in ``queries``, and item of each relevant item.
        users: (q,) the user of each query, numbered from 0 without gaps.
    """

    kind: GroupKind
    least: int
    most: int | None
    queries: IntArray
    rows: IntArray
    items: IntArray
    users: IntArray

    @property
    def judged(self) -> int:
        """Number of users."""
        return int(self.users.max(initial=-1)) + 1

    def values(self, ranked_Qk: IntArray, metric: str) -> npt.NDArray[np.float64]:
        """(users,) a metric of each user, as a mean over the user's queries.

        Args:
            ranked_Qk: item indices for all queries, best first.
            metric: such as ndcg@10.
        """
        cutoff = int(metric.partition("@")[2])
        found = metrics_by_query(ranked_Qk[self.queries, :cutoff], self.rows, self.items, cutoffs=(cutoff,))[metric]
        means: npt.NDArray[np.float64] = np.bincount(self.users, weights=found) / np.bincount(self.users)
        return means


def groups_of(evaluation_set: EvaluationSet, item_events: IntArray, is_new: BoolArray) -> list[Group]:
    """All groups that have a query.

    Args:
        evaluation_set: Q queries.
        item_events: (size,) events of each item index before the held-out part.
        is_new: (Q,) whether the user of each query has no event before the held-out part.
    """
    lengths = np.diff(evaluation_set.past.offsets)
    rows = evaluation_set.rows
    answers: tuple[tuple[GroupKind, Sequence[int], IntArray], ...] = (
        ("history", HISTORY_BANDS, lengths[rows]),
        ("users", _KNOWN, (~is_new).astype(np.int64)[rows]),
        ("items", popularity_bands(item_events), item_events[evaluation_set.items]),
    )
    return [group for kind, bands, events in answers for group in _banded(evaluation_set, kind, bands, events)]


def popularity_bands(item_events: IntArray) -> list[int]:
    """The smallest number of events of each band of items: 0, 1, and those of the two more popular thirds, ascending.

    Bands that would be empty, because the items of a third have equal numbers of events, are left out.
    """
    descending = np.sort(item_events[item_events > 0])[::-1]
    if not len(descending):
        return [0]
    reached = np.cumsum(descending)
    places = [int(np.searchsorted(reached * _BANDS, number * reached[-1])) for number in range(1, _BANDS)]
    return sorted({0, 1, *(int(descending[place]) for place in places)})


def _banded(
    evaluation_set: EvaluationSet, kind: GroupKind, bands: Sequence[int], events_of_pairs: IntArray
) -> Iterator[Group]:
    """The groups of one kind, by the number of events (pairs,) that belongs to each relevant item."""
    for least, following in pairwise([*bands, None]):
        assert least is not None
        kept = events_of_pairs >= least
        if following is not None:
            kept &= events_of_pairs < following
        if kept.any():
            queries = distinct(evaluation_set.rows[kept])
            yield Group(
                kind,
                least,
                None if following is None else following - 1,
                queries,
                np.searchsorted(queries, evaluation_set.rows[kept]),
                evaluation_set.items[kept],
                np.unique(evaluation_set.users[queries], return_inverse=True)[1].astype(np.int64),
            )
