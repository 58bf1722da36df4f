"""Model versions on disk.

    models/<version>/   model.safetensors, config.json, items.parquet, metrics.json, files of counted score terms

Weights are safetensors and everything else is JSON or Parquet, so loading a model never runs code. The name of a
version is derived from its inputs (day, snapshot, parent, settings), so a repeated training finds the version stored.

safetensors is imported in the functions that need it, so that a model in memory does not require it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hmamba.columns import EVENTS, ITEM_ID, ITEM_INDEX
from hmamba.errors import InputError
from hmamba.model.hmamba import HMamba
from hmamba.ranker import Ranker
from hmamba.score_terms import SCORE_TERMS
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray
from hmamba.storage.layout import Layout
from hmamba.storage.local import digest, read_json, write_json
from hmamba.storage.run_layout import CONTENTS, ITEMS, RunLayout
from hmamba.terms.base import WeightedTerm

if TYPE_CHECKING:
    from hmamba.contracts.models import ModelMetrics, TrainingMetrics
    from hmamba.contracts.verdict import Verdict

CURE = "Restore the model's folder, or train again with --full-retrain."
"""How to fix a model version that cannot be read. A damaged list of its files does not say which of them is wrong."""

_ELIGIBLE, _NEW = "eligible", "new"
_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Provenance:
    """The inputs of a training.

    Attributes:
        day: the night that trained the model.
        parent: version that it was fine-tuned from; None if it was trained from scratch.
        snapshot: digest of the sequences that it was trained on.
        trained_until: end of its training events in microseconds since 1970, exclusive.
        settings: digest of the settings that training depends on.
        split: "days", or "last" if each user's last baskets were held out.
    """

    day: date
    parent: str | None
    snapshot: str
    trained_until: int
    settings: str
    split: str = "days"

    @property
    def version(self) -> str:
        """Name of the version: day and digest."""
        return f"{self.day:%Y%m%d}-{digest(asdict(self))[:8]}"


@dataclass(frozen=True)
class StoredModel:
    """A model with its items.

    Attributes:
        version: name of the version.
        provenance: inputs of its training.
        model: the model.
        candidate_items: the candidate items.
        item_ids: (size,) item ids by index, null for an index without an item.
        fingerprint: digest of all files; empty for a model that was not read from files. It differs between models of
            one version with other counts or after a refit.
        new_items: (N,) item indices of new items, ascending; none is a candidate item. See
            :mod:`hmamba.training.new_items`.
    """

    version: str
    provenance: Provenance
    model: HMamba
    candidate_items: CandidateItems
    item_ids: pa.Array
    fingerprint: str = ""
    new_items: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def identity(self) -> str:
        """Version and fingerprint, which identify weights and counts; indexes, states and candidates record it."""
        return f"{self.version}-{self.fingerprint[:8]}" if self.fingerprint else self.version

    def known(self, items: IntArray) -> IntArray:
        """Replace item indices that the model does not know by padding."""
        has_id = ~np.asarray(self.item_ids.is_null())
        inside = np.minimum(items, len(has_id) - 1)
        return np.where((items < len(has_id)) & has_id[inside], items, 0)

    def readable(self, histories: Histories) -> tuple[Histories, npt.NDArray[np.bool_]]:
        """Histories in indices that the model knows, and whether each user (U,) has an event that it can read."""
        known = replace(histories, items=self.known(histories.items))
        return known, np.bincount(known.read.owner, weights=known.read.items > 0, minlength=len(known)) > 0


def vocabulary(path: Path, size: int | None = None) -> pa.Array:
    """Read item ids by index (size,) from a table of items in Parquet; null for an index without an item."""
    return vocabulary_of(pq.read_table(path, columns=[ITEM_INDEX, ITEM_ID]), size)


def vocabulary_of(table: pa.Table, size: int | None = None) -> pa.Array:
    """As :func:`vocabulary`, for a table in memory."""
    index = table[ITEM_INDEX].to_numpy()
    count = int(index.max(initial=0)) + 1 if size is None else size
    where = np.full(count, -1, dtype=np.int64)
    where[index] = np.arange(len(index))
    return table[ITEM_ID].combine_chunks().take(pa.array(where, mask=where < 0))


def item_events(path: Path, size: int) -> IntArray:
    """Read the number of events by item index (size,) from a snapshot's items; indices from ``size`` on are dropped."""
    items = pq.read_table(path, columns=[ITEM_INDEX, EVENTS])
    index, events = items[ITEM_INDEX].to_numpy(), items[EVENTS].to_numpy()
    result = np.zeros(size, dtype=np.int64)
    result[index[index < size]] = events[index < size]
    return result


