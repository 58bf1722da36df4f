"""What training records, in words: what stopped it, what score terms add, and what the serving model knows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hmamba.report.gather import Json, Night
from hmamba.report.judged import relative
from hmamba.report.text import counted
from hmamba.score_terms import SCORE_TERMS

LIKELIHOOD = "log_likelihood"
VALIDATION = {"ndcg@10": "validation NDCG@10", LIKELIHOOD: "validation log-likelihood"}
"""What is measured after each epoch; the more, the better."""


def finite(value: object) -> bool:
    """Whether a figure is a number that can be shown."""
    return isinstance(value, int | float) and math.isfinite(value)


def early_stopping(epochs: Sequence[Json]) -> str:
    """By what early stopping judged, and which epoch is kept: the log-likelihood decides where it was measured."""
    key = next((key for key in (LIKELIHOOD, "ndcg@10") if any(finite(epoch.get(key)) for epoch in epochs)), None)
    if key is None:
        return "Nobody could be asked on the validation events, so nothing stopped the training early."
    best = int(max((epoch for epoch in epochs if finite(epoch.get(key))), key=lambda epoch: float(epoch[key]))["epoch"])
    kept = f"Epoch {best} is kept" if best else "Epoch 0, the champion before fine-tuning, is kept"
    if key == "ndcg@10":
        return f"Early stopping judged by NDCG@10 on the validation events. {kept}."
    return (
        "Early stopping judged by the mean log-likelihood of the validation answers, because fewer than gate.min_users "
        f"users could be asked: the NDCG@10 of so few is mostly luck. {kept}."
    )


def score_term(judged: Json, name: str) -> str:
    """What a counted score term adds, as the training judged it."""
    evidence = SCORE_TERMS[name].evidence if name in SCORE_TERMS else "a score term"
    what = f"{evidence[0].upper()}{evidence[1:]} ({name})"
    asked, without = counted(int(judged["users"]), "user"), judged["ndcg@10 without"]
    if judged["weights"] is None:
        return f"{what} is left out: no help on the validation events (NDCG@10 {without:.4f} without it, {asked})."
    weights = ", ".join(f"{key} {value:g}" for key, value in judged["weights"].items())
    if not judged["users"]:
        return f"{what} raises scores with {weights}, untested: no user could be tested on the validation events."
    with_it = judged["ndcg@10"]
    change = relative(with_it, without)
    return (
        f"{what} raises scores with {weights}: validation NDCG@10 {with_it:.4f} with it, {without:.4f} without"
        f" ({change + ', ' if change else ''}{asked})."
    )


def what_serves_knows(night: Night) -> str:
    """Up to when the model that serves has counted and learnt; empty where a baseline serves, or nothing is known."""
    gate = night.facts.get("gate", {})
    if night.baseline is not None or not (night.verdict or {}).get("serving") or "refit" not in gate:
        return ""
    counts = (
        "The model that serves counts popularity, repeat purchases and co-occurrence up to the end of "
        f"{night.day}; for the verdict they ended where the held-out events begin."
    )
    refit = gate["refit"]
    if refit is None:
        return f"{counts} Its weights are those that were judged."
    if not refit:
        return f"{counts} A refit found nothing new to learn, so its weights are those that were judged."
    figures = [f"loss {refit['loss']:.4f}"] if finite(refit.get("loss")) else []
    figures += [f"{refit['seconds']:.1f} s"] if finite(refit.get("seconds")) else []
    told = f" ({', '.join(figures)})" if figures else ""
    return (
        f"{counts} After the verdict it was fine-tuned for one more epoch on the validation and held-out events{told}."
    )
