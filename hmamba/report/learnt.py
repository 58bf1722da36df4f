"""Text about training: early stopping, score terms, and which events the serving model includes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hmamba.contracts.models import EpochMetrics, RankerFit, RecipeUsed, ScoreTermFit
from hmamba.recipe import Recipe
from hmamba.report.gather import Night
from hmamba.score_terms import SCORE_TERMS
from hmamba.text import counted, relative

VALIDATION = {"ndcg": "validation NDCG@10", "log_likelihood": "validation log-likelihood"}
"""Metrics measured after each epoch; higher is better."""


def finite(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def early_stopping(epochs: Sequence[EpochMetrics]) -> str:
    """The metric of early stopping and the epoch that is kept. The log-likelihood decides if it was measured."""
    likelihoods = {epoch.epoch: epoch.log_likelihood for epoch in epochs if finite(epoch.log_likelihood)}
    measured = likelihoods or {epoch.epoch: epoch.ndcg for epoch in epochs if finite(epoch.ndcg)}
    if not measured:
        return "No user could be evaluated on the validation events, so there was no early stopping."
    best = max(measured, key=lambda epoch: measured[epoch] or 0.0)
    kept = f"Epoch {best} is kept" if best else "Epoch 0, the champion before fine-tuning, is kept"
    if not likelihoods:
        return f"Early stopping used NDCG@10 on the validation events. {kept}."
    return (
        "Early stopping used the mean log-likelihood of the validation targets, because fewer than gate.min_users "
        f"users could be evaluated: the NDCG@10 of so few is mostly noise. {kept}."
    )


def recipe(used: RecipeUsed) -> str:
    """The settings of a training that follow from the data where they are not given."""
    return f"The recipe of a training from scratch on this data: {Recipe(**used.model_dump())}."


def score_term(fit: ScoreTermFit, name: str) -> str:
    """The effect of a score term on the validation events."""
    evidence = SCORE_TERMS[name].evidence if name in SCORE_TERMS else "a score term"
    what = f"{evidence[0].upper()}{evidence[1:]} ({name})"
    without, with_it = fit.ndcg_without, fit.ndcg
    if without is None or with_it is None:
        return f"{what} raises scores by {_weights(fit)}, untested: no user could be tested on the validation events."
    judged = _judged(with_it, without, counted(fit.users, "user"))
    if fit.weights is None:
        why = "it does not help" if with_it <= without else "its help cannot be told from chance"
        return f"{what} is left out, because {why}: {judged}."
    return f"{what} raises scores by {_weights(fit)}: {judged}."


def ranker(fit: RankerFit) -> str:
    """The effect of the ranker on validation users that its trees had not seen."""
    users, without, with_it = counted(fit.users, "user"), fit.ndcg_without, fit.ndcg
    if without is None or with_it is None:
        return f"No ranker was trained: {users} with validation events are too few, or took nothing near the top."
    judged = _judged(with_it, without, f"{users} that its trees had not seen")
    if fit.kept:
        return f"The ranker orders each user's best items: {judged}."
    return f"The ranker is left out, because its help cannot be told from chance: {judged}."


def _judged(with_it: float, without: float, users: str) -> str:
    """What a part of the model brings on the validation events."""
    change = relative(with_it, without)
    figures = f"validation NDCG@10 {with_it:.4f} with it, {without:.4f} without"
    return f"{figures} ({change + ', ' if change else ''}{users})"


def _weights(fit: ScoreTermFit) -> str:
    """The weights in words; features without validation events are named only if no feature has any."""
    weights = fit.weights or {}
    if not fit.intervals:
        return ", ".join(f"{value:.3g} x {name}" for name, value in weights.items()) + " (default weights)"
    return ", ".join(f"{weights[name]:.3g} \u00b1 {half:.2g} x {name}" for name, half in fit.intervals.items())


def what_serves_knows(night: Night) -> str:
    """Up to when the serving model includes events; empty if a baseline serves, or nothing is recorded."""
    gate = night.steps.gate
    if gate is None or night.verdict is None or night.verdict.serving is None or night.baseline is not None:
        return ""
    counts = (
        f"What the serving model counts, it counts up to the end of {night.day}; for the verdict, counts ended where "
        "the held-out events begin."
    )
    refit = gate.refit
    if refit is None:
        skipped = f" No refit: {gate.refit_skipped_reason}." if gate.refit_skipped_reason else ""
        return f"{counts}{skipped} Its weights are those that were evaluated."
    loss = f"loss {refit.loss:.4f}, " if finite(refit.loss) else ""
    return (
        f"{counts} After the verdict it was fine-tuned for one more epoch on the validation and held-out events "
        f"({loss}{refit.seconds:.1f} s)."
    )
