"""How probable a model holds what users took next: a figure that a handful of users steadies better than ranks do."""

from __future__ import annotations

import numpy as np
import torch

from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.ranking import base_score_blocks, place_of, repeats_of
from hmamba.model.hmamba import HMamba
from hmamba.sequences.candidate_items import CandidateItems


@torch.inference_mode()
def mean_log_likelihood(
    model: HMamba, evaluation_set: EvaluationSet, candidate_items: CandidateItems, *, exclude_seen: bool
) -> float | None:
    """Mean over answers of the logarithm of their softmax probability, as the loss has it.

    Args:
        model: the recommender; co-occurrence, which are weighed after training, are left out.
        evaluation_set: what is asked.
        candidate_items: the items that compete; answers that do not are left out.
        exclude_seen: what the user has seen does not compete.

    Returns:
        The mean, in nats; None where no answer competes.
    """
    device = model.tangents.weight.device
    eligible_V = torch.from_numpy(candidate_items.eligible).to(device)
    known = np.zeros(len(evaluation_set.items), dtype=bool)
    inside = evaluation_set.items < len(candidate_items.column)
    known[inside] = candidate_items.column[evaluation_set.items[inside]] >= 0
    answer_rows, answer_columns = evaluation_set.rows[known], candidate_items.column[evaluation_set.items[known]]
    total = 0.0
    for rows, hidden_Rd, logits in base_score_blocks(model, evaluation_set.past, candidate_items):
        if exclude_seen:
            logits[place_of(*candidate_items.seen(evaluation_set.past, rows), device)] = -torch.inf
        elif model.repeat_rate is not None:
            repeats = repeats_of(model, evaluation_set.past, candidate_items, rows)
            where = place_of(repeats.rows, repeats.columns, device)
            logits[where] = torch.logaddexp(logits[where], model.log_repeat_rates(hidden_Rd, repeats, eligible_V))
        first, past = np.searchsorted(answer_rows, [rows[0], rows[-1] + 1])
        where = place_of(answer_rows[first:past] - rows[0], answer_columns[first:past], device)
        total += float((logits[where] - torch.logsumexp(logits, dim=1)[where[0]]).double().sum())
    return total / len(answer_rows) if len(answer_rows) else None
