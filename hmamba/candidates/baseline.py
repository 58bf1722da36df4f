"""Candidates from a baseline, published while no model has been shown to be better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.candidates.because import Reasons
from hmamba.candidates.fallback import Fallback
from hmamba.candidates.score import Ranked, ScoredBlock, shares_of
from hmamba.columns import BASELINE_VERSION, FALLBACK_VERSION, ITEM_ID, ITEM_INDEX, PADDING_INDEX
from hmamba.evaluation.baselines import most_bought, popular
from hmamba.score_terms import AGAIN, POPULAR
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray


@dataclass(frozen=True)
class Baseline:
    """Ranks items by popularity, or by how often each user has interacted with them.

    Attributes:
        version: value of the column model_version, such as baseline-popularity.
        candidate_items: the items that may be recommended.
        item_ids: (size,) item ids by index.
        popularity: (size,) events of each item index.
    """

    version: str
    candidate_items: CandidateItems
    item_ids: pa.Array
    popularity: IntArray

    def block(
        self,
        histories: Histories,
        k: int,
        *,
        exclude_seen: bool,
        because: bool = False,
        fallback: Fallback | None = None,
    ) -> ScoredBlock:
        """Candidates of a block of users, without Lorentz points.

        Args:
            histories: the users.
            k: items per user.
            exclude_seen: exclude items that the user has seen.
            because: whether to give reasons.
            fallback: ranks the items of users without an event that is read; None if the baseline does.
        """
        is_known = np.ones(len(histories), dtype=bool) if fallback is None else histories.read.lengths > 0
        served, unknown = np.flatnonzero(is_known), np.flatnonzero(~is_known)
        ranked, own = self._rank(histories.select(served), k, exclude_seen=exclude_seen)
        names = np.where(own > 0, AGAIN, POPULAR)
        if fallback is not None and len(unknown):
            others = histories.select(unknown)
            others = replace(others, items=self._counted(others.items))
            popular = Ranked(*fallback.rank(others, k, exclude_seen=exclude_seen))
            why = fallback.reasons(others, popular.users, popular.items)
            order = np.argsort(np.concatenate([served[ranked.users], unknown[popular.users]]), kind="stable")
            names = np.concatenate([names, why])[order]
            ranked = Ranked.together([ranked.of(served), popular.of(unknown)])
        versions = pa.array(np.where(is_known, self.version, FALLBACK_VERSION), pa.string())
        return ScoredBlock(ranked, versions, None, len(unknown), Reasons.of_names(names) if because else None)

    def _counted(self, items: IntArray) -> IntArray:
        """Item indices, with padding for those that were added after the popularity was counted."""
        return np.where(items < len(self.popularity), items, PADDING_INDEX)

    def rank(self, histories: Histories, k: int, *, exclude_seen: bool) -> Ranked:
        """Rank the ``k`` best items of each user. The score is the share of all events plus the user's own count.

        Items added after the popularity was counted are ignored.
        """
        return self._rank(histories, k, exclude_seen=exclude_seen)[0]

    def _rank(self, histories: Histories, k: int, *, exclude_seen: bool) -> tuple[Ranked, IntArray]:
        """As :meth:`rank`, and the part of each score that is the user's own count."""
        counts = self.candidate_items.counts(self.popularity)
        histories = replace(histories, items=self._counted(histories.items))
        is_personal = self.version == f"{BASELINE_VERSION}most_bought"
        if is_personal:
            ranked = most_bought(histories, counts, k)
        else:
            ranked = popular(histories, counts, k, exclude_seen=exclude_seen)
        rows, items, scores = shares_of(ranked, counts)
        own = np.zeros(len(rows), dtype=np.int64)
        if is_personal:
            read = histories.read
            pairs, number = np.unique(read.owner * len(counts) + read.items, return_counts=True)
            keys = rows * len(counts) + items
            place = np.minimum(np.searchsorted(pairs, keys), max(len(pairs) - 1, 0))
            if len(pairs):
                own = np.where(pairs[place] == keys, number[place], 0)
        return Ranked(rows, items, (scores + own).astype(np.float32)), own


def write_eligible(candidate_items: CandidateItems, item_ids: pa.Array, path: Path) -> None:
    """Write the candidate items as Parquet: item_index, item_id."""
    columns = {
        ITEM_INDEX: pa.array(candidate_items.eligible, pa.int32()),
        ITEM_ID: item_ids.take(pa.array(candidate_items.eligible)),
    }
    pq.write_table(pa.table(columns), path)
