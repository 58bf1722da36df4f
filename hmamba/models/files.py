"""Model versions on disk, and which of them serves.

    models/<version>/   model.safetensors, config.json, items.parquet, metrics.json, files of counted score terms
    models/champion.json

Weights are safetensors and everything else is JSON or Parquet: loading a model never runs code. A version is named by
what it was trained from (day, snapshot, parent, settings), so training the same thing twice finds it already there.

What only reading and writing a version needs is imported there, so that a model can be held in memory without it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hmamba.columns import ITEM_ID, ITEM_INDEX
from hmamba.errors import InputError
from hmamba.model.hmamba import HMamba
from hmamba.score_terms import SCORE_TERMS
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray
from hmamba.storage.layout import ITEMS, Layout, RunLayout
from hmamba.storage.local import digest, read_json, sha256, write_json

if TYPE_CHECKING:
    from hmamba.contracts.models import ModelMetrics, TrainingMetrics
    from hmamba.contracts.verdict import Verdict

_ELIGIBLE = "eligible"
_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from.

    Attributes:
        day: the night that trained it.
        parent: the version it was fine-tuned from, or None.
        snapshot: digest of the sequences it was trained on.
        trained_until: end of its training events, microseconds, exclusive.
        settings: digest of the settings that training depends on.
        split: "days", or "last" where each user's last baskets were held out of the training.
    """

    day: date
    parent: str | None
    snapshot: str
    trained_until: int
    settings: str
    split: str = "days"

    @property
    def version(self) -> str:
        """The version's name: day and digest."""
        return f"{self.day:%Y%m%d}-{digest(asdict(self))[:8]}"


@dataclass(frozen=True)
class StoredModel:
    """A model with the items it knows.

    Attributes:
        version: its name.
        provenance: where it comes from.
        model: the weights.
        candidate_items: the items that compete.
        item_ids: (size,) item ids by index, null where an index has no item.
        fingerprint: digest of the weights as they were read; empty for a model that was not. Of one version, weights
            with other counts or a refit differ.
    """

    version: str
    provenance: Provenance
    model: HMamba
    candidate_items: CandidateItems
    item_ids: pa.Array
    fingerprint: str = ""

    @property
    def identity(self) -> str:
        """What an index or carried states are of: the version with these very weights."""
        return f"{self.version}-{self.fingerprint[:8]}" if self.fingerprint else self.version

    def known(self, items: IntArray) -> IntArray:
        """Item indices as the model reads them: items that it has not been trained with become padding."""
        has_id = ~np.asarray(self.item_ids.is_null())
        inside = np.minimum(items, len(has_id) - 1)
        return np.where((items < len(has_id)) & has_id[inside], items, 0)

    def readable(self, histories: Histories) -> tuple[Histories, npt.NDArray[np.bool_]]:
        """Histories in indices that the model knows, and which users (U,) have at least one event that it does."""
        known = replace(histories, items=self.known(histories.items))
        return known, np.bincount(known.read.owner, weights=known.read.items > 0, minlength=len(known)) > 0


def vocabulary(path: Path, size: int | None = None) -> pa.Array:
    """Item ids by index (size,), null where an index has no item, from a table of items."""
    return vocabulary_of(pq.read_table(path, columns=[ITEM_INDEX, ITEM_ID]), size)


def vocabulary_of(table: pa.Table, size: int | None = None) -> pa.Array:
    """As :func:`vocabulary`, of items that have been read."""
    index = table[ITEM_INDEX].to_numpy()
    count = int(index.max(initial=0)) + 1 if size is None else size
    where = np.full(count, -1, dtype=np.int64)
    where[index] = np.arange(len(index))
    return table[ITEM_ID].combine_chunks().take(pa.array(where, mask=where < 0))


def by_index(index: IntArray, values: IntArray, size: int) -> IntArray:
    """Spread values over item indices (size,); zero where an index has none; indices past ``size`` are left out."""
    result = np.zeros(size, dtype=np.int64)
    known = index < size
    result[index[known]] = values[known]
    return result


def save(
    layout: Layout,
    model: HMamba,
    provenance: Provenance,
    candidate_items: CandidateItems,
    ids: pa.Array,
    training: TrainingMetrics | None = None,
) -> str:
    """Store a model version, whole or not at all.

    Args:
        layout: the root.
        model: the weights.
        provenance: names the version.
        candidate_items: the items that compete.
        ids: (size,) item ids by index, null at 0 and at gaps.
        training: kept in metrics.json; None if the train step did not make the model.
    """
    from hmamba.contracts.models import ModelMetrics

    stored = StoredModel(provenance.version, provenance, model, candidate_items, ids)
    with layout.storage.write_folder(layout.model(provenance.version)) as folder:
        _write(folder, stored)
        ModelMetrics(training=training).write(folder / layout.model_metrics(provenance.version).name)
    return provenance.version


def save_serving(run: RunLayout, stored: StoredModel) -> None:
    """Store what serves a night: a version, as it is after what is only counted was counted up to the day."""
    with run.storage.write_folder(run.model) as folder:
        _write(folder, stored)


