"""Exact ranking: the model scores every candidate item for every user. The reference for every index."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hmamba.inference.encode import encode_users
from hmamba.model.hmamba import HMamba
from hmamba.progress import track
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray
from hmamba.terms.base import Entries

_RANK_ROWS = 256


@dataclass(frozen=True)
class ScoreBlock:
    """The scores of all candidate items for a block of R users.

    Attributes:
        users: (R,) positions of the users.
        past: (R) their histories.
        logits: (R, V) their scores, on the model's device, score terms included.
        seen: (row, column) of the items that the users have seen, on the model's device.
    """

    users: IntArray
    past: Histories
    logits: Tensor
    seen: tuple[Tensor, Tensor]


@torch.inference_mode()
def score_blocks(model: HMamba, histories: Histories, candidate_items: CandidateItems) -> Iterator[ScoreBlock]:
    """Score all candidate items, one block of users at a time."""
    device = model.tangents.weight.device
    hidden_Ud = encode_users(model, histories).to(device)
    score = model.score()
    items_VX = model.item_vectors(torch.from_numpy(candidate_items.eligible).to(device))
    users = len(histories)
    for start in track(range(0, users, _RANK_ROWS), "rank", -(-users // _RANK_ROWS), "blocks of users"):
        hidden_Rd = hidden_Ud[start : start + _RANK_ROWS]
        rows = np.arange(start, start + len(hidden_Rd))
        past = histories.select(rows)
        logits_RV = score.logits(model.query_vectors(hidden_Rd) @ items_VX.T)
        for term in model.terms:
            entries = term.entries(past, candidate_items)
            where = place_of(entries, device)
            logits_RV[where] = term.combine(logits_RV[where], entries, hidden_Rd)
        seen = place_of(Entries(*candidate_items.seen(past, np.arange(len(past)))), device)
        yield ScoreBlock(rows, past, logits_RV, seen)


def place_of(entries: Entries, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of entries in a block's logits, on a device."""
    return torch.from_numpy(entries.rows).to(device), torch.from_numpy(entries.columns).to(device)


@torch.inference_mode()
def rank_all(
    model: HMamba, histories: Histories, candidate_items: CandidateItems, *, k: int, exclude_seen: bool
) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Rank all candidate items for every user, exactly.

    Args:
        model: the recommender.
        histories: histories of U users.
        candidate_items: the items to rank.
        k: number of items for each user.
        exclude_seen: whether items that the user has seen are left out.

    Returns:
        Item indices (U, k), best first and -1 where none is left, and their scores.
    """
    users, depth = len(histories), min(k, len(candidate_items))
    best = np.full((users, k), -1, dtype=np.int64)
    scores = np.full((users, k), -np.inf, dtype=np.float32)
    for block in score_blocks(model, histories, candidate_items):
        if exclude_seen:
            block.logits[block.seen] = -torch.inf
        best[block.users, :depth], scores[block.users, :depth] = best_items(block.logits, depth, candidate_items)
    return best, scores


def best_items(
    logits_RV: Tensor, depth: int, candidate_items: CandidateItems
) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """The ``depth`` best items (R, depth) of each row, -1 where the score is not finite, and their scores."""
    top, columns = (part.cpu().numpy() for part in torch.topk(logits_RV, depth, dim=1))
    return np.where(np.isfinite(top), candidate_items.eligible[columns], -1), top