def save(
    layout: Layout,
    model: HMamba,
    provenance: Provenance,
    candidate_items: CandidateItems,
    ids: pa.Array,
    training: TrainingMetrics | None = None,
    new_items: IntArray | None = None,
) -> str:
    """Store a model version atomically; return its name.

    Args:
        layout: the root.
        model: the model.
        provenance: inputs of its training, which give the name.
        candidate_items: the candidate items.
        ids: (size,) item ids by index, null at 0 and at gaps.
        training: step metrics of the training, stored in metrics.json; None if the train step did not make the model.
        new_items: as :attr:`StoredModel.new_items`; None for none.
    """
    from hmamba.contracts.models import ModelMetrics

    nothing = np.zeros(0, dtype=np.int64)
    new_items = nothing if new_items is None else new_items
    stored = StoredModel(provenance.version, provenance, model, candidate_items, ids, new_items=new_items)
    with layout.storage.write_folder(layout.model(provenance.version)) as folder:
        _write(folder, stored)
        ModelMetrics(training=training).write(folder / layout.model_metrics(provenance.version).name)
    return provenance.version


def save_serving(run: RunLayout, stored: StoredModel) -> None:
    """Store the model that serves a night: a version with counts up to the end of the day, after the refit if any."""
    with run.storage.write_folder(run.model) as folder:
        _write(folder, stored)


def _write(folder: Path, stored: StoredModel) -> None:
    from safetensors.torch import save_file

    from hmamba.contracts.contents import Contents

    model, ids, candidate_items = stored.model, stored.item_ids, stored.candidate_items
    save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, folder / _WEIGHTS)
    description = {
        "model": model.config.model_dump(),
        "size": len(candidate_items.column),
        **asdict(stored.provenance),
        "version": stored.version,
        "counted_terms": {weighted.term.name: dict(weighted.weights) for weighted in model.counted_terms},
        "ranker": None if model.ranker is None else {"depth": model.ranker.depth},
    }
    write_json(folder / _CONFIG, description)
    index = np.flatnonzero(~np.asarray(ids.is_null()))
    items = {
        ITEM_INDEX: pa.array(index, pa.int32()),
        ITEM_ID: ids.take(pa.array(index)),
        _ELIGIBLE: pa.array(candidate_items.column[index] >= 0),
    }
    if len(stored.new_items):
        items[_NEW] = pa.array(np.isin(index, stored.new_items))
    pq.write_table(pa.table(items), folder / ITEMS)
    for weighted in model.counted_terms:
        weighted.term.save(folder)
    if model.ranker is not None:
        model.ranker.save(folder)
    Contents.of(folder).write(folder / CONTENTS)


def load(layout: Layout, version: str, device: torch.device, kernels: str = "auto") -> StoredModel:
    """Load a model version with strict checks.

    Args:
        layout: the root.
        version: name of the version.
        device: device of the model.
        kernels: scan to use on this machine, in place of the setting that the model was trained with.

    Raises:
        InputError: the version does not exist, or a file is damaged.
    """
    folder = layout.storage.local_path(layout.model(version))
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist; model {version} is needed. {CURE}")
    others = (layout.model_metrics(version).name,)  # it is written after the model, and again by the gate
    return _read(folder, version, device, kernels, CURE, others)


def load_serving(run: RunLayout, version: str, device: torch.device, kernels: str = "auto") -> StoredModel:
    """Load the model that serves a night, see :func:`save_serving`.

    Raises:
        InputError: the gate has not stored it, a file is damaged, or its version is not ``version``.
    """
    folder = run.storage.local_path(run.model)
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist. Run the gate step first (python -m jobs.gate).")
    stored = _read(folder, version, device, kernels, "Run the gate step again (python -m jobs.gate).")
    found = read_json(folder / _CONFIG).get("version")
    if found != version:
        raise InputError(f"{folder} holds model {found}, but {version} serves. Run the gate step again.")
    return stored


