"""Users' carried states in Parquet: a refresh resumes from them instead of encoding whole histories again.

    states/part-0000.parquet    user_id, events, newest, state: one row per user, small row groups
    states/users-0000.parquet   user_id only, in the same order, so that looking up users does not read their states

A state is float32: for each block the last inputs of the convolution (d_conv - 1, E + 2 N), then the state of the state
space (H, P, N). It is stored with its number of events and the time of the newest one, so a reader can check whether it
belongs to the start of the user's history. The files' metadata name the model version.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from hmamba.columns import EVENTS, MODEL_VERSION, USER_ID
from hmamba.inference.encode import LONGEST, Keep, alike, encode_users
from hmamba.model.block import BlockState
from hmamba.model.hmamba import HMamba
from hmamba.sequences.histories import Histories, IntArray, offsets_of

log = logging.getLogger("hmamba")

NEWEST, STATE = "newest", "state"
_ROWS = 16  # rows per group of states: one group is read for a user, and smaller groups make the footer long
_NAMES = 1 << 16  # smallest number of rows per group of user ids
_TOKENS = 1_024  # new events per group, padding included; the states of a group's users are in memory


@dataclass(frozen=True)
class StateFiles:
    """The two files of a shard: states and user ids."""

    part: Path
    users: Path


def _sizes(model: HMamba) -> list[torch.Size]:
    """Shapes of one user's states, from the first block to the last."""
    return [tensor.shape[1:] for state in model.start(1) for tensor in state]


def state_bytes(model: HMamba) -> int:
    """Size of one user's state in bytes."""
    return 4 * sum(shape.numel() for shape in _sizes(model))


def _schema(model: HMamba, version: str) -> pa.Schema:
    columns = {
        USER_ID: pa.string(),
        EVENTS: pa.int64(),
        NEWEST: pa.timestamp("us"),
        STATE: pa.binary(state_bytes(model)),
    }
    return pa.schema(columns, metadata={MODEL_VERSION: version})


class StateWriter:
    """Encodes users and writes their states; user ids are written in large groups because readers read all of them."""

    def __init__(self, states: pq.ParquetWriter, users: pq.ParquetWriter, schema: pa.Schema) -> None:
        self._states, self._users, self._schema = states, users, schema
        self._names: list[pa.Array] = []
        self._held = 0

    def encode(self, model: HMamba, histories: Histories) -> Tensor:
        """Encode like :func:`encode_users`, and write the states."""
        histories = histories.read
        return encode_users(model, histories, self._keep(histories))

    def _keep(self, histories: Histories) -> Keep:
        def keep(users: IntArray, states: list[BlockState]) -> None:
            flat = torch.cat([tensor.flatten(1) for state in states for tensor in state], dim=1).float().cpu().numpy()
            kind = self._schema.field(STATE).type
            columns = {
                USER_ID: histories.users.take(pa.array(users)).cast(pa.string()),
                EVENTS: pa.array(histories.lengths[users], pa.int64()),
                NEWEST: pa.array(histories.times[histories.offsets[users + 1] - 1]).cast(pa.timestamp("us")),
                STATE: pa.FixedSizeBinaryArray.from_buffers(kind, len(users), [None, pa.py_buffer(flat)]),
            }
            table = pa.table(columns, schema=self._schema)
            self._states.write_table(table, row_group_size=_ROWS)
            self._names.append(columns[USER_ID])
            self._held += len(users)
            if self._held >= _NAMES:
                self.write_names()

        return keep

    def write_names(self) -> None:
        """Write the user ids that are still in memory."""
        if self._names:
            self._users.write_table(pa.table({USER_ID: pa.concat_arrays(self._names)}, schema=self._users.schema))
        self._names, self._held = [], 0


