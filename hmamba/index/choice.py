"""Choose the precision and the search of a night by measuring both on a sample of the night's own queries.

The number of queries per call and the excluded items are the same as in scoring.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hmamba.config import CandidatesConfig
from hmamba.index import precision as float32_recall
from hmamba.index.base import Excluded, RealArray, Trial
from hmamba.index.flat import FlatSearcher
from hmamba.index.index import ItemIndex, build
from hmamba.index.matmul import Float64Searcher, MatmulSearcher
from hmamba.index.precision import Float32Recall
from hmamba.index.registry import SEARCHERS
from hmamba.inference.encode import encode_users
from hmamba.models.files import StoredModel
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories

log = logging.getLogger("hmamba")

_ROUNDS = 3


@dataclass(frozen=True)
class Choice:
    """The chosen index and the measurements behind the choice.

    Attributes:
        index: the index that the night uses.
        float32_recall: recall of float32 against float64.
        queries_per_second: speed of each float32 search with the threads of this process. Empty if there are no queries
            or the float32 recall is too low. Includes the approximate searches that reach ``candidates.recall``.
        recall: recall of the approximate search that was chosen, or else of the best one tried; None if none was tried.
    """

    index: ItemIndex
    float32_recall: Float32Recall
    queries_per_second: dict[str, int]
    recall: float | None = None


def choose(
    stored: StoredModel, candidate_items: CandidateItems, shards: list[Path], settings: CandidatesConfig
) -> Choice:
    """Index the items in float32 with the fastest search, or in float64 if the float32 recall is below its floor.

    An approximate search misses some items. It is tried for more than ``approximate_items`` items, and used if it is
    the fastest and its recall reaches ``recall``. The choice between exact searches affects only the time.

    Args:
        stored: the model that serves.
        candidate_items: the items to index.
        shards: the snapshot's sequences, from which users are sampled.
        settings: number of items per user, whether seen items are excluded, and the floors.
    """
    if not len(candidate_items):  # only new items may be recommended
        return Choice(build(stored, candidate_items, MatmulSearcher.name), float32_recall.Float32Recall(None, 0, 0), {})
    # FAISS is optional where only matrix products are wanted, as in a notebook.
    first = FlatSearcher.name if FlatSearcher.is_available() else MatmulSearcher.name
    single, exact = build(stored, candidate_items, first), build(stored, candidate_items, Float64Searcher.name)
    parts = list(float32_recall.sample(stored, shards))
    hidden = [encode_users(stored.model, part) for part in parts]
    hidden_Rd = torch.cat(hidden) if hidden else torch.zeros(0, stored.model.config.dim)
    found = float32_recall.measure(
        stored, single, exact, hidden_Rd, float32_recall.depth_of(settings.k, len(candidate_items))
    )
    if found.share is None:
        return Choice(single, found, {})
    if found.share < settings.float32_recall:
        log.warning(
            "index: float32 finds only %.4f of the %d best items that float64 finds, less than "
            "candidates.float32_recall = %g. The search runs in float64, which is slower; a smaller model.max_norm "
            "raises the float32 recall.",
            found.share,
            found.depth,
            settings.float32_recall,
        )
        return Choice(exact, found, {})
    excluded = _seen(candidate_items, parts) if settings.exclude_seen else None
    device = stored.model.tangents.weight.device
    with torch.inference_mode():
        queries = stored.model.query_vectors(hidden_Rd.to(device)).float().cpu().numpy()
    return _fastest(single, found, queries, excluded, settings, device)


def _fastest(
    single: ItemIndex,
    found: Float32Recall,
    queries: RealArray,
    excluded: Excluded | None,
    settings: CandidatesConfig,
    device: torch.device,
) -> Choice:
    """Choose the fastest float32 search; approximate searches are tuned against the fastest exact one."""
    singles = {
        name: searcher
        for name, searcher in SEARCHERS.items()
        if searcher.dtype == np.float32 and searcher.is_available()
    }
    indexes = {
        name: single if name == single.kind else replace(single, searcher=searcher.build(single.vectors, device))
        for name, searcher in singles.items()
        if searcher.is_exact
    }
    speeds = _speeds(indexes, queries, settings.k, excluded)
    items, recalls = len(single.candidate_items), dict[str, float]()
    if items > settings.approximate_items and len(queries) > 1:
        fastest = max(speeds, key=lambda name: speeds[name])
        k, seconds = min(settings.k, items), len(queries) / speeds[fastest]
        products, columns = indexes[fastest].search(queries, k, excluded)
        trial = Trial(queries, k, excluded, products, columns, settings.recall, seconds)
        for name, searcher in singles.items():
            if searcher.is_exact:
                continue
            tuned = searcher.build(single.vectors, device).tuned(trial)
            recalls[name] = tuned.recall
            if tuned.searcher is not None:
                indexes[name] = replace(single, searcher=tuned.searcher)
                speeds |= _speeds({name: indexes[name]}, queries, settings.k, excluded)
            else:
                log.warning(
                    "index: the approximate search %s does not reach candidates.recall = %g in the time of the exact "
                    "search (recall with the last parameters tried: %.4f).",
                    name,
                    settings.recall,
                    tuned.recall,
                )
    best = max(speeds, key=lambda name: speeds[name])
    log.info("index: %s", ", ".join(f"{name} {speed:,} queries per second" for name, speed in speeds.items()))
    return Choice(indexes[best], found, speeds, recalls.get(best, max(recalls.values(), default=None)))


def _seen(candidate_items: CandidateItems, parts: list[Histories]) -> Excluded:
    """Rows and columns of the items that the users of all parts have interacted with."""
    rows, columns, start = [], [], 0
    for part in parts:
        row, column = candidate_items.seen(part, np.arange(len(part)))
        rows.append(row + start)
        columns.append(column)
        start += len(part)
    return np.concatenate(rows), np.concatenate(columns)


def _speeds(indexes: dict[str, ItemIndex], queries: RealArray, k: int, excluded: Excluded | None) -> dict[str, int]:
    """Queries per second of each search: the best of a few rounds in turn, after one to warm up.

    All queries are searched in one call, as scoring does; there are at most ``index.ROWS`` of them.
    """
    seconds = dict.fromkeys(indexes, np.inf)
    for turn in range(_ROUNDS + 1):
        for name, index in indexes.items():
            started = time.perf_counter()
            index.search(queries, k, excluded)
            if turn:
                seconds[name] = min(seconds[name], time.perf_counter() - started)
    return {name: round(len(queries) / taken) for name, taken in seconds.items()}
