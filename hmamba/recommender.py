"""HMamba on data frames: fit, recommend, find similar items, encode users, save and load.

The nightly steps use the same parts in separate processes, with a gate between training and publishing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from hmamba.candidates.score import ModelScorer
from hmamba.columns import EVENTS, ITEM_ID, ITEM_INDEX, RANK, SCORE, USER_ID
from hmamba.config import Config, parse
from hmamba.errors import InputError
from hmamba.evaluation.split import Split
from hmamba.index.choice import choose
from hmamba.index.index import ItemIndex, build, restrict
from hmamba.inference.device import device_of
from hmamba.inference.encode import encode_users
from hmamba.model import lorentz
from hmamba.models import files as model_files
from hmamba.models.files import StoredModel
from hmamba.sequences.categories import read_categories
from hmamba.sequences.histories import Histories, IntArray, read_histories, shard_files
from hmamba.sequences.snapshot import Meaning, write_snapshot
from hmamba.sources.values import ids as ids_of
from hmamba.storage.layout import ITEMS, RunLayout
from hmamba.storage.local import LocalStorage, atomic_folder, read_json, write_json
from hmamba.training.fit import Fit
from hmamba.training.prepare import name_training, prepare
from hmamba.training.recount import Counts, recount
from hmamba.warehouse.connection import in_memory
from hmamba.warehouse.frames import load_frames

TARGET_ITEM_ID = "target_item_id"
"""Column of :meth:`Recommender.similar_items`: the item that others are similar to."""

_FRAMES, _CONFIG = "frames.json", "config.json"
_BLOCK_USERS = 1 << 14


@dataclass(frozen=True)
class _Fitted:
    """The state of a fitted recommender.

    Attributes:
        stored: the model, with counts and counted terms up to the newest event.
        index: index of its items.
        histories: histories of all U users.
        popularity: (size,) number of events of each item index.
        types: Arrow types of the frame's ids, by column, as text.
        backend: frame library of the results.
    """

    stored: StoredModel
    index: ItemIndex
    histories: Histories
    popularity: IntArray
    types: Mapping[str, str]
    backend: str


class Recommender:
    """HMamba for sequential recommendation on data frames.

    Frames are pandas, Polars, PyArrow, DuckDB relations or any other frame that narwhals reads. Results are frames of
    the library that :meth:`fit` received (PyArrow for DuckDB), and ids have the type that they had there.

    Args:
        config: settings as in ``hmamba.toml``: a :class:`hmamba.Config` or a mapping such as
            ``{"train": {"epochs": 5}, "candidates": {"exclude_seen": False}}``. Set ``exclude_seen`` to False
            if users consume items repeatedly; the model then learns repeat consumption.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """

    def __init__(self, config: Config | Mapping[str, Any] | None = None) -> None:
        self.config = config if isinstance(config, Config) else parse(dict(config or {}), "Recommender(config)")
        self._fitted: _Fitted | None = None
        self._run: RunLayout | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # deleted with this object

    def fit(self, interactions: Any, items: Any = None) -> Recommender:
        """Train from scratch, validate on the newest events, and count all events.

        Args:
            interactions: a frame with one row per event and the columns ``user_id``, ``item_id``, ``event_time``, or
                the names in ``config.source.columns``; optionally a weight and an event type.
            items: a frame with one row per item and the columns that ``config.catalogue`` names, for titles and
                categories.

        Returns:
            This recommender.

        Raises:
            InputError: a column is missing, a row cannot be used, or the data is insufficient to train a model.
        """
        frame = nw.from_native(interactions)
        events = _arrow(frame)
        folder = tempfile.TemporaryDirectory(prefix="hmamba-")
        run, columns = _run(folder.name), self.config.source.columns
        with in_memory(self.config.warehouse) as connection:
            metadata = None if items is None else _arrow(nw.from_native(items))
            day = load_frames(connection, self.config, events, metadata)
            manifest = write_snapshot(connection, run.sequences, day, None, Meaning.of(self.config))
        stored = _train(run, self.config, day, manifest.digest)
        model_files.save_serving(run, stored)
        schema = events.schema
        types = {USER_ID: str(schema.field(columns.user_id).type), ITEM_ID: str(schema.field(columns.item_id).type)}
        self._folder = folder
        return self._opened(run, stored.version, _backend(frame), types)

    def recommend(self, users: Any = None, k: int | None = None, filter_viewed: bool = True, items: Any = None) -> Any:
        """Recommend the ``k`` best items for each user.

        Args:
            users: user ids, a sequence or a series; None for all users.
            k: number of items per user; None for the setting ``candidates.k``.
            filter_viewed: whether items that the user has interacted with are excluded.
            items: ids of the items that may be recommended; None for all candidate items.

        Returns:
            A frame of user_id, item_id, score and rank (from 1), in the order of ``users`` and by rank. A user has
            fewer than ``k`` rows if fewer items are left.

        Raises:
            InputError: a user or an item is unknown.
        """
        fitted = self._get()
        rows = np.arange(len(fitted.histories)) if users is None else self._users(users)
        index = fitted.index if items is None else self._restricted(items)
        k = self.config.candidates.k if k is None else k
        scorer = ModelScorer(fitted.stored, index, fitted.popularity, k, filter_viewed)
        owners, found, scores = [], [], []
        for start in range(0, len(rows), _BLOCK_USERS):
            block = rows[start : start + _BLOCK_USERS]
            ranked = scorer(fitted.histories.select(block)).ranked
            owners.append(block[ranked.users])
            found.append(ranked.items)
            scores.append(ranked.scores)
        owner = np.concatenate(owners) if owners else np.zeros(0, np.int64)
        first = np.concatenate([[True], owner[1:] != owner[:-1]])[: len(owner)]
        starts = np.flatnonzero(first)
        rank = np.arange(len(owner)) - np.repeat(starts, np.diff(np.append(starts, len(owner)))) + 1
        return self._frame(
            {
                USER_ID: self._named(USER_ID, fitted.histories.users, owner),
                ITEM_ID: self._named(ITEM_ID, fitted.stored.item_ids, np.concatenate(found) if found else owner),
                SCORE: pa.array(np.concatenate(scores) if scores else np.zeros(0, np.float32)),
                RANK: pa.array(rank, pa.int32()),
            }
        )

    def similar_items(self, items: Any, k: int = 10) -> Any:
        """Find the ``k`` items nearest to each item on the hyperboloid.

        Args:
            items: item ids.
            k: number of neighbours per item.

        Returns:
            A frame of target_item_id, item_id, score and rank (from 1). The score is minus the geodesic distance.

        Raises:
            InputError: the model does not know an item, for example because it has fewer than
                ``train.min_item_events`` events.
        """
        stored = self._get().stored
        index = self._items(items)
        eligible, column = stored.candidate_items.eligible, stored.candidate_items.column[index]
        with torch.inference_mode():
            near = _nearness(stored, column)
            near[torch.arange(len(index)), torch.from_numpy(column)] = -torch.inf
            best = near.topk(min(k, len(eligible) - 1), dim=1)
        distance = -best.values.numpy()
        width = distance.shape[1]
        return self._frame(
            {
                TARGET_ITEM_ID: self._named(ITEM_ID, stored.item_ids, np.repeat(index, width)),
                ITEM_ID: self._named(ITEM_ID, stored.item_ids, eligible[best.indices.cpu().numpy().ravel()]),
                SCORE: pa.array(-distance.ravel()),
                RANK: pa.array(np.tile(np.arange(1, width + 1), len(index)), pa.int32()),
            }
        )

    def encode(self, users: Any = None) -> npt.NDArray[np.float32]:
        """Compute the Lorentz points of users after their last event.

        Args:
            users: user ids; None for all users.

        Returns:
            Points (U, d + 1), time coordinate first: -x_0^2 + x_1^2 + ... + x_d^2 = -K.

        Raises:
            InputError: a user is unknown.
        """
        fitted = self._get()
        rows = np.arange(len(fitted.histories)) if users is None else self._users(users)
        model = fitted.stored.model
        read, _ = fitted.stored.readable(fitted.histories.select(rows))
        with torch.inference_mode():
            hidden_Ud = encode_users(model, read).to(model.tangents.weight.device)
            points: npt.NDArray[np.float32] = model.user_points(hidden_Ud).float().cpu().numpy()
        return points

    @property
    def users(self) -> Sequence[Any]:
        """Ids of all users, in the order of :meth:`encode`."""
        fitted = self._get()
        named: list[Any] = self._named(USER_ID, fitted.histories.users, np.arange(len(fitted.histories))).to_pylist()
        return named

    def save(self, folder: str | Path) -> None:
        """Write model, histories and settings to a folder atomically; an existing folder is replaced."""
        fitted, run = self._get(), self._run
        assert run is not None
        with atomic_folder(Path(folder)) as target:
            for part in (run.sequences, run.model):
                shutil.copytree(part, target / part.name)
            frames = {"version": fitted.stored.version, "backend": fitted.backend, "types": dict(fitted.types)}
            write_json(target / _FRAMES, frames)
            write_json(target / _CONFIG, self.config.model_dump(mode="json", exclude_unset=True))

    @classmethod
    def load(cls, folder: str | Path) -> Recommender:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: a file is missing or damaged.
        """
        folder = Path(folder)
        return cls(read_json(folder / _CONFIG))._opened(_run(folder), **read_json(folder / _FRAMES))

    @classmethod
    def of_run(cls, run: RunLayout, version: str, config: Config) -> Recommender:
        """The model that serves a night, with the users of the night's snapshot; ids are text, results pandas.

        Args:
            run: working folder of the night.
            version: version of the model.
            config: settings of the root.

        Raises:
            InputError: a file is missing or damaged.
        """
        return cls(config)._opened(run, version, "pandas", {USER_ID: "string", ITEM_ID: "string"})

    def _opened(self, run: RunLayout, version: str, backend: str, types: Mapping[str, str]) -> Recommender:
        device = device_of(self.config.train.device)
        stored = model_files.load_serving(run, version, device, self.config.model.kernels)
        files = shard_files(run)
        items = pq.read_table(run.sequences / ITEMS, columns=[ITEM_INDEX, EVENTS])
        index, events = (items[name].to_numpy() for name in (ITEM_INDEX, EVENTS))
        self._run = run
        self._fitted = _Fitted(
            stored,
            choose(stored, stored.candidate_items, files, self.config.candidates).index,
            read_histories(files),
            model_files.by_index(index, events, len(stored.item_ids)),
            types,
            backend,
        )
        return self

    def _get(self) -> _Fitted:
        if self._fitted is None:
            raise InputError("The recommender is not fitted. Call fit or load first.")
        return self._fitted

    def _users(self, users: Any) -> IntArray:
        return _places(users, self._get().histories.users.cast(pa.string()), "user")

    def _items(self, items: Any) -> IntArray:
        """Indices of candidate items."""
        stored = self._get().stored
        eligible = stored.item_ids.take(pa.array(stored.candidate_items.eligible))
        return stored.candidate_items.eligible[_places(items, eligible, "item")]

    def _restricted(self, items: Any) -> ItemIndex:
        stored = self._get().stored
        self._items(items)
        allowed = pa.chunked_array([_texts(items)])
        return build(stored, restrict(stored.candidate_items, stored.item_ids, allowed), self._get().index.kind)

    def _named(self, column: str, ids: pa.Array, index: IntArray) -> pa.Array:
        """External ids in the type of the frame."""
        kind = self._get().types[column]
        found = ids.take(pa.array(index)).cast(pa.string())
        return found if kind == "string" else found.cast(kind)

    def _frame(self, columns: dict[str, pa.Array]) -> Any:
        backend: Any = self._get().backend
        return nw.from_dict(columns, backend=backend).to_native()


