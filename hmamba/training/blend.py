"""How much the table of transitions counts beside the trained model: chosen on the validation days.

Only two numbers are chosen, so a few thousand users decide them well; a few dozen would choose noise. They are not
trained with the model: then the model learns only what the table cannot explain, and generalises worse from it
(docs/model.md).
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch

from hmamba.evaluation.metrics import metrics_by_question
from hmamba.evaluation.question import Question
from hmamba.evaluation.ranking import place_of, taste_blocks
from hmamba.model.hmamba import HMamba
from hmamba.model.transitions import Transitions
from hmamba.sequences.catalogue import Catalogue

log = logging.getLogger("hmamba")

_STRENGTHS = (0.5, 1.0, 1.5, 2.0)
_SCALES = (1e-4, 3e-4, 1e-3)


def weigh(
    model: HMamba, counted: Transitions, question: Question, catalogue: Catalogue, enough: int
) -> tuple[Transitions | None, dict[str, float]]:
    """The table with the strength and scale by which the model answers best; None if it answers no better with it.

    Where fewer than ``enough`` users answer, among whom the best of many choices is mostly luck, the table keeps its
    own strength and scale, and it is left out only if the model answers better without it.

    Args:
        model: trained.
        counted: from the training events alone.
        question: what to judge by; with nobody to ask the table keeps its own.
        catalogue: the items that compete.
        enough: users from which on strength and scale are chosen.

    Returns:
        The table, and what was judged: strength (0 if none), scale, ndcg@10 with them, ndcg@10 without any, and users,
        how many answered. With nobody to ask both ndcg@10 are 0.
    """
    users = question.judged
    if not users:
        return counted, {**counted.weighing(), "ndcg@10": 0.0, "ndcg@10 without": 0.0, "users": 0}
    choices = [replace(counted, strength=0.0), counted]
    if users >= enough:
        choices[1:] = [replace(counted, strength=strength, scale=scale) for strength in _STRENGTHS for scale in _SCALES]
    values = _judge(model, choices, question, catalogue)
    gain = int(np.argmax(values))  # the first of equal ones: none, unless there is a gain
    number = gain if users >= enough else int(values[1] >= values[0])
    best = choices[number]
    weighed = {**best.weighing(), "ndcg@10": values[number], "ndcg@10 without": values[0], "users": users}
    log.info(
        "train: transitions of strength %g at scale %g: ndcg@10 %.4f, without %.4f, %d users",
        best.strength, best.scale, values[number], values[0], users,
    )  # fmt: skip
    return (best if best.strength else None), weighed


@torch.inference_mode()
def _judge(model: HMamba, choices: list[Transitions], question: Question, catalogue: Catalogue) -> list[float]:
    """NDCG@10 of each choice; the users are encoded and scored once."""
    past, device = question.past, model.tangents.weight.device
    depth = min(10, len(catalogue))
    ranked = np.zeros((len(choices), len(past), depth), dtype=np.int64)
    for rows, _, logits in taste_blocks(model, past, catalogue):
        entries = choices[0].after(past, catalogue, rows)
        where = place_of(entries.rows, entries.columns, device)
        logits[place_of(*catalogue.seen(past, rows), device)] = -torch.inf
        taste_E = logits[where]
        for number, choice in enumerate(choices):
            logits[where] = taste_E + torch.from_numpy(choice.raises(entries.shares)).to(device)
            top, columns = (part.cpu().numpy() for part in torch.topk(logits, depth, dim=1))
            ranked[number, rows] = np.where(np.isfinite(top), catalogue.eligible[columns], -1)
    found = (metrics_by_question(chosen, question.rows, question.items, cutoffs=(10,)) for chosen in ranked)
    return [float(question.by_user(metrics["ndcg@10"]).mean()) for metrics in found]
