"""The candidate items: the items that may be recommended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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

    @classmethod
    def only(cls, indices: IntArray, size: int) -> CandidateItems:
        """The items with these item indices, which lie below ``size``."""
        return cls.of(np.bincount(indices, minlength=size), 1)

    def among(self, ids: pa.Array, allowed: pa.Array) -> CandidateItems:
        """Those with an allowed id, given the ids (size,) by item index."""
        is_allowed = pc.is_in(ids.take(pa.array(self.eligible)), value_set=allowed)
        return CandidateItems.only(self.eligible[is_allowed.to_numpy(zero_copy_only=False)], len(self.column))

    def together(self, others: CandidateItems) -> CandidateItems:
        """These and others of the same size."""
        if not len(others):
            return self
        return CandidateItems.only(np.concatenate([self.eligible, others.eligible]), len(self.column))

    def counts(self, events: IntArray) -> IntArray:
        """(size,) number of events of each candidate item, at least 1; 0 for other items."""
        counts = np.zeros(len(self.column), dtype=np.int64)
        counts[self.eligible] = np.maximum(events[self.eligible], 1)
        return counts

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