def _run(folder: str | Path) -> RunLayout:
    storage = LocalStorage.at(str(folder))
    return RunLayout(storage.root, storage)


def _texts(ids: Any) -> pa.Array:
    """Ids as text, in the form of the warehouse."""
    values = nw.from_native(ids, allow_series=True, pass_through=True)
    array = values.to_arrow() if isinstance(values, nw.Series) else pa.array(list(ids))
    return ids_of(array, null_words=()).values.cast(pa.string())


def _places(ids: Any, known: pa.Array, what: str) -> IntArray:
    """Positions of ids in ``known``.

    Raises:
        InputError: ``known`` does not contain some of the ids.
    """
    texts = _texts(ids)
    found = pc.index_in(texts, value_set=known)
    if found.null_count:
        unknown = texts.filter(found.is_null()).to_pylist()
        more = f" and {len(unknown) - 3:,} more" if len(unknown) > 3 else ""
        raise InputError(f"{what} {', '.join(map(repr, unknown[:3]))}{more}: unknown to the model.")
    places: IntArray = found.to_numpy().astype(np.int64)
    return places


def _nearness(stored: StoredModel, column: IntArray) -> torch.Tensor:
    """Negative distances (R, V) of some candidate items to all candidate items, in float64."""
    model = stored.model.in_float64().cpu()
    points = model.item_points(torch.from_numpy(stored.candidate_items.eligible))
    targets = points[torch.from_numpy(column)]
    if model.config.variant == "euclidean":
        return -torch.cdist(targets[:, 1:], points[:, 1:])
    K = 1 / model.curvature
    return -lorentz.distance_from_gap(-2 * K - 2 * (lorentz.flip(targets) @ points.T), K=K)


def _train(run: RunLayout, config: Config, day: date, snapshot: str) -> StoredModel:
    """Train on a snapshot; its newest events are for validation, and none are held out."""
    histories = read_histories(shard_files(run))
    split = Split.of(histories, config).without_holdout(histories)
    ids = model_files.vocabulary(run.sequences / ITEMS)
    provenance = name_training(day, snapshot, None, split, config)
    category = read_categories(run.sequences / ITEMS, len(ids), config.model.category_levels)
    ready = prepare(histories, ids, provenance, None, split, run.training, config, category)
    Fit(ready.model, ready.plan).run()
    shutil.rmtree(run.training, ignore_errors=True)
    stored = StoredModel(provenance.version, provenance, ready.model, ready.plan.candidate_items, ids)
    recount(stored, Counts.of(histories, len(ids), [stored.model]))
    return stored


def _arrow(frame: Any) -> pa.Table:
    """Convert a frame to an Arrow table."""
    return (frame.collect() if isinstance(frame, nw.LazyFrame) else frame).to_arrow()


def _backend(frame: Any) -> str:
    """The frame library for results: that of an eager frame, PyArrow for a lazy frame."""
    return "pyarrow" if isinstance(frame, nw.LazyFrame) else str(frame.implementation.value)
