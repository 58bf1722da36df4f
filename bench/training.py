"""Train the product's model on an experiment with the night's own batches, model, loop and ranking."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.datasets import attributes_of, read_categories
from bench.new_items import LEVEL, measure_new, split_items
from bench.protocols import DEPTH, TEST, Exam, Experiment, measure
from hmamba.config import Config
from hmamba.errors import InputError
from hmamba.evaluation.ranking import Quota, Table, rank_all, rank_served
from hmamba.inference.device import device_of
from hmamba.model.hmamba import HMamba
from hmamba.models.files import Provenance, StoredModel
from hmamba.recipe import Recipe
from hmamba.score_terms import chosen
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.categories import number_categories
from hmamba.terms.base import WeightedTerm
from hmamba.training.batches import Batches
from hmamba.training.fit import Fit, Plan
from hmamba.training.prepare import new_model
from hmamba.training.recount import Counts, recount

COUNTED = "validation events counted"
"""A part that is measured on the test only: popularity and score terms also count the validation events. Tangents and
weights are those of the training."""

_OVERWHELMING = 1e4  # a factor of weights at which the base score only breaks ties


def plan_of(experiment: Experiment, config: Config, model: HMamba, version: str, folder: Path) -> Plan:
    """The training plan, as :func:`hmamba.training.prepare.prepare` makes it for a night that trains from scratch.

    Raises:
        InputError: no user has two training events.
    """
    recipe = Recipe.for_histories(config, experiment.train)
    categories = read_categories(experiment.items, experiment.ids)
    attributes = None if categories is None else attributes_of(categories)
    candidate_items, _ = split_items(experiment, attributes)
    batches = Batches.of(experiment.train, candidate_items, config, recipe, model.learned_term)
    if not batches.rows:
        raise InputError("no user has two training events: use a larger data set.")
    return Plan(
        version=version,
        batches=batches,
        windows=None,
        candidate_items=candidate_items,
        evaluation_set=experiment.stop.evaluation_set,
        epochs=recipe.epochs,
        learning_rate=config.train.learning_rate,
        warm=False,
        counted_terms=chosen(config.model.score_terms or (), learned=False),
        attributes=attributes,
        folder=folder,
        config=config,
        recipe=recipe,
        ranked=config.has_ranker,
    )


def model_of(experiment: Experiment, config: Config) -> HMamba:
    """An untrained model whose bias is set to the popularity in the training events."""
    device = device_of(config.train.device)
    torch.manual_seed(config.train.seed)
    recipe = Recipe.for_histories(config, experiment.train)
    categories = read_categories(experiment.items, experiment.ids)
    model, groups = new_model(config.model, recipe, experiment.size, categories, None, device)
    events, users = experiment.train.item_events(experiment.size), experiment.train.item_users(experiment.size)
    model.start_from_counts(torch.from_numpy(events), torch.from_numpy(users), groups)
    _, new = split_items(experiment, None if categories is None else attributes_of(categories))
    model.forget_items(torch.from_numpy(new.eligible))
    return model.to(device)


def _measure(model: HMamba, experiment: Experiment, known: CandidateItems, new: CandidateItems) -> dict[str, Any]:
    measured = {}
    for name, exam in experiment.exams.items():
        merit = Quota(exam.depth, 0)
        past = exam.evaluation_set.past
        ranked = rank_served(model, past, known, new, depth=exam.depth, quota=merit, exclude_seen=False)
        measured[name] = measure(ranked, exam, len(known) + len(new))
    return measured


def _measure_new(model: HMamba, experiment: Experiment, known: CandidateItems, new: CandidateItems) -> dict[str, Any]:
    """Metrics of new and rare items, see :mod:`bench.new_items`; empty without categories."""
    categories = read_categories(experiment.items, experiment.ids)
    if categories is None or not categories.depth:
        return {}

    def rank(exam: Exam, exclude_seen: bool) -> tuple[Table, Table]:
        past = exam.evaluation_set.past
        found = [rank_all(model, past, items, k=DEPTH, exclude_seen=exclude_seen) for items in (known, new)]
        return found[0], found[1]

    category = number_categories(categories.paths, categories.index, categories.size, LEVEL)
    return measure_new(experiment, experiment.exams[TEST], rank, new, category)


def _recount(model: HMamba, experiment: Experiment, known: CandidateItems) -> None:
    """Count the validation events too, as the gate does before a model serves."""
    categories = read_categories(experiment.items, experiment.ids)
    attributes = None if categories is None else attributes_of(categories)
    provenance = Provenance(date.min, None, "", 0, "")
    counts = Counts.of(experiment.countable, experiment.size, [model], attributes)
    recount(StoredModel("", provenance, model, known, experiment.ids), counts)


def _overwhelming(weighted: WeightedTerm) -> WeightedTerm:
    return replace(weighted, weights={name: weight * _OVERWHELMING for name, weight in weighted.weights.items()})


def facts_of(fit: Fit, epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """Facts of a finished training, see :func:`train`."""
    judged = [epoch["ndcg@10"] if epoch["ndcg@10"] is not None else -np.inf for epoch in epochs]
    return {
        "epochs": epochs,
        "weighed": fit.weighed,
        "best_epoch": epochs[int(np.argmax(judged))]["epoch"],
        "seconds": sum(epoch["seconds"] + epoch["validation_seconds"] for epoch in epochs),
        "parameters": sum(p.numel() for p in fit.model.parameters() if p.requires_grad),
        "curvature": float(fit.model.curvature.detach()),
        "device": str(fit.model.tangents.weight.device),
    }


def train(experiment: Experiment, config: Config, version: str, folder: Path) -> dict[str, Any]:
    """Train until the early stop, or resume from the checkpoint of ``version`` in ``folder``, and measure.

    Returns:
        measured: metrics by test, group and view; parts: the same for parts of the model; new_items: metrics of new and
        rare items by system and group, empty without categories; epochs: the records of the
        training loop; weighed: :attr:`Fit.weighed`; best_epoch; seconds: all epochs with their validation; parameters;
        curvature; device.
    """
    model = model_of(experiment, config)
    fit = Fit(model, plan_of(experiment, config, model, version, folder))
    epochs = fit.run()
    categories = read_categories(experiment.items, experiment.ids)
    items = split_items(experiment, None if categories is None else attributes_of(categories))
    measured, parts = _measure(model, experiment, *items), {}
    new_items = _measure_new(model, experiment, *items)
    terms = model.counted_terms
    if terms:
        model.counted_terms = []
        parts["without counted terms"] = _measure(model, experiment, *items)
        model.counted_terms = [_overwhelming(weighted) for weighted in terms]
        parts["counted terms alone"] = _measure(model, experiment, *items)
    for weighted in terms if len(terms) > 1 else ():
        model.counted_terms = [other for other in terms if other is not weighted]
        parts[f"without {weighted.term.name}"] = _measure(model, experiment, *items)
        model.counted_terms = [_overwhelming(weighted)]
        parts[f"{weighted.term.name} alone"] = _measure(model, experiment, *items)
    model.counted_terms = terms
    if TEST in experiment.exams:
        _recount(model, experiment, items[0])
        parts[COUNTED] = {TEST: _measure(model, experiment, *items)[TEST]}
    return {"measured": measured, "parts": parts, "new_items": new_items, **facts_of(fit, epochs)}
