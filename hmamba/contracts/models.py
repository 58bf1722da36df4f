"""Documents about model versions: training, verdict, index, saved recommenders and promotions."""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from hmamba.contracts.document import Document, Moment, Part
from hmamba.contracts.verdict import Verdict


class EpochMetrics(Part):
    """One epoch of a training.

    Attributes:
        epoch: number of the epoch; 0 is the parent before fine-tuning.
        loss: mean training loss; None for epoch 0.
        seconds: wall time without validation.
        events_per_second: training throughput; None for epoch 0.
        curvature: 1/K after the epoch; None for epoch 0.
        ndcg: NDCG@10 on the validation events; None if no user could be evaluated.
        log_likelihood: mean log-likelihood of the validation targets; None if not measured.
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
    """A fitted score term and its effect on the validation events.

    Attributes:
        weights: weight of each feature, by name, where the base score has weight 1; None if the term is left out.
        intervals: half widths of the weights' 95 % intervals, by name; only of features that validation events have.
        users: number of users evaluated on the validation events.
        ndcg, ndcg_without: NDCG@10 on the validation events with and without the term, beside the other terms; None
            without users.
    """

    weights: dict[str, float] | None
    intervals: dict[str, float] = Field(default_factory=dict)
    users: int
    ndcg: float | None = Field(None, alias="ndcg@10")
    ndcg_without: float | None = Field(None, alias="ndcg@10 without")


class RankerFit(Part):
    """A trained ranker and its effect on validation users that its trees had not seen.

    Attributes:
        kept: whether the model uses it.
        users: number of users evaluated.
        ndcg, ndcg_without: their NDCG@10 with and without it; None if it was not trained.
    """

    kept: bool
    users: int
    ndcg: float | None = Field(None, alias="ndcg@10")
    ndcg_without: float | None = Field(None, alias="ndcg@10 without")


class RecipeUsed(Part):
    """Settings that follow from the data where they are not given, see :class:`hmamba.recipe.Recipe`."""

    tokens: int
    epochs: int
    patience: int
    dropout: float
    horizon: int


class TrainingMetrics(Part):
    """A finished training.

    Attributes:
        version: the model version.
        parent: the version it was fine-tuned from; None if trained from scratch.
        epochs: metrics of each epoch, in order.
        events, rows: number of training events and windows.
        items: number of candidate items.
        parameters: number of parameters.
        curvature: 1/K.
        recipe: settings that follow from the data; None in documents from before there was a recipe.
        score_terms: the fitted score terms, by name.
        ranker: the ranker; None without ``rank.model``.
        device: such as cpu or cuda:0.
        processes: number of training processes.
    """

    version: str
    parent: str | None
    epochs: tuple[EpochMetrics, ...]
    events: int
    rows: int
    items: int
    parameters: int
    curvature: float
    recipe: RecipeUsed | None = None
    score_terms: dict[str, ScoreTermFit]
    ranker: RankerFit | None = None
    device: str
    processes: int


class ModelMetrics(Document):
    """A version's ``metrics.json``.

    Attributes:
        training: metrics of the training; None for a model that the train step did not make.
        gate: the newest verdict on the version; None before the first.
    """

    CURE: ClassVar[str] = "Restore it, or train again with --full-retrain."

    training: TrainingMetrics | None
    gate: Verdict | None = None


class IndexDescription(Document):
    """``index.json``: describes the index in the same folder.

    Attributes:
        model_version: identity of the weights whose item vectors are indexed.
        kind: name of the search in :mod:`hmamba.index.registry`.
        sha256: digest of each other file in the folder, by its name.
    """

    CURE: ClassVar[str] = "Run the index step again (python -m jobs.index)."

    model_version: str
    kind: str
    sha256: dict[str, str]


class SavedRecommender(Document):
    """``recommender.json`` in a folder that :meth:`hmamba.recommender.Recommender.save` writes.

    Attributes:
        model_version: version of the model.
        library: frame library of results.
        settings: settings that differ from the defaults.
        sha256: digest of each other file, by its path in the folder.
    """

    CURE: ClassVar[str] = "Save the recommender again, or fit it again."

    model_version: str
    library: str
    settings: dict[str, Any]
    sha256: dict[str, str]


class Promotion(Part):
    """A promotion: ``version`` serves from the night of ``day`` on."""

    version: str
    day: date
    promoted_at: Moment


class Rollback(Part):
    """A promotion that was made by hand, to go back.

    Attributes:
        version: the champion from then on; None for none.
        day: the last day whose promotions were kept.
        from_version: the champion before; None if there was none.
        taken_back: the promotions of later days, oldest first.
        table, from_table: days of the tables that readers had afterwards and before; None for none.
        rolled_back_at: when.
    """

    version: str | None
    day: date
    from_version: str | None
    taken_back: tuple[Promotion, ...] = ()
    table: date | None
    from_table: date | None
    rolled_back_at: Moment


class Promotions(Document):
    """``models/champion.json``.

    Attributes:
        version: the champion, the newest of ``history``; None if a rollback has left none.
        history: the promotions that hold, oldest first.
        rollbacks: all rollbacks, oldest first.
    """

    CURE: ClassVar[str] = "Restore it, or remove it to start from nothing."

    version: str | None
    history: tuple[Promotion, ...]
    rollbacks: tuple[Rollback, ...] = ()

    @model_validator(mode="after")
    def _names_its_champion(self) -> Self:
        if self.version != (self.history[-1].version if self.history else None):
            raise ValueError("version is not the newest of history")
        return self
