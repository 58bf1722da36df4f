"""Refit: a short fine-tuning on the validation and held-out days, after the gate has used them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.split import Split
from hmamba.models.files import StoredModel
from hmamba.recipe import Recipe
from hmamba.sequences.histories import Histories
from hmamba.training.batches import Batches
from hmamba.training.fit import Fit, Plan

if TYPE_CHECKING:
    from hmamba.config import Config


def refit(
    stored: StoredModel, histories: Histories, split: Split, snapshot: str, folder: Path, config: Config
) -> dict[str, Any]:
    """Fine-tune a model in place, for one epoch, on the windows that hold validation or held-out events.

    A share ``train.replay`` of the other windows is replayed, and the learning rate is that of fine-tuning. There is no
    validation and no early stopping, because no events are held out.

    Args:
        stored: the model that serves.
        histories: all events up to the end of the day.
        split: tonight's split.
        snapshot: digest of tonight's sequences; a checkpoint of another snapshot is not resumed.
        folder: folder of the checkpoints.
        config: all settings.

    Returns:
        The record of the epoch; empty if no window holds new events.
    """
    known = replace(histories, items=stored.known(histories.items))
    # Positions refer to all events; windows hold only the events that the model reads.
    is_new = np.arange(histories.events) >= split.validation[histories.owner]
    is_read = np.ones(histories.events, dtype=bool) if histories.weights is None else histories.weights > 0
    read = known.keep(is_read)
    recipe = Recipe.for_histories(config, read)
    batches = Batches.of(read, stored.candidate_items, config, recipe, stored.model.learned_term)
    fresh = is_new[is_read][batches.window_end - 1]
    draw = np.random.default_rng([config.train.seed, split.trained_until % (1 << 32)])
    windows = fresh | (draw.random(len(fresh)) < config.train.replay)
    if not fresh.any() or not batches.epoch(config.train.seed, windows):
        return {}
    nothing = np.zeros(0, dtype=np.int64)
    plan = Plan(
        version=f"{stored.version}-refit-{snapshot}",
        batches=batches,
        windows=windows,
        candidate_items=stored.candidate_items,
        evaluation_set=EvaluationSet(read.select(nothing), nothing, nothing, nothing),
        epochs=1,
        learning_rate=config.train.fine_tune_rate,
        warm=True,
        counted_terms=(),
        attributes=None,
        folder=folder,
        config=config,
        recipe=recipe,
    )
    return Fit(stored.model, plan).run()[-1]
