"""How the night searches: in which precision, and by what. Both are measured on some of the night's own queries.

As many are searched at once as scoring searches, and what their users have interacted with is excluded as there.
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
from hmamba.index.index import ItemIndex, build
from hmamba.index.matmul import Float64Searcher
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
    """What was chosen, and why.

    Attributes:
        index: what the night searches.
        float32_recall: of float32 with float64.
        queries_per_second: of each float32 search, with the threads of this process; empty where there are no queries
            or float32 loses too much. Approximate searches are among them if they reach the recall that is wanted.
        recall: of the approximate search that was chosen, or of the best one that was tried; None where none was.
    """

    index: ItemIndex
    float32_recall: Float32Recall
    queries_per_second: dict[str, int]
    recall: float | None = None


def choose(
    stored: StoredModel, candidate_items: CandidateItems, shards: list[Path], wishes: CandidatesConfig
) -> Choice:
    """Index the items in float32 if that ranks as float64 does, in float64 if not; and with the fastest search.

    An approximate search misses some items: it is tried for more than ``approximate_items`` items, and used if it is
    the fastest and finds the share ``recall`` of what an exact one does. Otherwise the choice changes only the time.

    Args:
        stored: the model that serves.
        candidate_items: the items to index.
        shards: the snapshot's sequences, to draw users from.
        wishes: how many items a user gets, whether those that they interacted with are excluded, and the floors.
    """
    single, exact = build(stored, candidate_items), build(stored, candidate_items, Float64Searcher.name)
    parts = list(float32_recall.sample(stored, shards))
    hidden = [encode_users(stored.model, part) for part in parts]
    hidden_Rd = torch.cat(hidden) if hidden else torch.zeros(0, stored.model.config.dim)
    found = float32_recall.measure(
        stored, single, exact, hidden_Rd, float32_recall.depth_of(wishes.k, len(candidate_items))
    )
    if found.share is None:
        return Choice(single, found, {})
    if found.share < wishes.float32_recall:
        log.warning(
            "index: float32 finds only %.4f of the %d best items that float64 finds, less than "
            "candidates.float32_recall = %g: the search runs in float64, which is slower. With a smaller "
            "model.max_norm float32 would do.",
            found.share,
            found.depth,
            wishes.float32_recall,
        )
        return Choice(exact, found, {})
    excluded = _seen(candidate_items, parts) if wishes.exclude_seen else None
    return _fastest(single, found, _queries(stored, hidden_Rd), excluded, wishes, stored.model.tangents.weight.device)


@torch.inference_mode()
def _queries(stored: StoredModel, hidden_Rd: torch.Tensor) -> RealArray:
    found: RealArray = (
        stored.model.query_vectors(hidden_Rd.to(stored.model.tangents.weight.device)).float().cpu().numpy()
    )
    return found


def _fastest(
    single: ItemIndex,
    found: Float32Recall,
    queries: RealArray,
    excluded: Excluded | None,
    wishes: CandidatesConfig,
    device: torch.device,
) -> Choice:
    """Choose among all float32 searches: the exact ones, then the approximate ones in comparison with them."""
    singles = {name: searcher for name, searcher in SEARCHERS.items() if searcher.dtype == np.float32}
    ways = {
        name: single if name == single.kind else replace(single, searcher=searcher.build(single.vectors, device))
        for name, searcher in singles.items()
        if searcher.is_exact
    }
    speeds = _speeds(ways, queries, wishes.k, excluded)
    items, recalls = len(single.candidate_items), dict[str, float]()
    if items > wishes.approximate_items and len(queries) > 1:
        quickest = max(speeds, key=lambda way: speeds[way])
        k, seconds = min(wishes.k, items), len(queries) / speeds[quickest]
        products, columns = ways[quickest].search(queries, k, excluded)
        trial = Trial(queries, k, excluded, products, columns, wishes.recall, seconds)
        for name, searcher in singles.items():
            if searcher.is_exact:
                continue
            tuned = searcher.build(single.vectors, device).tuned(trial)
            recalls[name] = tuned.recall
            if tuned.searcher is not None:
                ways[name] = replace(single, searcher=tuned.searcher)
                speeds |= _speeds({name: ways[name]}, queries, wishes.k, excluded)
            else:
                log.warning(
                    "index: the approximate search %s does not reach candidates.recall = %g in less time than the "
                    "exact one (tried up to a recall of %.4f).",
                    name,
                    wishes.recall,
                    tuned.recall,
                )
    best = max(speeds, key=lambda way: speeds[way])
    log.info("index: %s", ", ".join(f"{way} answers {speed:,} queries a second" for way, speed in speeds.items()))
    return Choice(ways[best], found, speeds, recalls.get(best, max(recalls.values(), default=None)))


def _seen(candidate_items: CandidateItems, parts: list[Histories]) -> Excluded:
    """What the users of all parts have interacted with, as rows and columns."""
    rows, columns, start = [], [], 0
    for part in parts:
        row, column = candidate_items.seen(part, np.arange(len(part)))
        rows.append(row + start)
        columns.append(column)
        start += len(part)
    return np.concatenate(rows), np.concatenate(columns)


def _speeds(ways: dict[str, ItemIndex], queries: RealArray, k: int, excluded: Excluded | None) -> dict[str, int]:
    """Queries a second of each search, taken in turns; the best of a few rounds, after one to warm up.

    All queries are searched at once: there are no more of them than scoring searches at once (``index.ROWS``).
    """
    seconds = dict.fromkeys(ways, np.inf)
    for turn in range(_ROUNDS + 1):
        for way, index in ways.items():
            started = time.perf_counter()
            index.search(queries, k, excluded)
            if turn:
                seconds[way] = min(seconds[way], time.perf_counter() - started)
    return {way: round(len(queries) / taken) for way, taken in seconds.items()}
