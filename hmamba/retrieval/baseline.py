"""A baseline's table: what readers get while no model has been shown to be better."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.columns import BASELINE_VERSION, ITEM_ID, ITEM_INDEX, PADDING_INDEX
from hmamba.evaluation.baselines import most_bought, popular
from hmamba.files import atomic_file
from hmamba.retrieval.candidates import POINTS, Ranked, ShardFacts, candidate_table
from hmamba.retrieval.part import part_writer
from hmamba.sequences.catalogue import Catalogue
from hmamba.sequences.histories import Histories, IntArray


@dataclass(frozen=True)
class Baseline:
    """Ranks items by their popularity, or by how often each user had them.

    Attributes:
        version: what model_version says, such as baseline-popularity.
        catalogue: the items that may be recommended.
        item_ids: (size,) item ids by index.
        popularity: (size,) events of each item index.
    """

    version: str
    catalogue: Catalogue
    item_ids: pa.Array
    popularity: IntArray

    def rank(self, histories: Histories, k: int, *, exclude_seen: bool) -> Ranked:
        """The ``k`` best items of each user, scored by their share of all events plus the user's own count.

        Items that came after the popularity was counted are passed over.
        """
        counts = np.zeros(len(self.popularity), dtype=np.int64)
        eligible = self.catalogue.eligible
        counts[eligible] = np.maximum(self.popularity[eligible], 1)
        histories = replace(histories, items=np.where(histories.items < len(counts), histories.items, PADDING_INDEX))
        is_personal = self.version == f"{BASELINE_VERSION}most_bought"
        if is_personal:
            ranked = most_bought(histories, counts, k)
        else:
            ranked = popular(histories, counts, k, exclude_seen=exclude_seen)
        rows, places = np.nonzero(ranked >= 0)
        items = ranked[rows, places]
        scores = counts[items] / counts.sum()
        if is_personal:
            read = histories.read
            pairs, number = np.unique(read.owner * len(counts) + read.items, return_counts=True)
            wanted = rows * len(counts) + items
            place = np.minimum(np.searchsorted(pairs, wanted), max(len(pairs) - 1, 0))
            if len(pairs):
                scores += np.where(pairs[place] == wanted, number[place], 0)
        return Ranked(rows, items, scores.astype(np.float32))


def write_eligible(catalogue: Catalogue, item_ids: pa.Array, path: Path) -> None:
    """Write which items may be recommended: item_index, item_id."""
    columns = {
        ITEM_INDEX: pa.array(catalogue.eligible, pa.int32()),
        ITEM_ID: item_ids.take(pa.array(catalogue.eligible)),
    }
    with atomic_file(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


def score_shard_by_baseline(
    baseline: Baseline,
    blocks: Iterable[Histories],
    *,
    k: int,
    exclude_seen: bool,
    candidates: Path,
    vectors: Path,
) -> ShardFacts:
    """Write the candidates of a shard's users, as :func:`hmamba.retrieval.candidates.score_shard` does for a model.

    Users have no points: in ``vectors`` they are null.
    """
    facts = ShardFacts(0, 0, 0)
    with ExitStack() as stack:
        target, target_of_points = (stack.enter_context(atomic_file(path)) for path in (candidates, vectors))
        tables = stack.enter_context(part_writer(target))
        points = stack.enter_context(pq.ParquetWriter(target_of_points, POINTS, compression="zstd"))
        for histories in blocks:
            ranked = baseline.rank(histories, k, exclude_seen=exclude_seen)
            versions = pa.array([baseline.version] * len(histories), pa.string())
            tables.write_table(candidate_table(versions, baseline.item_ids, histories, ranked))
            names = histories.users.cast(pa.string())
            points.write_table(pa.table([names, pa.nulls(len(names), POINTS.field(1).type)], schema=POINTS))
            facts = facts.and_so(len(histories), 0, len(ranked.users))
    return facts
