from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hmamba.contracts.models import EpochMetrics
from hmamba.report.gather import Night, gather
from hmamba.report.learnt import early_stopping, what_serves_knows
from hmamba.storage.layout import Layout
from tests.report.metrics_of_night import DAY, RUN, baseline_verdict, gate_metrics, verdict


def epochs(*figures: tuple[float | None, float | None]) -> list[EpochMetrics]:
    """Epochs from 0 with their NDCG@10 and log-likelihood."""
    return [
        EpochMetrics(epoch=number, loss=1.0, seconds=1.0, ndcg=ndcg, log_likelihood=likelihood)
        for number, (ndcg, likelihood) in enumerate(figures)
    ]


def test_the_log_likelihood_decides_where_it_was_measured() -> None:
    told = early_stopping(epochs((0.3, -5.0), (0.1, -4.0), (0.2, -4.5)))
    assert "used the mean log-likelihood of the validation targets, because fewer than gate.min_users users" in told
    assert told.endswith("Epoch 1 is kept.")


def test_else_ndcg_decides_and_the_first_of_equal_epochs_is_kept() -> None:
    told = early_stopping(epochs((0.1, None), (0.3, None), (0.3, None)))
    assert told == "Early stopping used NDCG@10 on the validation events. Epoch 1 is kept."


def test_a_champion_that_fine_tuning_did_not_improve_is_named() -> None:
    assert "Epoch 0, the champion before fine-tuning, is kept." in early_stopping(epochs((0.3, None), (0.2, None)))


def test_no_validation_users_are_reported() -> None:
    assert "so there was no early stopping" in early_stopping(epochs((None, None)))


@pytest.fixture(scope="module")
def night(night_layout: Layout) -> Night:
    return gather(night_layout, DAY, RUN)


REFIT = EpochMetrics(epoch=1, loss=4.25, seconds=3.04)


@pytest.mark.parametrize(
    ("refit", "expected"),
    [
        (
            {},
            "for the verdict, counts ended where the held-out events begin. Its weights are those that were evaluated.",
        ),
        (
            {"refit_skipped_reason": "nothing new to learn"},
            "No refit: nothing new to learn. Its weights are those that were evaluated.",
        ),
        (
            {"refit": REFIT},
            "After the verdict it was fine-tuned for one more epoch on the validation and held-out events "
            "(loss 4.2500, 3.0 s).",
        ),
        ({"refit": REFIT.model_copy(update={"loss": float("nan")})}, "held-out events (3.0 s)."),
    ],
)
def test_what_serves_knows(night: Night, refit: dict[str, Any], expected: str) -> None:
    told = what_serves_knows(replace(night, steps=replace(night.steps, gate=gate_metrics(verdict(), **refit))))
    assert "What the serving model counts, it counts up to the end of 2024-01-30" in told
    assert told.endswith(expected)


def test_a_baseline_has_no_model_to_speak_of(night: Night) -> None:
    assert what_serves_knows(replace(night, verdict=baseline_verdict())) == ""
