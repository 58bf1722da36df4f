"""Small trainings, ready to run."""

from __future__ import annotations

from datetime import date

import pyarrow as pa

from hmamba.config import parse
from hmamba.evaluation.split import Split
from hmamba.training.prepare import name_training, prepare

SMALL = {
    "model": {"dim": 16, "d_state": 8, "head_dim": 16, "dropout": 0.1},
    "train": {"epochs": 12, "tokens": 256, "min_item_events": 1, "learning_rate": 0.01, "patience": 12},
    "gate": {"min_users": 1},
    "candidates": {"exclude_seen": False},
}


def settings(**sections):
    """Settings of a small training with some keys changed, by section."""
    merged = {name: {**SMALL.get(name, {}), **sections.get(name, {})} for name in {*SMALL, *sections}}
    return parse(merged, "test")


def prepared(histories, folder, config=None, parent=None, day=date(2024, 2, 1), snapshot="s", categories=None):
    """A training of these histories with its checkpoints in ``folder``."""
    config = config or settings()
    ids = pa.array([None, *(f"i{n}" for n in range(1, int(histories.items.max()) + 1))])
    split = Split.of(histories, config)
    provenance = name_training(day, snapshot, parent.version if parent else None, split, config)
    return prepare(histories, ids, provenance, parent, split, folder, config, categories)


class KilledError(Exception):
    """Raised in place of the signal that kills a process."""
