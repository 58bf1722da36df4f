"""A shard's parts of the tables about users, written by the score step from the hidden states that it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import pyarrow.parquet as pq
import torch

from hmamba.columns import ITEM_INDEX
from hmamba.config import Config
from hmamba.contracts.models import IndexDescription
from hmamba.contracts.steps import IndexMetrics
from hmamba.contracts.tables import WrittenTable
from hmamba.index.index import ItemIndex
from hmamba.inference.encode import Encode
from hmamba.model.hmamba import HMamba
from hmamba.models.files import StoredModel
from hmamba.rules.night import NightRules
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import Histories, IntArray
from hmamba.tables.files import described
from hmamba.tables.of_items import item_table
from hmamba.tables.segments import LikeliestUsers
from hmamba.tables.settings import PER_SHARD, made_with, part_made_with, wanted
from hmamba.tables.vectors import UserVectors


class _Users(Protocol):
    """A part that is made from the users of a shard, block by block."""

    def add(self, histories: Histories, users: IntArray, hidden_Rd: torch.Tensor) -> None:
        """Take the users (R,) of a block, with their hidden states."""


class ShardTables:
    """Writes a shard's parts of the tables about users. Use it as a context around the scoring of the shard.

    Users whose history holds no item of the model are in no part: the model knows nothing about them.

    Args:
        files: the run's snapshot.
        shard: the shard.
        config: the settings.
        system: the model that serves and its index; None for a baseline, which has no such tables.
        write: gives the local path to write for a place, which appears when the caller is done.
        rules: the rules of the night; None without rules.

    Raises:
        InputError: the index step has not chosen the items of segments with these settings.
    """

    def __init__(
        self,
        files: Snapshot,
        shard: int,
        config: Config,
        system: tuple[StoredModel, ItemIndex] | None,
        write: Callable[[Path], Path],
        rules: NightRules | None = None,
    ) -> None:
        self._rules = rules
        self.written: dict[str, WrittenTable] = {}
        self._files, self._shard, self._config, self._system, self._write = files, shard, config, system, write
        self._parts: list[_Users] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._system is not None:
            names = [name for name in wanted(self._config, has_model=True) if name in PER_SHARD]
            with ExitStack() as stack:
                for name in names:
                    opened = getattr(self, f"_{name}")(*self._system)
                    self._parts.append(stack.enter_context(opened))
                self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    @contextmanager
    def _user_vectors(self, stored: StoredModel, index: ItemIndex) -> Iterator[_Users]:
        place = self._files.run.table("user_vectors", self._shard)
        path = self._write(place)
        with UserVectors.to(stored, path) as part:
            yield part
        self.written["user_vectors"] = described(path, place.name, made_with(self._config, "user_vectors"))

    @contextmanager
    def _segments(self, stored: StoredModel, index: ItemIndex) -> Iterator[_Users]:
        files, config = self._files, self._config
        metrics = IndexMetrics.read(files.run.step_metrics("index"), files.run.storage)
        listed, chosen = item_table(files, metrics, config, "segments")
        chosen.verified(listed, IndexDescription.CURE)
        items = pq.read_table(listed, columns=[ITEM_INDEX])[ITEM_INDEX].to_numpy().astype(np.int64)
        rules = None if self._rules is None else partial(self._rules.block, shard=self._shard)
        k, exclude_seen = config.publish.segments.k, config.candidates.exclude_seen
        part = LikeliestUsers(stored, index, items, k, exclude_seen, rules)
        yield part
        place = files.run.table("segments", self._shard)
        path = self._write(place)
        pq.write_table(part.table(), path, compression="zstd")
        self.written["segments"] = described(path, place.name, part_made_with(config, "segments", metrics))

    def encode(self, inner: Encode) -> Encode:
        """``inner``, whose hidden states the parts read as well; itself if there are none."""
        if not self._parts:
            return inner

        def read(model: HMamba, histories: Histories) -> torch.Tensor:
            hidden_Ud = inner(model, histories)
            events = histories.read
            known = np.flatnonzero(np.bincount(events.owner, weights=events.items > 0, minlength=len(histories)))
            for part in self._parts:
                part.add(histories, known, hidden_Ud[torch.from_numpy(known)])
            return hidden_Ud

        return read
