"""Choose the weights of a counted score term on the validation days.

A few thousand users are enough to choose a few numbers; with a few dozen users the choice is noise. The weights are not
trained with the model, because the model would then learn only the residual of the term and generalise worse
(docs/model.md).
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch

from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import metrics_by_query
from hmamba.evaluation.ranking import best_items, place_of, score_blocks
from hmamba.model.hmamba import HMamba
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.terms.base import AnyCountedTerm

log = logging.getLogger("hmamba")


def weigh(
    model: HMamba,
    counted: AnyCountedTerm,
    evaluation_set: EvaluationSet,
    candidate_items: CandidateItems,
    *,
    enough: int,
    exclude_seen: bool,
) -> tuple[AnyCountedTerm | None, dict[str, Any]]:
    """Choose the term's weights with the largest NDCG@10, or no term if none of them increases it.

    With fewer than ``enough`` users, the best of many choices is mostly noise. The term then keeps its default weights,
    and is dropped only if NDCG@10 is larger without it.

    Args:
        model: the trained model, with the terms that precede this one.
        counted: the term, counted from the training events only.
        evaluation_set: validation users and items; if it is empty, the term keeps its weights.
        candidate_items: the candidate items.
        enough: smallest number of users for a choice of weights.
        exclude_seen: whether items that the user has seen are excluded.

    Returns:
        The term (None if it is dropped), and a record: weights (None if it is dropped), ndcg@10 with the term, ndcg@10
        without it (both None if the set is empty), and the number of users.
    """
    users = evaluation_set.judged
    if not users:
        return counted, {"weights": counted.weights(), "ndcg@10": None, "ndcg@10 without": None, "users": 0}
    choices = [None, *(counted.choices() if users >= enough else [counted])]
    values = _judge(model, counted, choices, evaluation_set, candidate_items, exclude_seen)
    # argmax returns the first of equal values, so the term is dropped unless it increases NDCG@10.
    number = int(np.argmax(values)) if users >= enough else int(values[1] >= values[0])
    best = choices[number]
    weights = None if best is None else best.weights()
    named = "dropped" if weights is None else "with " + ", ".join(f"{key} {value:g}" for key, value in weights.items())
    log.info("train: score term %s: ndcg@10 %.4f, without it %.4f, %d users", named, values[number], values[0], users)
    judged = {"ndcg@10": round(values[number], 6), "ndcg@10 without": round(values[0], 6), "users": users}
    return best, {"weights": weights, **judged}


@torch.inference_mode()
def _judge(
    model: HMamba,
    counted: AnyCountedTerm,
    choices: list[AnyCountedTerm | None],
    evaluation_set: EvaluationSet,
    candidate_items: CandidateItems,
    exclude_seen: bool,
) -> list[float]:
    """NDCG@10 of each choice; users are encoded and scored once, and entries are computed once."""
    depth = min(10, len(candidate_items))
    ranked = np.zeros((len(choices), len(evaluation_set.past), depth), dtype=np.int64)
    for block in score_blocks(model, evaluation_set.past, candidate_items):
        logits, entries = block.logits, counted.entries(block.past, candidate_items)
        where = place_of(entries, logits.device)
        base_E = logits[where]
        for number, choice in enumerate(choices):
            if choice is not None:
                logits[where] = choice.combine(base_E, entries, block.hidden)
            if exclude_seen:
                logits[block.seen] = -torch.inf
            ranked[number, block.users] = best_items(logits, depth, candidate_items)[0]
    found = (metrics_by_query(chosen, evaluation_set.rows, evaluation_set.items, cutoffs=(10,)) for chosen in ranked)
    return [float(evaluation_set.by_user(metrics["ndcg@10"]).mean()) for metrics in found]
