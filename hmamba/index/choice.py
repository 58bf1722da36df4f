"""How the night searches: in which precision, and by what. Both are measured on some of the night's own queries.

As many are asked at once as scoring asks, and what their users have had is left out as there.
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
from hmamba.index.index import CELLS, FLAT, FLOAT64, PRODUCT, ItemIndex, Kind, build
from hmamba.index.ivf import Approximate
from hmamba.index.matmul import Excluded, RealArray
from hmamba.index.precision import Float32Recall
from hmamba.index.tuning import Tuned, tune
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
        queries_per_second: of each way to search in float32, with the threads of this process; empty where nobody
            could be asked, or float32 does not do. Cells are among them if they reach the recall that is wanted.
        recall: of the cells with the exact search; None where they were not tried.
    """

    index: ItemIndex
    float32_recall: Float32Recall
    queries_per_second: dict[Kind, int]
    recall: float | None = None


def choose(
    stored: StoredModel, candidate_items: CandidateItems, shards: list[Path], wishes: CandidatesConfig
) -> Choice:
    """Index the catalogue in float32 if that ranks as float64 does, in float64 if not; and by what is fastest.

    By cells a search misses some items: it is tried for catalogues of more than ``approximate_items``, and taken if it
    is the fastest and finds the share ``recall`` of what an exact one does. Otherwise only the time depends on the
    choice.

    Args:
        stored: the model that serves.
        candidate_items: the items to index.
        shards: the snapshot's sequences, to draw users from.
        wishes: how many items a user gets, whether those that they had are left out, and the floors.
    """
    single, exact = build(stored, candidate_items), build(stored, candidate_items, FLOAT64)
    parts = list(float32_recall.sample(stored, shards))
    hidden = [encode_users(stored.model, part) for part in parts]
    hidden_Rd = torch.cat(hidden) if hidden else torch.zeros(0, stored.model.config.dim)
    found = float32_recall.measure(
        stored, single, exact, hidden_Rd, float32_recall.depth_of(wishes.k, len(candidate_items))
    )
    if found.share is None:
        return Choice(single, found, {})
    if found.share < wishes.float32_overlap:
        log.warning(
            "index: float32 finds only %.4f of the %d best items that float64 finds, less than "
            "candidates.float32_recall = %g: the search runs in float64, which is slower. With a smaller "
            "model.max_norm float32 would do.",
            found.share,
            found.depth,
            wishes.float32_overlap,
        )
        return Choice(exact, found, {})
    ways: dict[Kind, ItemIndex] = {FLAT: single, PRODUCT: build(stored, candidate_items, PRODUCT)}
    excluded = _had(candidate_items, parts) if wishes.exclude_seen else None
    queries = _queries(stored, hidden_Rd)
    recall, speeds = None, _speeds(ways, queries, wishes.k, excluded)
    if len(candidate_items) > wishes.approximate_items and len(queries) > 1:
        tuned = _tune(ways[PRODUCT], stored, queries, excluded, wishes, len(queries) / max(speeds.values()))
        recall = tuned.recall
        if tuned.index is not None:
            ways[CELLS] = replace(ways[PRODUCT], index=tuned.index)
            speeds |= _speeds({CELLS: ways[CELLS]}, queries, wishes.k, excluded)
        else:
            log.warning(
                "index: a search by cells does not reach candidates.recall = %g in less time than the exact one (tried "
                "up to a recall of %.4f): the search is exact.",
                wishes.recall,
                recall,
            )
    best = max(speeds, key=lambda way: speeds[way])
    log.info("index: %s", ", ".join(f"{way} answers {speed:,} queries a second" for way, speed in speeds.items()))
    return Choice(ways[best], found, {**speeds}, recall)


@torch.inference_mode()
def _queries(stored: StoredModel, hidden_Rd: torch.Tensor) -> RealArray:
    found: RealArray = (
        stored.model.query_vectors(hidden_Rd.to(stored.model.tangents.weight.device)).float().cpu().numpy()
    )
    return found


def _tune(
    exact: ItemIndex,
    stored: StoredModel,
    queries: RealArray,
    excluded: Excluded | None,
    wishes: CandidatesConfig,
    seconds: float,
) -> Tuned:
    """Build cells and find how much of them has to be looked at; ``seconds``: what the fastest exact way takes."""
    cells = build(stored, exact.candidate_items, CELLS).index
    assert isinstance(cells, Approximate)
    k = min(wishes.k, len(exact.candidate_items))
    right = exact.search(queries, k, excluded)
    return tune(cells, queries, k, excluded, right, floor=wishes.recall, seconds=seconds)


def _had(candidate_items: CandidateItems, parts: list[Histories]) -> Excluded:
    """What the users of all parts have had, as rows and columns."""
    rows, columns, start = [], [], 0
    for part in parts:
        row, column = candidate_items.seen(part, np.arange(len(part)))
        rows.append(row + start)
        columns.append(column)
        start += len(part)
    return np.concatenate(rows), np.concatenate(columns)


def _speeds(ways: dict[Kind, ItemIndex], queries: RealArray, k: int, excluded: Excluded | None) -> dict[Kind, int]:
    """Queries a second of each way, taken in turns; the best of a few rounds, after one to warm up.

    The queries are asked at once: there are no more of them than scoring asks at once (``index.ROWS``).
    """
    seconds = dict.fromkeys(ways, np.inf)
    for turn in range(_ROUNDS + 1):
        for way, index in ways.items():
            started = time.perf_counter()
            index.search(queries, k, excluded)
            if turn:
                seconds[way] = min(seconds[way], time.perf_counter() - started)
    return {way: round(len(queries) / taken) for way, taken in seconds.items()}