def _read(
    folder: Path, version: str, device: torch.device, kernels: str, cure: str, others: Sequence[str] = ()
) -> StoredModel:
    from pydantic import ValidationError
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from hmamba.config import ModelConfig
    from hmamba.contracts.contents import Contents
    from hmamba.contracts.document import first_problem

    if not (folder / CONTENTS).is_file():
        raise InputError(f"{folder / CONTENTS} does not exist: {folder.name} is not a whole model. {cure}")
    contents = Contents.read(folder / CONTENTS)
    contents.verify(folder, cure, others)
    description = read_json(folder / _CONFIG, cure)
    try:
        config = ModelConfig.model_validate({**description["model"], "kernels": kernels})
        size = int(description["size"])
        model, weights = HMamba(config, size - 1, device), load_file(folder / _WEIGHTS)
        if config.category_levels:
            model.hold_categories(weights["categories"])
        if model.prior is not None:
            weights.setdefault("prior", model.prior)  # absent in versions that did not store it
        model.load_state_dict(weights, strict=True)
        for name, weights in description["counted_terms"].items():
            model.counted_terms.append(WeightedTerm(SCORE_TERMS[name].load().load(folder, size), weights))
        if ranker := description.get("ranker"):
            model.ranker = Ranker.load(folder, int(ranker["depth"]))
        table = pq.read_table(folder / ITEMS)
        inputs = {field.name: description[field.name] for field in fields(Provenance) if field.name in description}
        provenance = Provenance(**{**inputs, "day": date.fromisoformat(description["day"])})
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = first_problem(error) if isinstance(error, ValidationError) else error
        raise InputError(
            f"{folder}: damaged, or stored by another version of this program ({reason}). {cure}"
        ) from error
    eligible = table[ITEM_INDEX].to_numpy()[table[_ELIGIBLE].to_numpy(zero_copy_only=False)]
    # Versions without new items, and older ones, have no such column.
    new_items = table.filter(table[_NEW])[ITEM_INDEX].to_numpy() if _NEW in table.column_names else []
    return StoredModel(
        version,
        provenance,
        model.to(device).eval(),
        CandidateItems.only(eligible, size),
        vocabulary(folder / ITEMS, size),
        contents.digest,
        np.asarray(new_items, dtype=np.int64),
    )


def check_vocabulary(version: str, item_ids: pa.Array, ids: pa.Array) -> None:
    """Check that a model or baseline and a snapshot use the same item indices.

    Args:
        version: version of the model or baseline.
        item_ids: (size,) its item ids by index.
        ids: (size,) the snapshot's item ids by index.

    Raises:
        InputError: an index refers to another item, the first of which the message names; or the model knows items that
            the snapshot does not.
    """
    common = min(len(ids), len(item_ids))
    beyond = item_ids.slice(common)
    if beyond.null_count < len(beyond):
        raise InputError(
            f"{version} knows {len(beyond) - beyond.null_count} items that the warehouse does not. "
            "Restore the newer warehouse, or run a whole night with --full-retrain."
        )
    trained, current = item_ids.slice(0, common), ids.slice(0, common)
    both = ~np.asarray(trained.is_null()) & ~np.asarray(current.is_null())
    wrong = np.flatnonzero(both & (np.asarray(trained, dtype=object) != np.asarray(current, dtype=object)))
    if len(wrong):
        i = int(wrong[0])
        raise InputError(
            f"{version}: item_index {i} was item {trained[i].as_py()!r} in training and is {current[i].as_py()!r} in "
            "the warehouse. The warehouse was rebuilt: run a whole night with --full-retrain."
        )


def read_metrics(layout: Layout, version: str) -> ModelMetrics:
    """A version's metrics.json.

    Raises:
        InputError: it is missing or cannot be read.
    """
    from hmamba.contracts.models import ModelMetrics

    return ModelMetrics.read(layout.model_metrics(version), layout.storage)


def record_verdict(layout: Layout, version: str, verdict: Verdict) -> None:
    """Enter the newest verdict on a version into its metrics.json."""
    metrics = read_metrics(layout, version)
    if metrics.gate != verdict:
        metrics.model_copy(update={"gate": verdict}).write(layout.model_metrics(version), layout.storage)
