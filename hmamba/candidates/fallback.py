"""Candidates of users without usable history: what is popular in their segment, or among all users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hmamba.candidates.retrieve import Ranked
from hmamba.columns import PADDING_INDEX
from hmamba.evaluation.baselines import popular
from hmamba.index.base import DoubleArray
from hmamba.score_terms import POPULAR, SEGMENT
from hmamba.sequences.histories import Histories, IntArray
from hmamba.sequences.segments import Segments


@dataclass(frozen=True)
class Fallback:
    """Ranks items by popularity. The score is the log of the item's share of events.

    Attributes:
        counts: (size,) events of each item that may be recommended, at least 1; 0 for others.
        segments: the segments of the night; None without any.
        users: described users of the shard; None without any.
    """

    counts: IntArray
    segments: Segments | None = None
    users: Path | None = None

    def rank(self, histories: Histories, k: int, *, exclude_seen: bool) -> Ranked:
        """The ``k`` best items of each user.

        Args:
            histories: (U) histories of the users, which say what they have seen.
            k: items per user.
            exclude_seen: exclude items that the user has seen.
        """
        # Items that were added after the popularity was counted cannot be recommended.
        items = np.where(histories.items < len(self.counts), histories.items, PADDING_INDEX)
        histories = replace(histories, items=items)
        best = np.full((len(histories), k), -1, dtype=np.int64)
        scores = np.zeros((len(histories), k), dtype=np.float32)
        for users, shares in self._shares(histories):
            found = popular(histories.select(users), shares, k, exclude_seen=exclude_seen)
            best[users] = found
            with np.errstate(divide="ignore"):
                scores[users] = np.log(shares[found])  # undefined where no item is left
        rows, places = np.nonzero(best >= 0)
        return Ranked(rows, best[rows, places], scores[rows, places])

    def reasons(self, histories: Histories, users: IntArray, items: IntArray) -> npt.NDArray[np.str_]:
        """Reasons (n,) of rows: ``segment`` where the user's segment takes the item more than all users do.

        Args:
            histories: (U) histories of the users.
            users: (n,) position of each row's user.
            items: (n,) item index of each row.
        """
        is_raised = np.zeros(len(users), dtype=bool)
        if self.segments is not None:
            overall = self.counts / self.counts.sum()
            for own, shares in self._shares(histories):
                rows = np.flatnonzero(np.isin(users, own))
                is_raised[rows] = shares[items[rows]] > overall[items[rows]]
        return np.where(is_raised, SEGMENT, POPULAR)

    def _shares(self, histories: Histories) -> Iterator[tuple[IntArray, DoubleArray]]:
        """The shares (size,) of the items by the positions of users that they are of."""
        if self.segments is None:
            yield np.arange(len(histories)), self.counts / self.counts.sum()
            return
        codes, groups = self.segments.of_users(histories.users, self.users)
        for code, own in enumerate(groups):
            yield np.flatnonzero(codes == code), self.segments.shares(own, self.counts)
