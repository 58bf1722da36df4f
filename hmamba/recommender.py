"""HMamba on data frames: fit, recommend, find similar items, encode users, save and load.

The nightly steps use the same parts in separate processes, with a gate between training and publishing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hmamba.candidates.retrieve import Ranked
from hmamba.candidates.score import ModelScorer
from hmamba.columns import ITEM_ID, RANK, SCORE, USER_ID
from hmamba.config import Config, parse
from hmamba.contracts.manifest import SnapshotManifest
from hmamba.contracts.models import SavedRecommender
from hmamba.dataframes import from_arrow, positions, texts_of, to_arrow, type_of_ids
from hmamba.errors import ConfigError, InputError
from hmamba.fitted import Fitted, run_in, train
from hmamba.index import index as item_index
from hmamba.index.choice import choose
from hmamba.index.index import ItemIndex
from hmamba.index.matmul import Float64Searcher, MatmulSearcher
from hmamba.inference.device import device_of
from hmamba.inference.encode import encode_users
from hmamba.models import files as model_files
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import IntArray
from hmamba.sequences.snapshot import Meaning, write_snapshot
from hmamba.storage.local import atomic_folder, sha256
from hmamba.storage.run_layout import RunLayout
from hmamba.tables.similar import Choice, Near
from hmamba.warehouse.connection import in_memory
from hmamba.warehouse.frames import load_frames

TARGET_ITEM_ID = "target_item_id"
"""Column of :meth:`Recommender.similar_items`: the item that others are similar to."""

_DESCRIPTION, _TYPES = "recommender.json", "ids.parquet"
_BLOCK_USERS = 1 << 14


class Recommender:
    """HMamba for sequential recommendation on data frames.

    Frames are pandas, Polars, PyArrow, DuckDB relations or any other frame that narwhals reads. Results are frames of
    the library that :meth:`fit` received (PyArrow for DuckDB), and ids have the type that they had there; categories
    become their values, and UUIDs text.

    Args:
        config: settings as in ``hmamba.toml``: a :class:`hmamba.Config` or a mapping such as
            ``{"train": {"epochs": 5}, "candidates": {"exclude_seen": False}}``. Set ``exclude_seen`` to False
            if users consume items repeatedly; the model then learns repeat consumption.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """

    def __init__(self, config: Config | Mapping[str, Any] | None = None) -> None:
        self.config = config if isinstance(config, Config) else parse(dict(config or {}), "Recommender(config)")
        self._fitted: Fitted | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # deleted with this object

    def fit(self, interactions: Any, items: Any = None) -> Recommender:
        """Train from scratch, validate on the newest events, and count all events.

        Args:
            interactions: a frame with one row per event and the columns ``user_id``, ``item_id``, ``event_time``, or
                the names in ``config.source.columns``; optionally a weight and an event type.
            items: a frame with one row per item and the columns that ``config.catalogue`` names, for titles,
                categories and attributes.

        Returns:
            This recommender.

        Raises:
            ConfigError: the settings have ``candidates.allowed_items``, or a device that PyTorch does not see.
            InputError: a column is missing, a row cannot be used, or the data is insufficient to train a model.
        """
        if self.config.candidates.allowed_items is not None:
            raise ConfigError(
                "candidates.allowed_items is a setting of the nightly steps. Remove it, and call recommend with items=."
            )
        events, library = to_arrow(interactions, "interactions")
        metadata = None if items is None else to_arrow(items, "items")[0]
        folder = tempfile.TemporaryDirectory(prefix="hmamba-")
        run, columns = run_in(folder.name), self.config.source.columns
        with in_memory(self.config.warehouse) as connection:
            day = load_frames(connection, self.config, events, metadata)
            manifest = write_snapshot(connection, run.sequences, day, None, Meaning.of(self.config))
        stored = train(run, self.config, day, manifest.digest)
        model_files.save_serving(run, stored)
        stored = model_files.load_serving(
            run, stored.version, device_of(self.config.train.device), self.config.model.kernels
        )
        settings = self.config.candidates
        chosen = choose(stored, stored.candidate_items, Snapshot.open(run).shards, settings)
        new_items = CandidateItems.only(stored.new_items, len(stored.candidate_items.column))
        item_index.save(item_index.with_new(stored, chosen.index, new_items, settings.new_items), run.index)
        named = {USER_ID: columns.user_id, ITEM_ID: columns.item_id}
        types = pa.schema({name: type_of_ids(events.schema.field(column).type) for name, column in named.items()})
        self._fitted = Fitted.read(
            run, stored.version, self.config.train.device, self.config.model.kernels, types, library
        )
        self._folder = folder
        return self

    def recommend(self, users: Any = None, k: int | None = None, filter_viewed: bool = True, items: Any = None) -> Any:
        """Recommend the ``k`` best items for each user, for the day after the last day of the events.

        Args:
            users: user ids, a sequence or a series; None for all users.
            k: number of items per user; None for the setting ``candidates.k``.
            filter_viewed: whether items that the user has interacted with are excluded.
            items: ids of the items that may be recommended, of which those that are neither candidate items nor new
                items are ignored; None for all.

        Returns:
            A frame of user_id, item_id, score and rank (from 1), in the order of ``users`` and by rank. A user has
            fewer than ``k`` rows if fewer items are left.

        Raises:
            InputError: a user is unknown, or no item is a candidate item.
        """
        fitted = self._get()
        rows = np.arange(len(fitted.histories)) if users is None else self._users(users)
        index = fitted.index if items is None else self._restricted(items)
        k = _checked(self.config.candidates.k if k is None else k)
        scorer = ModelScorer(fitted.stored, index, fitted.popularity, k, filter_viewed)
        blocks = [np.arange(len(rows))[start : start + _BLOCK_USERS] for start in range(0, len(rows), _BLOCK_USERS)]
        parts = [scorer(fitted.histories.select(rows[block])).ranked.of(block) for block in blocks]
        ranked = Ranked.together(parts)
        return self._frame(
            {
                USER_ID: self._named(USER_ID, fitted.histories.users, rows[ranked.users]),
                ITEM_ID: self._named(ITEM_ID, fitted.stored.item_ids, ranked.items),
                SCORE: pa.array(ranked.scores),
                RANK: pa.array(ranked.ranks, pa.int32()),
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
        stored, depth = self._get().stored, _checked(k)
        eligible = stored.candidate_items.eligible
        ids = stored.item_ids.take(pa.array(eligible))
        columns = positions(texts_of(items, "item"), ids, "item")
        choice = Choice.of(eligible, np.zeros(len(stored.candidate_items.column), dtype=np.int64))
        searched = item_index.build(stored, stored.candidate_items, Float64Searcher.name)
        rows, near, score = Near(stored.model, eligible, searched, choice).best(eligible[columns], depth)
        return self._frame(
            {
                TARGET_ITEM_ID: self._named(ITEM_ID, ids, columns[rows]),
                ITEM_ID: self._named(ITEM_ID, ids, stored.candidate_items.column[near]),
                SCORE: pa.array(score),
                RANK: pa.array(np.arange(1, len(rows) + 1) - np.searchsorted(rows, rows), pa.int32()),
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
    def users(self) -> list[Any]:
        """Ids of all users, in the order of :meth:`encode`."""
        users = self._get().histories.users
        ids: list[Any] = self._named(USER_ID, users, np.arange(len(users))).to_pylist()
        return ids

    @property
    def items(self) -> list[Any]:
        """Ids of the candidate items."""
        fitted = self._get()
        ids: list[Any] = self._named(ITEM_ID, fitted.stored.item_ids, fitted.index.candidate_items.eligible).to_pylist()
        return ids

    @property
    def new_items(self) -> list[Any]:
        """Ids of the items without training events that may be recommended too."""
        fitted = self._get()
        if fitted.index.new is None:
            return []
        eligible = fitted.index.new.candidate_items.eligible
        ids: list[Any] = self._named(ITEM_ID, fitted.stored.item_ids, eligible).to_pylist()
        return ids

    def save(self, folder: str | Path) -> None:
        """Write model, index, histories and settings to a folder atomically.

        Raises:
            InputError: the folder exists and holds something other than a saved recommender, or the sequences that the
                recommender was opened with were removed or replaced.
        """
        fitted, place = self._get(), Path(folder).expanduser().resolve()
        if place.exists() and not (place.is_dir() and ((place / _DESCRIPTION).is_file() or not any(place.iterdir()))):
            raise InputError(f"{place} exists and is no saved recommender. Give another folder, or remove it.")
        manifest = SnapshotManifest.read_if_exists(fitted.run.manifest)
        if manifest is None or manifest.digest != fitted.digest:
            raise InputError(
                f"{fitted.run.sequences}: the sequences of this recommender were removed or replaced. Load or fit it "
                "again."
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(place) as target:
            run = run_in(target)
            shutil.copytree(fitted.run.sequences, run.sequences)
            model_files.save_serving(run, fitted.stored)
            item_index.save(fitted.index, run.index)
            pq.write_table(fitted.types.empty_table(), target / _TYPES)
            files = sorted(path for path in target.rglob("*") if path.is_file())
            SavedRecommender(
                model_version=fitted.stored.version,
                library=fitted.library,
                settings=self.config.model_dump(mode="json", exclude_unset=True),
                sha256={path.relative_to(target).as_posix(): sha256(path) for path in files},
            ).write(target / _DESCRIPTION)

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> Recommender:
        """Read what :meth:`save` wrote.

        Args:
            folder: the folder.
            device: "cpu", "cuda", or "auto" for CUDA if PyTorch sees a device.

        Raises:
            ConfigError: there is no such device.
            InputError: a file is missing or damaged.
        """
        place = Path(folder).expanduser().resolve()
        saved = SavedRecommender.read_if_exists(place / _DESCRIPTION)
        if saved is None:
            raise InputError(
                f"{place} holds no saved recommender (no {_DESCRIPTION}). Give the folder that save wrote."
            )
        for name, digest in saved.sha256.items():
            if not (place / name).is_file() or sha256(place / name) != digest:
                raise InputError(f"{place / name} is missing or damaged. {SavedRecommender.CURE}")
        loaded = cls(saved.settings)
        types = pq.read_schema(place / _TYPES)
        kernels = loaded.config.model.kernels
        loaded._fitted = Fitted.read(run_in(place), saved.model_version, device, kernels, types, saved.library)
        return loaded

    @classmethod
    def of_run(cls, run: RunLayout, version: str, config: Config) -> Recommender:
        """The model and the index that serve a night, with the users of the night's snapshot.

        Ids are text, results pandas frames.

        Args:
            run: working folder of the night.
            version: version of the model.
            config: settings of the root.

        Raises:
            InputError: a file is missing or damaged.
        """
        opened = cls(config)
        types = pa.schema({USER_ID: pa.string(), ITEM_ID: pa.string()})
        opened._fitted = Fitted.read(run, version, config.train.device, config.model.kernels, types, "pandas")
        return opened

    def _get(self) -> Fitted:
        if self._fitted is None:
            raise InputError("The recommender is not fitted. Call fit or load first.")
        return self._fitted

    def _users(self, users: Any) -> IntArray:
        return positions(texts_of(users, "user"), self._get().histories.users.cast(pa.string()), "user")

    def _restricted(self, items: Any) -> ItemIndex:
        """An exact index of some of the candidate items."""
        fitted = self._get()
        index = fitted.index
        stored, ids = fitted.stored, texts_of(items, "item")
        allowed = index.candidate_items.among(stored.item_ids, ids)
        new = None if index.new is None else index.new.candidate_items.among(stored.item_ids, ids)
        if not len(allowed) and not new:
            raise InputError("items: none of them is a candidate item. See the property items for those that are.")
        kind = index.kind if index.searcher.is_exact and len(allowed) else MatmulSearcher.name
        built = item_index.build(stored, allowed, kind)
        return built if new is None else item_index.with_new(stored, built, new, index.new_share)

    def _named(self, column: str, ids: pa.Array, index: IntArray) -> pa.Array:
        """External ids in the type of the frame."""
        return ids.take(pa.array(index)).cast(pa.string()).cast(self._get().types.field(column).type)

    def _frame(self, columns: dict[str, pa.Array]) -> Any:
        return from_arrow(columns, self._get().library)


def _checked(k: int) -> int:
    if k < 0:
        raise InputError(f"k = {k}: give 0 or more.")
    return k
