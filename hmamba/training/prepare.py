"""What a night trains, on what, from where: everything before the first step."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from hmamba.errors import InputError
from hmamba.evaluation.split import LAST, Split
from hmamba.inference.device import device_of
from hmamba.model.hmamba import HMamba
from hmamba.models.files import Provenance, StoredModel
from hmamba.score_terms import chosen
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray
from hmamba.training.batches import Batches
from hmamba.training.fit import Plan

if TYPE_CHECKING:
    from hmamba.config import Config

log = logging.getLogger("hmamba")

_VALIDATION_USERS = (
    5_000  # or ``gate.min_users`` if that is more: enough for a steady NDCG, few enough to cost little beside an epoch
)


class NothingToLearnError(InputError):
    """The data holds nothing that a model could be trained on; a baseline can be served all the same."""


@dataclass(frozen=True)
class Preparation:
    """A training that is ready to run.

    Attributes:
        provenance: names the version.
        plan: what to do.
        model: where it starts.
        ids: (size,) item ids by index.
    """

    provenance: Provenance
    plan: Plan
    model: HMamba
    ids: pa.Array


def name_training(day: date, snapshot: str, parent: str | None, split: Split, config: Config) -> Provenance:
    """The identity of a training, known before any work is done."""
    return Provenance(day, parent, snapshot, split.trained_until, config.training_digest(), split.mode)


def prepare(
    histories: Histories,
    ids: pa.Array,
    provenance: Provenance,
    parent: StoredModel | None,
    split: Split,
    folder: Path,
    config: Config,
    category: IntArray | None = None,
) -> Preparation:
    """Split in time, choose the windows, build the model.

    From nothing, all windows take part. From a parent, each user's newest window takes part if it holds events that
    the parent has not been trained on, and a share of all others is replayed, so that nothing is forgotten.

    Args:
        histories: all events.
        ids: (size,) item ids by index.
        provenance: names the version.
        parent: the champion, or None.
        split: the days.
        folder: of the checkpoints.
        config: all settings.
        category: (L, size) numbers of the items' categories on the levels of ``model.category_levels``; None without.

    Raises:
        NothingToLearnError: no item has enough events, or nobody took one thing after another.
    """
    settings = config.train
    learnt = split.learnt(histories).read
    counts = learnt.item_events(len(ids))
    holders = torch.from_numpy(learnt.item_users(len(ids)))
    candidate_items = CandidateItems.of(counts, settings.min_item_events)
    if not len(candidate_items):
        raise NothingToLearnError(
            f"no item has train.min_item_events = {settings.min_item_events} events to learn from: load a longer "
            "history, or lower that setting."
        )
    device = device_of(settings.device)
    torch.manual_seed(settings.seed)
    model = HMamba(config.model, len(ids) - 1, device)
    groups = None if category is None else torch.from_numpy(category)
    if parent is None:
        model.start_from_counts(torch.from_numpy(counts), holders, groups)
    else:
        new_items = model.start_from(parent.model, torch.from_numpy(counts), holders, groups)
        log.info("train: starting from %s, %d new items", parent.version, new_items)
    batches = Batches.of(learnt, candidate_items, config, model.learned_term)
    if not batches.rows:
        raise NothingToLearnError("no user has two baskets, one after the other, to learn from: load a longer history.")
    windows = None
    if parent is not None:
        # Where each user's last baskets were held out, no moment tells what is new: every newest window may be.
        since = None if LAST in (split.mode, parent.provenance.split) else parent.provenance.trained_until
        fresh = np.ones(len(batches.newest), dtype=bool)
        if since is not None:
            fresh = learnt.times[batches.window_end - 1] >= since
        night = provenance.day.toordinal()  # other windows every night, the same ones if it is run again
        replayed = np.random.default_rng([settings.seed, night]).random(len(fresh)) < settings.replay
        windows = (fresh & batches.newest) | replayed
    evaluation_set = split.validation_set(histories, config, most=max(_VALIDATION_USERS, config.gate.min_users))
    plan = Plan(
        version=provenance.version,
        batches=batches,
        windows=windows,
        candidate_items=candidate_items,
        evaluation_set=evaluation_set,
        epochs=settings.epochs if parent is None else settings.fine_tune_epochs,
        learning_rate=settings.learning_rate if parent is None else settings.fine_tune_rate,
        warm=parent is not None,
        counted_terms=chosen(config.model.score_term, learned=False),
        folder=folder,
        config=config,
    )
    return Preparation(provenance, plan, model.to(device), ids)


def facts_of(
    preparation: Preparation, epochs: list[dict[str, Any]], weighed: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What a finished training has to say.

    Args:
        preparation: what was trained.
        epochs: what :meth:`Fit.run` tells of each.
        weighed: :attr:`Fit.weighed`, recorded under ``score_terms``.
    """
    model, plan = preparation.model, preparation.plan
    return {
        "version": preparation.provenance.version,
        "parent": preparation.provenance.parent,
        "epochs": epochs,
        "events": plan.batches.histories.events,
        "rows": plan.batches.rows,
        "items": len(plan.candidate_items),
        "parameters": sum(p.numel() for p in model.parameters()),
        "curvature": round(float(model.curvature.detach()), 6),
        "score_terms": weighed,
        "device": str(model.tangents.weight.device),
    }
