"""Candidates from a baseline, published while no model has been shown to be better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.candidates.retrieve import Ranked, shares_of
from hmamba.candidates.ruled import Ruled
from hmamba.candidates.score import ScoredBlock
from hmamba.columns import BASELINE_VERSION, ITEM_ID, ITEM_INDEX, PADDING_INDEX
from hmamba.evaluation.baselines import most_bought, own_counts, popular
from hmamba.rules.apply import Effects
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

    def block(self, histories: Histories, k: int, *, exclude_seen: bool, ruled: Ruled | None = None) -> ScoredBlock:
        """Candidates of a block of users, without Lorentz points; ``ruled``: as for ``ModelScorer``."""
        versions, best = (
            pa.array([self.version] * len(histories), pa.string()),
            partial(self.rank, exclude_seen=exclude_seen),
        )
        if ruled is None:
            return ScoredBlock(best(histories, k), versions, None, 0)
        effects = Effects()
        ranked = ruled.of_baseline(best, histories, self.candidate_items, effects, exclude_seen=exclude_seen)
        return ScoredBlock(ranked, versions, None, 0, effects)

    def rank(self, histories: Histories, k: int, *, exclude_seen: bool) -> Ranked:
        """Rank the ``k`` best items of each user. The score is the share of all events plus the user's own count.

        Items added after the popularity was counted are ignored.
        """
        counts = self.candidate_items.counts(self.popularity)
        histories = replace(histories, items=np.where(histories.items < len(counts), histories.items, PADDING_INDEX))
        is_personal = self.version == f"{BASELINE_VERSION}most_bought"
        if is_personal:
            ranked = most_bought(histories, counts, k)
        else:
            ranked = popular(histories, counts, k, exclude_seen=exclude_seen)
        rows, items, scores = shares_of(ranked, counts)
        if is_personal:
            scores += own_counts(histories, rows, items, len(counts))
        return Ranked(rows, items, scores.astype(np.float32))


def write_eligible(candidate_items: CandidateItems, item_ids: pa.Array, path: Path) -> None:
    """Write the candidate items as Parquet: item_index, item_id."""
    columns = {
        ITEM_INDEX: pa.array(candidate_items.eligible, pa.int32()),
        ITEM_ID: item_ids.take(pa.array(candidate_items.eligible)),
    }
    pq.write_table(pa.table(columns), path)