def _write(folder: Path, stored: StoredModel) -> None:
    from safetensors.torch import save_file

    model, ids, candidate_items = stored.model, stored.item_ids, stored.candidate_items
    save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, folder / _WEIGHTS)
    description = {
        "model": model.config.model_dump(),
        "size": len(candidate_items.column),
        **asdict(stored.provenance),
        "version": stored.version,
        "counted_terms": {term.name: term.weights() for term in model.counted_terms},
    }
    write_json(folder / _CONFIG, description)
    index = np.flatnonzero(~np.asarray(ids.is_null()))
    items = {
        ITEM_INDEX: pa.array(index, pa.int32()),
        ITEM_ID: ids.take(pa.array(index)),
        _ELIGIBLE: pa.array(candidate_items.column[index] >= 0),
    }
    pq.write_table(pa.table(items), folder / ITEMS)
    for term in model.counted_terms:
        term.save(folder)


def load(layout: Layout, version: str, device: torch.device, kernels: str = "auto") -> StoredModel:
    """Load a model version, strictly. ``kernels`` is this machine's choice, not the one it was trained with.

    Raises:
        InputError: the version does not exist, or its files do not belong together.
    """
    folder = layout.storage.local_path(layout.model(version))
    if not folder.is_dir():
        raise InputError(
            f"{folder} does not exist, but model {version} is wanted. Restore it, or train again with --full-retrain."
        )
    return _read(folder, version, device, kernels)


def load_serving(run: RunLayout, version: str, device: torch.device, kernels: str = "auto") -> StoredModel:
    """Load what serves a night, see :func:`save_serving`.

    Raises:
        InputError: the gate has not stored it, or it is of another version than the verdict says.
    """
    folder = run.storage.local_path(run.model)
    if not folder.is_dir():
        raise InputError(f"{folder} does not exist. Run the gate step first (python -m jobs.gate).")
    stored = _read(folder, version, device, kernels)
    found = read_json(folder / _CONFIG)["version"]
    if found != version:
        raise InputError(f"{folder} holds model {found}, but {version} serves. Run the gate step again.")
    return stored


def _read(folder: Path, version: str, device: torch.device, kernels: str) -> StoredModel:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from hmamba.config import ModelConfig

    description = read_json(folder / _CONFIG)
    try:
        config = ModelConfig.model_validate({**description["model"], "kernels": kernels})
        size = int(description["size"])
        model, weights = HMamba(config, size - 1, device), load_file(folder / _WEIGHTS)
        if config.category_levels:
            model.hold_categories(weights["categories"])
        if model.prior is not None:
            weights.setdefault("prior", model.prior)  # versions of before it was stored
        model.load_state_dict(weights, strict=True)
        for name, chosen in description["counted_terms"].items():
            model.counted_terms.append(SCORE_TERMS[name].load().load(folder, size, **chosen))
        table = pq.read_table(folder / ITEMS)
        provenance = Provenance(
            date.fromisoformat(description["day"]),
            description["parent"],
            description["snapshot"],
            int(description["trained_until"]),
            description["settings"],
            description.get("split", "days"),
        )
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{folder}: damaged, or stored by another version of this program ({error}). Restore it, or train anew "
            "with --full-retrain."
        ) from error
    eligible = np.zeros(size, dtype=np.int64)
    eligible[table[ITEM_INDEX].to_numpy()[table[_ELIGIBLE].to_numpy(zero_copy_only=False)]] = 1
    return StoredModel(
        version,
        provenance,
        model.to(device).eval(),
        CandidateItems.of(eligible, 1),
        vocabulary(folder / ITEMS, size),
        sha256(folder / _WEIGHTS),
    )


def check_vocabulary(version: str, item_ids: pa.Array, ids: pa.Array) -> None:
    """Make sure that what serves and a snapshot number their items alike.

    Args:
        version: of a model or a baseline.
        item_ids: (size,) its item ids by index.
        ids: (size,) the snapshot's item ids by index.

    Raises:
        InputError: an index means another item now; the message names the first one.
    """
    common = min(len(ids), len(item_ids))
    beyond = item_ids.slice(common)
    if beyond.null_count < len(beyond):
        raise InputError(
            f"{version} knows {len(beyond) - beyond.null_count} items that the warehouse does not. "
            "Restore the newer warehouse, or run a whole night with --full-retrain."
        )
    mine, theirs = item_ids.slice(0, common), ids.slice(0, common)
    both = ~np.asarray(mine.is_null()) & ~np.asarray(theirs.is_null())
    wrong = np.flatnonzero(both & (np.asarray(mine, dtype=object) != np.asarray(theirs, dtype=object)))
    if len(wrong):
        i = int(wrong[0])
        raise InputError(
            f"{version}: item_index {i} was item {mine[i].as_py()!r} when it was trained and is "
            f"{theirs[i].as_py()!r} in the warehouse. The warehouse was rebuilt: run a whole night with --full-retrain."
        )


def read_metrics(layout: Layout, version: str) -> ModelMetrics:
    """A version's metrics.json.

    Raises:
        InputError: it is missing or cannot be read.
    """
    from hmamba.contracts.models import ModelMetrics

    return ModelMetrics.read(layout.model_metrics(version))


def record_verdict(layout: Layout, version: str, verdict: Verdict) -> None:
    """Enter the newest verdict on a version into its metrics.json."""
    metrics = read_metrics(layout, version)
    if metrics.gate != verdict:
        metrics.model_copy(update={"gate": verdict}).write(layout.model_metrics(version))
