"""Mean log-likelihood of the relevant items: less noisy than rank metrics when there are few users."""

from __future__ import annotations

import numpy as np
import torch

from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.ranking import place_of, score_blocks
from hmamba.model.hmamba import HMamba
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.terms.base import Entries


@torch.inference_mode()
def mean_log_likelihood(
    model: HMamba, evaluation_set: EvaluationSet, candidate_items: CandidateItems, *, exclude_seen: bool
) -> float | None:
    """Mean log softmax probability of the relevant items, as in the loss.

    Args:
        model: the recommender. While it trains, its score terms are the learned ones, as in the loss.
        evaluation_set: the queries.
        candidate_items: the items of the softmax; relevant items outside it are ignored.
        exclude_seen: whether items that the user has seen are left out of the softmax.

    Returns:
        The mean in nats; None if no relevant item is a candidate item.
    """
    known = np.zeros(len(evaluation_set.items), dtype=bool)
    inside = evaluation_set.items < len(candidate_items.column)
    known[inside] = candidate_items.column[evaluation_set.items[inside]] >= 0
    answer_rows, answer_columns = evaluation_set.rows[known], candidate_items.column[evaluation_set.items[known]]
    total = 0.0
    for block in score_blocks(model, evaluation_set.past, candidate_items):
        logits = block.logits
        if exclude_seen:
            logits[block.seen] = -torch.inf
        first, past = np.searchsorted(answer_rows, [block.users[0], block.users[-1] + 1])
        answers = Entries(answer_rows[first:past] - block.users[0], answer_columns[first:past])
        where = place_of(answers, logits.device)
        total += float((logits[where] - torch.logsumexp(logits, dim=1)[where[0]]).double().sum())
    return total / len(answer_rows) if len(answer_rows) else None