@contextmanager
def write_states(files: StateFiles, model: HMamba, version: str) -> Iterator[StateWriter]:
    """Write a shard's states; memory does not depend on the number of users."""
    schema = _schema(model, version)
    with ExitStack() as stack:
        # Corrupt bytes would be a valid state, so each page has a checksum.
        plain = {"compression": "none", "use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
        writer = StateWriter(
            stack.enter_context(pq.ParquetWriter(files.part, schema, **plain)),
            stack.enter_context(
                pq.ParquetWriter(files.users, schema.remove(3).remove(2).remove(1), compression="zstd")
            ),
            schema,
        )
        yield writer
        writer.write_names()


@dataclass(frozen=True)
class _Found:
    """States of some users: their rows in the histories, number of events, newest times, and states (U, numbers)."""

    rows: IntArray
    events: IntArray
    newest: IntArray
    states: npt.NDArray[np.float32]


class CarriedStates:
    """The stored states of a shard's users; can be empty.

    Attributes:
        advanced: number of users encoded from their stored states.
        reencoded: number of users encoded from their whole histories.
    """

    def __init__(self, model: HMamba, files: StateFiles, part: pq.ParquetFile | None, users: pa.Array | None) -> None:
        self._model, self._files, self._part, self._users = model, files, part, users
        groups = 0 if part is None else part.num_row_groups
        sizes = [] if part is None else [part.metadata.row_group(group).num_rows for group in range(groups)]
        self._ends: IntArray = np.cumsum(sizes, dtype=np.int64)
        self.advanced = self.reencoded = 0

    @classmethod
    @contextmanager
    def opened(cls, files: StateFiles, model: HMamba, version: str) -> Iterator[CarriedStates]:
        """Open a shard's states. Damaged states and those of another model version are not used."""
        with ExitStack() as stack:
            try:
                part, names = cls._open(stack, files, _schema(model, version))
            except (OSError, pa.ArrowException) as error:
                log.warning("%s or %s is damaged and is not used: %s", files.part, files.users, error)
                part, names = None, None
            yield cls(model, files, part, names)

    @staticmethod
    def _open(stack: ExitStack, files: StateFiles, schema: pa.Schema) -> tuple[pq.ParquetFile | None, pa.Array | None]:
        if not files.users.is_file() or not files.part.is_file():
            return None, None
        part = stack.enter_context(pq.ParquetFile(files.part, memory_map=True, page_checksum_verification=True))
        found = part.schema_arrow
        if not found.equals(schema, check_metadata=True):
            stored, own = ((of.metadata or {}).get(MODEL_VERSION.encode(), b"?").decode() for of in (found, schema))
            log.warning("%s is of model %s, not of %s, and is not used", files.part, stored, own)
            return None, None
        names = pq.read_table(files.users, columns=[USER_ID])[USER_ID].combine_chunks()
        if len(names) != part.metadata.num_rows:
            log.warning("%s and %s do not belong together and are not used", files.part, files.users)
            return None, None
        return part, names

    @torch.inference_mode()
    def encode(self, model: HMamba, histories: Histories) -> Tensor:
        """Encode like :func:`encode_users`, but resume from a user's state if it is the state of the history's start.

        This is so if the number of events up to the state's newest one is the number in the state. Events are only ever
        added, so none came late, and none at the time of the newest one, where its order in the basket would matter.

        Args:
            model: the model version that wrote the states.
            histories: whole histories of U users; events of weight 0 are not read.
        """
        histories = histories.read
        hidden_Ud = torch.zeros(len(histories), model.config.dim)
        found = self._find(histories)
        newest = np.full(len(histories), np.iinfo(np.int64).max)
        newest[found.rows] = found.newest
        old = np.bincount(histories.owner, weights=histories.times <= newest[histories.owner], minlength=len(histories))
        fresh = histories.lengths - old.astype(np.int64)
        usable = (old[found.rows] == found.events) & (fresh[found.rows] > 0) & (fresh[found.rows] <= LONGEST)
        resumed, states = found.rows[usable], found.states[usable]
        later = histories.times > newest[histories.owner]
        starts = offsets_of(fresh)
        items = histories.items[later]
        for group in alike(fresh[resumed], _TOKENS):
            users = resumed[group]
            hidden_Ud[torch.from_numpy(users)] = self._advance(items, starts[users], fresh[users], states[group])
        rest = np.setdiff1d(np.arange(len(histories)), resumed)
        hidden_Ud[torch.from_numpy(rest)] = encode_users(model, histories.select(rest))
        self.advanced, self.reencoded = self.advanced + len(resumed), self.reencoded + len(rest)
        return hidden_Ud

    def _advance(self, items: IntArray, starts: IntArray, lengths: IntArray, states: npt.NDArray[np.float32]) -> Tensor:
        """Hidden states (B, d) after ``lengths`` items from ``starts`` on, from flat states (B, numbers)."""
        device = self._model.tangents.weight.device
        column = np.arange(lengths.max())
        inside = column < lengths[:, None]
        item_BT = np.where(inside, items[np.minimum(starts[:, None] + column, len(items) - 1)], 0)
        shapes = _sizes(self._model)
        flat = torch.from_numpy(states).to(device).split([shape.numel() for shape in shapes], dim=1)
        parts = [part.unflatten(1, shape) for part, shape in zip(flat, shapes, strict=True)]
        before = [BlockState(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
        length_B = torch.from_numpy(lengths).to(device)
        hidden_BTd, _ = self._model.advance(torch.from_numpy(item_BT).to(device), before, length_B)
        return hidden_BTd[torch.arange(len(lengths), device=device), length_B - 1].float().cpu()

    def _find(self, histories: Histories) -> _Found:
        """Read the states of these users, in the order of the file."""
        width = state_bytes(self._model) // 4
        nothing = np.zeros(0, dtype=np.int64)
        none = _Found(nothing, nothing, nothing, np.zeros((0, width), dtype=np.float32))
        if self._part is None or self._users is None:
            return none
        place = pc.index_in(histories.users.cast(pa.string()), value_set=self._users)
        rows = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
        at = place.drop_null().to_numpy().astype(np.int64)
        order = np.argsort(at)
        rows, at = rows[order], at[order]
        group = np.searchsorted(self._ends, at, side="right")
        tables = []
        try:
            for number in np.unique(group):
                read = self._part.read_row_group(int(number), use_threads=False)
                start = self._ends[number] - len(read)
                tables.append(read.take(pa.array(at[group == number] - start)))
        except (OSError, pa.ArrowException) as error:
            log.warning("%s is damaged and is not used: %s", self._files.part, error)
            return none
        if not tables:
            return none
        table = pa.concat_tables(tables).combine_chunks()
        # Both files must have the same user id in this row: if the writer was killed, one file can be older.
        same = np.asarray(pc.equal(table[USER_ID], histories.users.cast(pa.string()).take(pa.array(rows))))
        (state,) = table[STATE].chunks
        flat = np.frombuffer(state.buffers()[1], dtype=np.float32).reshape(-1, width)[state.offset :][: len(state)]
        events, newest = (table[name].cast(pa.int64()).to_numpy() for name in (EVENTS, NEWEST))
        return _Found(rows[same], events[same], newest[same], flat[same])
