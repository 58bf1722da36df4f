"""How probable a model holds what users took next: a figure that a handful of users steadies better than ranks do."""

from __future__ import annotations

import numpy as np
import torch

from hmamba.evaluation.question import Question
from hmamba.evaluation.ranking import had_by, place_of, taste_blocks
from hmamba.model.hmamba import HMamba
from hmamba.sequences.catalogue import Catalogue


@torch.inference_mode()
def mean_log_likelihood(model: HMamba, question: Question, catalogue: Catalogue, *, exclude_seen: bool) -> float | None:
    """Mean over answers of the logarithm of their softmax probability, as the loss has it.

    Args:
        model: the recommender; transitions, which are weighed after training, are left out.
        question: what is asked.
        catalogue: the items that compete; answers that do not are left out.
        exclude_seen: what the user has seen does not compete.

    Returns:
        The mean, in nats; None where no answer competes.
    """
    device = model.tangents.weight.device
    eligible_V = torch.from_numpy(catalogue.eligible).to(device)
    known = np.zeros(len(question.items), dtype=bool)
    inside = question.items < len(catalogue.column)
    known[inside] = catalogue.column[question.items[inside]] >= 0
    answer_rows, answer_columns = question.rows[known], catalogue.column[question.items[known]]
    total = 0.0
    for rows, hidden_Rd, logits in taste_blocks(model, question.past, catalogue):
        if exclude_seen:
            logits[place_of(*catalogue.seen(question.past, rows), device)] = -torch.inf
        elif model.habit is not None:
            had = had_by(model, question.past, catalogue, rows)
            where = place_of(had.rows, had.columns, device)
            logits[where] = torch.logaddexp(logits[where], model.habit_rates(hidden_Rd, had, eligible_V))
        first, past = np.searchsorted(answer_rows, [rows[0], rows[-1] + 1])
        where = place_of(answer_rows[first:past] - rows[0], answer_columns[first:past], device)
        total += float((logits[where] - torch.logsumexp(logits, dim=1)[where[0]]).double().sum())
    return total / len(answer_rows) if len(answer_rows) else None
