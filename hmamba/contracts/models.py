"""What is known of model versions: their training, their verdict, their promotions."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from pydantic import Field

from hmamba.contracts.document import Document, Moment, Part
from hmamba.contracts.verdict import Verdict


class EpochMetrics(Part):
    """One epoch of a training.

    Attributes:
        epoch: its number; 0 is the parent before fine-tuning.
        loss: mean training loss; None for epoch 0.
        seconds: wall time without validation.
        events_per_second: read by the model; None for epoch 0.
        curvature: 1/K after the epoch; None for epoch 0.
        ndcg: NDCG@10 on the validation events; None where nobody could be judged.
        log_likelihood: mean over the validation answers; None where it was not measured.
        validation_seconds: wall time of the validation.
    """

    epoch: int
    loss: float | None
    seconds: float
    events_per_second: int | None = None
    curvature: float | None = None
    ndcg: float | None = Field(None, alias="ndcg@10")
    log_likelihood: float | None = None
    validation_seconds: float | None = None


class ScoreTermFit(Part):
    """What a counted score term adds to a trained model.

    Attributes:
        weights: of the term, by name; None if the term is left out.
        users: users of the validation events; 0 where nobody could be judged.
        ndcg, ndcg_without: NDCG@10 on the validation events with and without the term; None without users.
    """

    weights: dict[str, float] | None
    users: int
    ndcg: float | None = Field(None, alias="ndcg@10")
    ndcg_without: float | None = Field(None, alias="ndcg@10 without")


class TrainingMetrics(Part):
    """A finished training.

    Attributes:
        version: the model version.
        parent: the version it was fine-tuned from; None if it was trained from nothing.
        epochs: in order.
        events, rows: events and windows that it was trained on.
        items: candidate items.
        parameters: number of weights.
        curvature: 1/K.
        score_terms: by name, the counted terms that were weighed.
        device: such as cpu or cuda:0.
        processes: that trained together.
    """

    version: str
    parent: str | None
    epochs: tuple[EpochMetrics, ...]
    events: int
    rows: int
    items: int
    parameters: int
    curvature: float
    score_terms: dict[str, ScoreTermFit]
    device: str
    processes: int


class ModelMetrics(Document):
    """A version's ``metrics.json``.

    Attributes:
        training: None for a model that the train step did not make.
        gate: the newest verdict on it; None before the first.
    """

    CURE: ClassVar[str] = "Restore it, or train again with --full-retrain."

    training: TrainingMetrics | None
    gate: Verdict | None = None


class TrainingResult(Document):
    """What the train step of a run hands to its gate.

    Attributes:
        version: the challenger; None if nothing was trained.
        parent: what it was fine-tuned from, or would have been.
        skipped_reason: why nothing was trained, in words; None if something was.
    """

    CURE: ClassVar[str] = "Run the train step again (python -m jobs.train)."

    version: str | None
    parent: str | None
    skipped_reason: str | None


class Promotion(Part):
    """A version serves from the night of ``day`` on."""

    version: str
    day: date
    promoted_at: Moment


class Promotions(Document):
    """``models/champion.json``. ``version`` is the champion, the newest of ``history``, which is oldest first."""

    CURE: ClassVar[str] = "Restore it, or remove it to start from nothing."

    version: str
    history: tuple[Promotion, ...] = Field(min_length=1)
