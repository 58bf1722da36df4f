"""Train one model, and keep the ranks of its answers, its top 10 and the radii of its points.

Trainings are expensive and measures are not, so arrays are stored with a training and the page is made from them. The
name of a stored training depends on this file and not on the measures.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bench.protocols import MASKED, TEST, Exam, Experiment
from bench.training import facts_of, model_of, plan_of
from hmamba.config import Config
from hmamba.evaluation.ranking import place_of, score_blocks, shortlist_of
from hmamba.inference.encode import encode_users
from hmamba.model import lorentz
from hmamba.model.hmamba import HMamba
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import IntArray
from hmamba.terms.base import Entries
from hmamba.training.checkpoint import Place
from hmamba.training.fit import Fit

Arrays = dict[str, npt.NDArray[Any]]

WHOLE, ENCODER = "whole model", "encoder alone"
PARTS = (WHOLE, ENCODER)
TOP = 10

_PAIRS = 256  # answers that are compared with all items at once


@torch.inference_mode()
def ranks_of(model: HMamba, exam: Exam, candidate_items: CandidateItems) -> tuple[IntArray, IntArray]:
    """Ranks of the relevant items, and the first items of each query, in the exam's first view.

    Args:
        model: the recommender, with the score terms that it is to be measured with.
        exam: U queries with P relevant items.
        candidate_items: the items that are ranked.

    Returns:
        (P,) rank of each relevant item from 1, 0 if it is not a candidate item; (U, TOP) items, best first.
    """
    truth = exam.evaluation_set
    ranks, top = np.zeros(len(truth.items), dtype=np.int64), np.full((len(truth.past), TOP), -1, dtype=np.int64)
    columns = candidate_items.column[truth.items]
    for block in score_blocks(model, truth.past, candidate_items):
        logits, first = block.logits, int(block.users[0])
        pairs = np.flatnonzero((truth.rows >= first) & (truth.rows <= block.users[-1]) & (columns >= 0))
        place = place_of(Entries(truth.rows[pairs] - first, columns[pairs]), logits.device)
        wanted = logits[place].clone()
        if exam.views[0] == MASKED:
            seen = candidate_items.seen(exam.seen.select(block.users), np.arange(len(block.users)))
            logits[place_of(Entries(*seen), logits.device)] = -torch.inf
            logits[place] = wanted
        number = torch.arange(logits.shape[1], device=logits.device)
        for start in range(0, len(pairs), _PAIRS):
            some = slice(start, start + _PAIRS)
            score, column = wanted[some, None], place[1][some, None]
            of_query = logits[place[0][some]]
            before = (of_query > score) | ((of_query == score) & (number < column))
            ranks[pairs[some]] = 1 + before.sum(dim=1).cpu().numpy()
        best = shortlist_of(block, TOP)
        top[block.users[best.rows], best.places] = candidate_items.eligible[best.columns]
    return ranks, top


@torch.inference_mode()
def radius(model: HMamba, points: torch.Tensor) -> npt.NDArray[np.float32]:
    """Distances (N,) of points (N, d + 1) from the origin: geodesic, for the Euclidean variant the norm."""
    flat = model.config.variant == "euclidean"
    distance = points[:, 1:].norm(dim=1) if flat else lorentz.distance0(points, K=1 / model.curvature)
    found: npt.NDArray[np.float32] = distance.cpu().numpy().astype(np.float32)
    return found


@torch.inference_mode()
def arrays_of(model: HMamba, experiment: Experiment) -> Arrays:
    """What the measures need of a trained model.

    Returns:
        ``ranks PART`` and ``top PART`` for both parts, as of :func:`ranks_of` on the test; ``user radius`` (U,) of the
        queries and ``item radius`` (size,), 0 for padding.
    """
    exam = experiment.exams[TEST]
    found: Arrays = {}
    for part in PARTS:
        counted, learned = model.counted_terms, model.learned_terms
        if part == ENCODER:
            model.counted_terms, model.learned_terms = [], nn.ModuleDict()
        ranks, top = ranks_of(model, exam, experiment.candidate_items)
        model.counted_terms, model.learned_terms = counted, learned
        found |= {f"ranks {part}": ranks.astype(np.int32), f"top {part}": top.astype(np.int32)}
    device = model.tangents.weight.device
    hidden_Ud = encode_users(model, exam.evaluation_set.past).to(device)
    found["user radius"] = radius(model, model.user_points(hidden_Ud))
    items = torch.arange(1, experiment.size, device=device)
    found["item radius"] = np.append(np.float32(0), radius(model, model.item_points(items)))
    return found


class TimedFit(Fit):
    """A fit that records the CPU time of its epochs: unlike wall time, other work on the machine adds little to it."""

    cpu_seconds: list[float]

    def run(self) -> list[dict[str, Any]]:
        """Train; the CPU times are those of the epochs of this call."""
        self.cpu_seconds = []
        return super().run()

    def _epoch(self, place: Place) -> None:
        started = time.process_time()
        super()._epoch(place)
        self.cpu_seconds.append(round(time.process_time() - started, 3))


def train(experiment: Experiment, config: Config, version: str, folder: Path) -> tuple[dict[str, Any], Arrays]:
    """Train until the early stop, or resume from the checkpoint of ``version`` in ``folder``.

    Returns:
        The facts of :func:`bench.training.train` without metrics, with the CPU seconds of the epochs since the resume;
        and :func:`arrays_of` the model.
    """
    model = model_of(experiment, config)
    fit = TimedFit(model, plan_of(experiment, config, model, version, folder))
    epochs = fit.run()
    return {**facts_of(fit, epochs), "cpu_seconds": fit.cpu_seconds}, arrays_of(model, experiment)
