"""The candidate items: the items that may be recommended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hmamba.sequences.histories import Histories, IntArray, owners, spans
from hmamba.sequences.sets import distinct


@dataclass(frozen=True)
class CandidateItems:
    """The V candidate items, and their columns in the softmax and the index.

    Attributes:
        eligible: (V,) item indices of the candidate items, ascending.
        column: (size,) the column of each item index, -1 for items that are not candidate items.
    """

    eligible: IntArray
    column: IntArray

    @classmethod
    def of(cls, events: IntArray, least: int) -> CandidateItems:
        """Items with at least ``least`` events, given the number of events (size,) of each item index."""
        eligible = np.flatnonzero(events >= least)
        eligible = eligible[eligible > 0]
        column = np.full(len(events), -1, dtype=np.int64)
        column[eligible] = np.arange(len(eligible))
        return cls(eligible, column)

    def seen(self, histories: Histories, users: IntArray) -> tuple[IntArray, IntArray]:
        """Candidate items that users (R,) have seen: rows and columns of the entries, ascending, each once."""
        lengths = histories.lengths[users]
        events = spans(histories.offsets[users], lengths)
        columns = self.column[histories.items[events]]
        if histories.seen is not None:
            columns[~histories.seen[events]] = -1
        width = max(len(self), 1)
        pairs = distinct((owners(lengths) * width + columns)[columns >= 0])
        return pairs // width, pairs % width

    def __len__(self) -> int:
        return len(self.eligible)
