"""How much a counted score term weighs beside the trained model: chosen on the validation days.

Only a few numbers are chosen, so a few thousand users decide them well; a few dozen would choose noise. They are not
trained with the model: then the model learns only what the term cannot explain, and generalises worse from it
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
    """The term with the weights by which the model answers best; None if it answers no better with it.

    Where fewer than ``enough`` users answer, among whom the best of many choices is mostly luck, the term keeps its
    own weights, and it is left out only if the model answers better without it.

    Args:
        model: trained, with the terms that come before this one.
        counted: from the training events alone.
        evaluation_set: what to judge by; if it is empty, the term keeps its weights.
        candidate_items: the items that compete.
        enough: users from which on the weights are chosen.
        exclude_seen: leave out items that the user has seen.

    Returns:
        The term, and what was judged: weights (None if the term is left out), ndcg@10 with them, ndcg@10 without the
        term (both None if the set is empty), and users, how many answered.
    """
    users = evaluation_set.judged
    if not users:
        return counted, {"weights": counted.weights(), "ndcg@10": None, "ndcg@10 without": None, "users": 0}
    choices = [None, *(counted.choices() if users >= enough else [counted])]
    values = _judge(model, counted, choices, evaluation_set, candidate_items, exclude_seen)
    # The best choice, and the first of equal ones: without the term, unless there is a gain.
    number = int(np.argmax(values)) if users >= enough else int(values[1] >= values[0])
    best = choices[number]
    weights = None if best is None else best.weights()
    named = "left out" if weights is None else "with " + ", ".join(f"{key} {value:g}" for key, value in weights.items())
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
    """NDCG@10 of each choice; the users are encoded and scored once, and the entries computed once."""
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
