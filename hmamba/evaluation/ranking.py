"""Exact ranking by the model itself: every user against every item. The oracle for every index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hmamba.inference.encode import encode_users
from hmamba.model.hmamba import HMamba
from hmamba.progress import track
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray
from hmamba.terms.repeats import RepeatFeatures

_RANK_ROWS = 256


@torch.inference_mode()
def base_score_blocks(
    model: HMamba, histories: Histories, candidate_items: CandidateItems
) -> Iterator[tuple[IntArray, Tensor, Tensor]]:
    """Scores of all competing items by the encoder alone, for a block of users at a time.

    Yields:
        The block's users (R,), their hidden states (R, d) and logits (R, V), on the model's device.
    """
    device = model.tangents.weight.device
    hidden_Ud = encode_users(model, histories).to(device)
    score = model.score()
    items_VX = model.item_vectors(torch.from_numpy(candidate_items.eligible).to(device))
    users = len(histories)
    for start in track(range(0, users, _RANK_ROWS), "rank", -(-users // _RANK_ROWS), "blocks of users"):
        hidden_Rd = hidden_Ud[start : start + _RANK_ROWS]
        rows = np.arange(start, start + len(hidden_Rd))
        yield rows, hidden_Rd, score.logits(model.query_vectors(hidden_Rd) @ items_VX.T)


def repeats_of(model: HMamba, histories: Histories, candidate_items: CandidateItems, rows: IntArray) -> RepeatFeatures:
    """What these users have had of the competing items, with the facts that the model reads."""
    histories = histories.read
    return RepeatFeatures.before(
        histories, candidate_items, rows, histories.offsets[rows + 1], model.category_numbers()
    )


def place_of(rows: IntArray, columns: IntArray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where entries lie in a block's logits."""
    return torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)


@torch.inference_mode()
def rank_all(
    model: HMamba, histories: Histories, candidate_items: CandidateItems, *, k: int, exclude_seen: bool
) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Rank every competing item for every user, exactly.

    Args:
        model: the recommender.
        histories: what is known of the users.
        candidate_items: the items that compete.
        k: items a user.
        exclude_seen: leave out items that the user has seen.

    Returns:
        Item indices (U, k), best first and -1 where none is left, and their scores.
    """
    device = model.tangents.weight.device
    eligible_V = torch.from_numpy(candidate_items.eligible).to(device)
    users, depth = len(histories), min(k, len(candidate_items))
    best = np.full((users, k), -1, dtype=np.int64)
    scores = np.full((users, k), -np.inf, dtype=np.float32)
    for rows, hidden_Rd, logits in base_score_blocks(model, histories, candidate_items):
        if model.cooccurrence is not None:
            entries = model.cooccurrence.after(histories, candidate_items, rows)
            by_E = torch.from_numpy(model.cooccurrence.raises(entries.shares)).to(device)
            logits[place_of(entries.rows, entries.columns, device)] += by_E
        if exclude_seen:
            logits[place_of(*candidate_items.seen(histories, rows), device)] = -torch.inf
        elif model.repeat_rate is not None:
            repeats = repeats_of(model, histories, candidate_items, rows)
            where = place_of(repeats.rows, repeats.columns, device)
            rates_E = model.log_repeat_rates(hidden_Rd, repeats, eligible_V)
            logits[where] = torch.logaddexp(logits[where], rates_E)
        top, columns = (part.cpu().numpy() for part in torch.topk(logits, depth, dim=1))
        best[rows, :depth] = np.where(np.isfinite(top), candidate_items.eligible[columns], -1)
        scores[rows, :depth] = top
    return best, scores
