"""The state behind a :class:`hmamba.recommender.Recommender`: its model, index and sequences, trained or read."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa

from hmamba.config import Config
from hmamba.evaluation.split import Split
from hmamba.index import index as item_index
from hmamba.index.index import ItemIndex
from hmamba.inference.device import device_of
from hmamba.models import files as model_files
from hmamba.models.files import StoredModel
from hmamba.sequences.attributes import read_attributes
from hmamba.sequences.categories import read_categories
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import Histories, IntArray, midnight, read_histories
from hmamba.storage.local import LocalStorage
from hmamba.storage.run_layout import RunLayout
from hmamba.training.fit import Fit
from hmamba.training.new_items import with_new_items
from hmamba.training.prepare import name_training, prepare
from hmamba.training.recount import Counts, recount


@dataclass(frozen=True)
class Fitted:
    """The state of a fitted recommender.

    Attributes:
        stored: the model, with counts and counted terms up to the newest event.
        index: index of its items.
        histories: histories of all U users, asked for the day after the last day of the sequences.
        popularity: (size,) number of events of each item index.
        types: Arrow types of user and item ids in results.
        library: frame library of results.
        run: folder of the sequences.
        digest: digest of the sequences.
    """

    stored: StoredModel
    index: ItemIndex
    histories: Histories
    popularity: IntArray
    types: pa.Schema
    library: str
    run: RunLayout
    digest: str

    @classmethod
    def read(cls, run: RunLayout, version: str, device: str, kernels: str, types: pa.Schema, library: str) -> Fitted:
        """Read the sequences, the model and the index of a run.

        Raises:
            ConfigError: there is no such device.
            InputError: a file is missing or damaged.
        """
        stored = model_files.load_serving(run, version, device_of(device), kernels)
        files = Snapshot.open(run)
        manifest, histories = files.manifest, read_histories(files.shards)
        by_position, next_day = manifest.by_position, midnight(manifest.day + timedelta(days=1))
        return cls(
            stored,
            item_index.load(run.index, stored.identity, stored.model.tangents.weight.device),
            histories.asked_next() if by_position else histories.asked_at(next_day),
            model_files.item_events(files.items, len(stored.item_ids)),
            types,
            library,
            run,
            manifest.digest,
        )


def run_in(folder: str | Path) -> RunLayout:
    """Paths of a working folder that is not a root's."""
    storage = LocalStorage.at(str(folder))
    return RunLayout(storage.root, storage)


def train(run: RunLayout, config: Config, day: date, snapshot: str) -> StoredModel:
    """Train on a snapshot; its newest events are for validation, and none are held out."""
    files = Snapshot.open(run)
    histories = read_histories(files.shards)
    split = Split.of(histories, config).without_holdout(histories)
    ids = model_files.vocabulary(files.items)
    provenance = name_training(day, snapshot, None, split, config)
    categories = read_categories(files.items, len(ids))
    attributes = read_attributes(files.items, len(ids))
    ready = prepare(histories, ids, provenance, None, split, run.training, config, categories, attributes)
    Fit(ready.model, ready.plan).run()
    shutil.rmtree(run.training, ignore_errors=True)
    candidate_items = ready.plan.candidate_items
    stored = StoredModel(provenance.version, provenance, ready.model, candidate_items, ids, new_items=ready.new_items)
    counts = Counts.of(histories, len(ids), [stored.model], attributes)
    recount(stored, counts)
    return with_new_items(stored, ids, counts, categories, attributes)
