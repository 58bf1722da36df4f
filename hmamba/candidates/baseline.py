"""Candidates from a baseline, published while no model has been shown to be better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.candidates.because import Reasons
from hmamba.candidates.fallback import Fallback
from hmamba.candidates.retrieve import Ranked, shares_of
from hmamba.candidates.ruled import OfBaseline, Ruled
from hmamba.candidates.score import ScoredBlock
from hmamba.columns import BASELINE_VERSION, FALLBACK_VERSION, ITEM_ID, ITEM_INDEX, PADDING_INDEX
from hmamba.evaluation.baselines import most_bought, own_counts, popular
from hmamba.rules.apply import Effects
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
        ruled: Ruled | None = None,
    ) -> ScoredBlock:
        """Candidates of a block of users, without Lorentz points.

        Args:
            histories: histories of the users.
            k: items per user.
            exclude_seen: exclude items that the user has seen.
            because: whether to give the reasons.
            fallback: ranks the items of users without an event that is read; None if the baseline does.
            ruled: as for :class:`hmamba.candidates.score.ModelScorer`.
        """
        effects = None if ruled is None else Effects()

        def lists(best: OfBaseline, users: Histories, is_log: bool = False) -> Ranked:
            if ruled is None or effects is None:
                return best(users, k)
            own = self.candidate_items
            return ruled.of_baseline(best, users, own, effects, exclude_seen=exclude_seen, is_log=is_log)

        is_known = np.ones(len(histories), dtype=bool) if fallback is None else histories.read.lengths > 0
        served, unknown = np.flatnonzero(is_known), np.flatnonzero(~is_known)
        others = histories.select(unknown)
        ranked = lists(partial(self.rank, exclude_seen=exclude_seen), histories.select(served)).of(served)
        if fallback is not None and len(unknown):
            popular_ones = lists(partial(fallback.rank, exclude_seen=exclude_seen), others, is_log=True)
            ranked = Ranked.together([ranked, popular_ones.of(unknown)])
        reasons = None
        if because:
            own = self._own_counts(histories, ranked.users, ranked.items)
            names = np.where(own > 0, AGAIN, POPULAR).astype(object)
            rows = np.flatnonzero(~is_known[ranked.users])
            if fallback is not None and len(rows):
                users = np.searchsorted(unknown, ranked.users[rows])
                names[rows] = fallback.reasons(others, users, ranked.items[rows])
            reasons = Reasons.of_names(names)
        versions = pa.array(np.where(is_known, self.version, FALLBACK_VERSION), pa.string())
        return ScoredBlock(ranked, versions, None, len(unknown), reasons=reasons, effects=effects)

    def rank(self, histories: Histories, k: int, *, exclude_seen: bool) -> Ranked:
        """Rank the ``k`` best items of each user. The score is the share of all events plus the user's own count.

        Items added after the popularity was counted are ignored.
        """
        counts = self.candidate_items.counts(self.popularity)
        histories = replace(histories, items=np.where(histories.items < len(counts), histories.items, PADDING_INDEX))
        if self._is_personal:
            ranked = most_bought(histories, counts, k)
        else:
            ranked = popular(histories, counts, k, exclude_seen=exclude_seen)
        rows, items, scores = shares_of(ranked, counts)
        scores += self._own_counts(histories, rows, items)
        return Ranked(rows, items, scores.astype(np.float32))

    @property
    def _is_personal(self) -> bool:
        return self.version == f"{BASELINE_VERSION}most_bought"

    def _own_counts(self, histories: Histories, rows: IntArray, items: IntArray) -> IntArray:
        """The part (E,) of each score that is the user's own count."""
        if not self._is_personal:
            return np.zeros(len(rows), dtype=np.int64)
        size = max(len(self.popularity), int(histories.items.max(initial=0)) + 1)
        return own_counts(histories, rows, items, size)


def write_eligible(candidate_items: CandidateItems, item_ids: pa.Array, path: Path) -> None:
    """Write the candidate items as Parquet: item_index, item_id."""
    columns = {
        ITEM_INDEX: pa.array(candidate_items.eligible, pa.int32()),
        ITEM_ID: item_ids.take(pa.array(candidate_items.eligible)),
    }
    pq.write_table(pa.table(columns), path)
