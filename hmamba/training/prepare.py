"""Prepare a training: split, windows, initial model and plan."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from hmamba.errors import ConfigError, InputError
from hmamba.evaluation.split import LAST, Split
from hmamba.inference.device import device_of
from hmamba.model.hmamba import HMamba
from hmamba.models.files import Provenance, StoredModel
from hmamba.ranker import lightgbm
from hmamba.recipe import Recipe, with_dropout, with_levels
from hmamba.score_terms import chosen
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.categories import Categories
from hmamba.sequences.histories import Histories, IntArray
from hmamba.training.batches import Batches
from hmamba.training.fit import Plan
from hmamba.training.new_items import described_without_events

if TYPE_CHECKING:
    import scipy.sparse as sp

    from hmamba.config import Config
    from hmamba.config.learning import ModelConfig
    from hmamba.contracts.models import TrainingMetrics

log = logging.getLogger("hmamba")

_VALIDATION_USERS = 5_000
"""Validation users, or ``gate.min_users`` if that is more: the NDCG is stable, and costs little next to an epoch."""


class NothingToLearnError(InputError):
    """The data is insufficient to train a model; a baseline can still be served."""


@dataclass(frozen=True)
class Preparation:
    """A training that is ready to run.

    Attributes:
        provenance: identity of the model version.
        plan: data and parameters of the training.
        model: the initial model.
        ids: (size,) item ids by index.
        new_items: item indices of the catalogue's items without training events, ascending.
    """

    provenance: Provenance
    plan: Plan
    model: HMamba
    ids: pa.Array
    new_items: IntArray


def name_training(day: date, snapshot: str, parent: str | None, split: Split, config: Config) -> Provenance:
    """The identity of a training, derived from its inputs only."""
    return Provenance(day, parent, snapshot, split.trained_until, config.training_digest(), split.mode)


def new_model(
    settings: ModelConfig,
    recipe: Recipe,
    size: int,
    categories: Categories | None,
    parent: StoredModel | None,
    device: torch.device,
) -> tuple[HMamba, Tensor | None]:
    """An untrained model, and (L, size) category numbers for it; None if it has no levels of categories.

    Args:
        settings: ``[model]``.
        recipe: settings from the data.
        size: number of item indices, padding included.
        categories: the items' category paths; None without any.
        parent: the model that training starts from; None to train from scratch.
        device: device that the model will run on.

    Raises:
        InputError: ``model.category_levels`` are deeper than all category paths.
    """
    depth = 0 if categories is None else categories.depth
    settled = with_levels(settings, depth, None if parent is None else parent.model.config)
    model = HMamba(with_dropout(settled, recipe.dropout), size - 1, device)
    numbers = None if categories is None else categories.numbers(settled.category_levels or ())
    return model, None if numbers is None else torch.from_numpy(numbers)


def prepare(
    histories: Histories,
    ids: pa.Array,
    provenance: Provenance,
    parent: StoredModel | None,
    split: Split,
    folder: Path,
    config: Config,
    categories: Categories | None = None,
    attributes: sp.csr_array | None = None,
) -> Preparation:
    """Split the events, choose the training windows and build the model.

    Training from scratch uses all windows. Fine-tuning from a parent uses each user's newest window if it holds events
    that the parent was not trained on, and replays a random share of the other windows to prevent forgetting.

    Args:
        histories: all events.
        ids: (size,) item ids by index.
        provenance: identity of the model version.
        parent: the champion; None to train from scratch.
        split: split into training, validation and held-out events.
        folder: folder of the checkpoints.
        config: all settings.
        categories: the items' category paths; None without any.
        attributes: (size, A) 1 where an item has an attribute; None without attributes.

    Raises:
        ConfigError: ``rank.model = "lightgbm"``, and LightGBM is not installed or cannot be loaded.
        NothingToLearnError: no item has enough events, or no user has two consecutive baskets.
        InputError: ``model.category_levels`` are deeper than all category paths.
    """
    settings = config.train
    ranked = config.has_ranker
    if ranked:
        try:
            lightgbm()  # missing, it is reported before the training and not after it
        except ConfigError as error:
            if config.rank.model != "auto":
                raise
            log.warning("train: no ranker: %s", error)
            ranked = False
    learnable = split.learnt(histories).read
    recipe = Recipe.for_histories(config, learnable)
    log.info("train: %s", recipe)
    counts = learnable.item_events(len(ids))
    users = torch.from_numpy(learnable.item_users(len(ids)))
    candidate_items = CandidateItems.of(counts, settings.min_item_events)
    if not len(candidate_items):
        raise NothingToLearnError(
            f"no item has enough events to learn from (train.min_item_events = {settings.min_item_events}): load a "
            f"longer history{', or lower that setting' if settings.min_item_events > 1 else ''}."
        )
    device = device_of(settings.device)
    torch.manual_seed(settings.seed)
    model, groups = new_model(config.model, recipe, len(ids), categories, parent, device)
    if parent is None:
        model.start_from_counts(torch.from_numpy(counts), users, groups)
    else:
        added = model.start_from(parent.model, torch.from_numpy(counts), users, groups)
        log.info("train: starting from %s, %d new items", parent.version, added)
    new_items = described_without_events(attributes, counts)
    model.forget_items(torch.from_numpy(new_items))
    batches = Batches.of(learnable, candidate_items, config, recipe, model.learned_term)
    if not batches.rows:
        raise NothingToLearnError("no user has two consecutive baskets to learn from: load a longer history.")
    windows = None
    if parent is not None:
        # If each user's last baskets were held out, no point in time separates old from new events, so all newest
        # windows are used.
        since = None if LAST in (split.mode, parent.provenance.split) else parent.provenance.trained_until
        fresh = np.ones(len(batches.newest), dtype=bool)
        if since is not None:
            fresh = learnable.times[batches.window_end - 1] >= since
        night = provenance.day.toordinal()  # replays other windows each night, and the same ones if a night is repeated
        replayed = np.random.default_rng([settings.seed, night]).random(len(fresh)) < settings.replay
        windows = (fresh & batches.newest) | replayed
    evaluation_set = split.validation_set(histories, config, most=max(_VALIDATION_USERS, config.gate.min_users))
    plan = Plan(
        version=provenance.version,
        batches=batches,
        windows=windows,
        candidate_items=candidate_items,
        evaluation_set=evaluation_set,
        epochs=recipe.epochs if parent is None else settings.fine_tune_epochs,
        learning_rate=settings.learning_rate if parent is None else settings.fine_tune_rate,
        warm=parent is not None,
        counted_terms=chosen(config.model.score_terms or (), learned=False),
        attributes=attributes,
        folder=folder,
        config=config,
        recipe=recipe,
        ranked=ranked,
    )
    return Preparation(provenance, plan, model.to(device), ids, new_items)


def training_metrics(
    preparation: Preparation,
    epochs: list[dict[str, Any]],
    weighed: dict[str, dict[str, Any]],
    ranker: dict[str, Any] | None = None,
    processes: int = 1,
) -> TrainingMetrics:
    """The metrics of a finished training.

    Args:
        preparation: the training.
        epochs: result of :meth:`Fit.run`.
        weighed: :attr:`Fit.weighed`.
        ranker: :attr:`Fit.ranker`.
        processes: number of processes.
    """
    from hmamba.contracts.models import TrainingMetrics

    model, plan = preparation.model, preparation.plan
    return TrainingMetrics.model_validate(
        {
            "version": preparation.provenance.version,
            "parent": preparation.provenance.parent,
            "epochs": epochs,
            "events": plan.batches.histories.events,
            "rows": plan.batches.rows,
            "items": len(plan.candidate_items),
            "parameters": sum(p.numel() for p in model.parameters()),
            "curvature": round(float(model.curvature.detach()), 6),
            "recipe": asdict(plan.recipe),
            "score_terms": weighed,
            "ranker": ranker,
            "device": str(model.tangents.weight.device),
            "processes": processes,
        }
    )
