"""How the night searches: in which precision, and by what. Both are measured on some of the night's own queries."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hmamba.evaluation.encode import encode_users
from hmamba.registry import StoredModel
from hmamba.retrieval import overlap
from hmamba.retrieval.index import FLAT, FLOAT64, PRODUCT, ItemIndex, Kind, build
from hmamba.retrieval.overlap import Overlap
from hmamba.sequences.catalogue import Catalogue

log = logging.getLogger("hmamba")

_ROUNDS = 3


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        index: what the night searches.
        overlap: of float32 with float64.
        queries_per_second: of each way to search in float32, with the threads of this process; empty where nobody
            could be asked, or float32 does not do.
    """

    index: ItemIndex
    overlap: Overlap
    queries_per_second: dict[Kind, int]


def choose(stored: StoredModel, catalogue: Catalogue, shards: list[Path], *, k: int, floor: float) -> Choice:
    """Index the catalogue in float32 if that ranks as float64 does, in float64 if not; and by what is fastest.

    Every way to search is exact, so that only the time depends on the choice.

    Args:
        stored: the model that serves.
        catalogue: the items to index.
        shards: the snapshot's sequences, to draw users from.
        k: items that are published for a user.
        floor: least share of the float64 ranking that float32 has to keep.
    """
    single, exact = build(stored, catalogue), build(stored, catalogue, FLOAT64)
    hidden = [encode_users(stored.model, part) for part in overlap.sample(stored, shards)]
    hidden_Rd = torch.cat(hidden) if hidden else torch.zeros(0, stored.model.config.dim)
    found = overlap.measure(stored, single, exact, hidden_Rd, overlap.depth_of(k, len(catalogue)))
    if found.share is None:
        return Choice(single, found, {})
    if found.share < floor:
        log.warning(
            "index: float32 finds only %.4f of the %d best items that float64 finds, less than "
            "candidates.float32_overlap = %g: the search runs in float64, which is slower. With a smaller "
            "model.max_norm float32 would do.",
            found.share,
            found.depth,
            floor,
        )
        return Choice(exact, found, {})
    ways: dict[Kind, ItemIndex] = {FLAT: single, PRODUCT: build(stored, catalogue, PRODUCT)}
    speeds = _speeds(ways, stored, hidden_Rd, k)
    best = max(speeds, key=lambda way: speeds[way])
    log.info("index: %s", ", ".join(f"{way} answers {speed:,} queries a second" for way, speed in speeds.items()))
    return Choice(ways[best], found, {**speeds})


@torch.inference_mode()
def _speeds(ways: dict[Kind, ItemIndex], stored: StoredModel, hidden_Rd: torch.Tensor, k: int) -> dict[Kind, int]:
    """Queries a second of each way, taken in turns; the best of a few rounds, after one to warm up."""
    queries = stored.model.query_vectors(hidden_Rd.to(stored.model.tangents.weight.device)).float().cpu().numpy()
    seconds = dict.fromkeys(ways, np.inf)
    for turn in range(_ROUNDS + 1):
        for way, index in ways.items():
            started = time.perf_counter()
            index.search(queries, k)
            if turn:
                seconds[way] = min(seconds[way], time.perf_counter() - started)
    return {way: round(len(queries) / taken) for way, taken in seconds.items()}
