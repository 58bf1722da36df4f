"""How much the table of co-occurrence counts beside the trained model: chosen on the validation days.

Only two numbers are chosen, so a few thousand users decide them well; a few dozen would choose noise. They are not
trained with the model: then the model learns only what the table cannot explain, and generalises worse from it
(docs/model.md).
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch

from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import metrics_by_query
from hmamba.evaluation.ranking import base_score_blocks, place_of
from hmamba.model.hmamba import HMamba
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.terms.cooccurrence import Cooccurrence

log = logging.getLogger("hmamba")

_STRENGTHS = (0.5, 1.0, 1.5, 2.0)
_SCALES = (1e-4, 3e-4, 1e-3)


def weigh(
    model: HMamba, counted: Cooccurrence, evaluation_set: EvaluationSet, candidate_items: CandidateItems, enough: int
) -> tuple[Cooccurrence | None, dict[str, float]]:
    """The table with the strength and scale by which the model answers best; None if it answers no better with it.

    Where fewer than ``enough`` users answer, among whom the best of many choices is mostly luck, the table keeps its
    own strength and scale, and it is left out only if the model answers better without it.

    Args:
        model: trained.
        counted: from the training events alone.
        evaluation_set: what to judge by; with nobody to ask the table keeps its own.
        candidate_items: the items that compete.
        enough: users from which on strength and scale are chosen.

    Returns:
        The table, and what was judged: strength (0 if none), scale, ndcg@10 with them, ndcg@10 without any, and users,
        how many answered. With nobody to ask both ndcg@10 are 0.
    """
    users = evaluation_set.judged
    if not users:
        return counted, {**counted.weighing(), "ndcg@10": 0.0, "ndcg@10 without": 0.0, "users": 0}
    choices = [replace(counted, strength=0.0), counted]
    if users >= enough:
        choices[1:] = [replace(counted, strength=strength, scale=scale) for strength in _STRENGTHS for scale in _SCALES]
    values = _judge(model, choices, evaluation_set, candidate_items)
    gain = int(np.argmax(values))  # the first of equal ones: none, unless there is a gain
    number = gain if users >= enough else int(values[1] >= values[0])
    best = choices[number]
    weighed = {**best.weighing(), "ndcg@10": values[number], "ndcg@10 without": values[0], "users": users}
    log.info(
        "train: co-occurrence of strength %g at scale %g: ndcg@10 %.4f, without %.4f, %d users",
        best.strength, best.scale, values[number], values[0], users,
    )  # fmt: skip
    return (best if best.strength else None), weighed


@torch.inference_mode()
def _judge(
    model: HMamba, choices: list[Cooccurrence], evaluation_set: EvaluationSet, candidate_items: CandidateItems
) -> list[float]:
    """NDCG@10 of each choice; the users are encoded and scored once."""
    past, device = evaluation_set.past, model.tangents.weight.device
    depth = min(10, len(candidate_items))
    ranked = np.zeros((len(choices), len(past), depth), dtype=np.int64)
    for rows, _, logits in base_score_blocks(model, past, candidate_items):
        entries = choices[0].after(past, candidate_items, rows)
        where = place_of(entries.rows, entries.columns, device)
        logits[place_of(*candidate_items.seen(past, rows), device)] = -torch.inf
        base_E = logits[where]
        for number, choice in enumerate(choices):
            logits[where] = base_E + torch.from_numpy(choice.raises(entries.shares)).to(device)
            top, columns = (part.cpu().numpy() for part in torch.topk(logits, depth, dim=1))
            ranked[number, rows] = np.where(np.isfinite(top), candidate_items.eligible[columns], -1)
    found = (metrics_by_query(chosen, evaluation_set.rows, evaluation_set.items, cutoffs=(10,)) for chosen in ranked)
    return [float(evaluation_set.by_user(metrics["ndcg@10"]).mean()) for metrics in found]
