"""Users' histories in memory: flat arrays with offsets, the form that everything after the snapshot reads.

Events that share a timestamp are one *basket*: their order says nothing, so nothing is ever predicted from inside it.
Where every event has its own time a basket is one event.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import EVENT_TIME, IS_SEEN, IS_TARGET, ITEM_INDEX, USER_ID, WEIGHT
from hmamba.errors import InputError
from hmamba.sequences.sets import distinct
from hmamba.storage.layout import RunLayout

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
FloatArray: TypeAlias = npt.NDArray[np.float32]
MICROSECONDS_A_DAY = 86_400_000_000
_COLUMNS = [USER_ID, ITEM_INDEX, EVENT_TIME, WEIGHT, IS_TARGET, IS_SEEN]


def midnight(day: date) -> int:
    """The start of a UTC day, in microseconds since 1970."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


@dataclass(frozen=True)
class Histories:
    """Events of U users, N in all, each user's oldest first.

    Attributes:
        users: (U,) external ids, an Arrow string array; large_string where read from shards.
        offsets: (U + 1,) where each user's events begin.
        items: (N,) item indices, >= 1.
        times: (N,) microseconds since 1970, UTC.
        weights: (N,) strength of each event, >= 0; an event of weight 0 was seen and not wanted: the model neither
            reads nor predicts it. None: 1 each.
        targets: (N,) whether the model learns to predict the event and is judged on it. None: all.
        seen: (N,) whether the event's item counts as seen. None: all.
    """

    users: pa.Array
    offsets: IntArray
    items: IntArray
    times: IntArray
    weights: FloatArray | None = None
    targets: BoolArray | None = None
    seen: BoolArray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def events(self) -> int:
        """N."""
        return len(self.items)

    @cached_property
    def lengths(self) -> IntArray:
        """(U,) events of each user."""
        return np.diff(self.offsets)

    @cached_property
    def owner(self) -> IntArray:
        """(N,) which user an event belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @cached_property
    def basket_starts(self) -> IntArray:
        """(number of baskets + 1,) where baskets begin; the last entry is N."""
        if self.events == 0:
            return np.zeros(1, dtype=np.int64)
        new = np.empty(self.events, dtype=bool)
        new[0] = True
        new[1:] = (self.owner[1:] != self.owner[:-1]) | (self.times[1:] != self.times[:-1])
        return np.append(np.flatnonzero(new), self.events)

    @cached_property
    def read(self) -> Histories:
        """The same users with only the events that the model reads: those of a positive weight."""
        if self.weights is None or bool((self.weights > 0).all()):
            return self
        return self.keep(self.weights > 0)

    @cached_property
    def wanted(self) -> BoolArray:
        """(N,) which events the model learns to predict: targets of a positive weight."""
        wanted = np.ones(self.events, dtype=bool) if self.targets is None else self.targets
        return wanted if self.weights is None else wanted & (self.weights > 0)

    def between(self, start: int | None, end: int | None) -> Histories:
        """The same users with only the events in [start, end), microseconds; None leaves a side open."""
        keep = np.ones(self.events, dtype=bool)
        if start is not None:
            keep &= self.times >= start
        if end is not None:
            keep &= self.times < end
        return self.keep(keep)

    def until(self, ends: IntArray) -> Histories:
        """The same users with only the events before these flat positions (U,)."""
        return self.keep(np.arange(self.events) < ends[self.owner])

    def keep(self, wanted: BoolArray) -> Histories:
        """The same users with only the events (N,) wanted."""
        lengths = np.bincount(self.owner[wanted], minlength=len(self))
        return self._with(self.users, np.concatenate([[0], np.cumsum(lengths)]), wanted)

    def select(self, users: IntArray, ends: IntArray | None = None) -> Histories:
        """The users at these positions (R,), in this order; a user may come several times.

        Args:
            users: which.
            ends: (R,) flat position after the last event of each that is kept; None: all are.
        """
        lengths = self.lengths[users] if ends is None else ends - self.offsets[users]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return self._with(self.users.take(pa.array(users)), offsets, spans(self.offsets[users], lengths))

    def _with(self, users: pa.Array, offsets: IntArray, events: IntArray | BoolArray) -> Histories:
        """Other users with some of these events."""
        return Histories(
            users,
            offsets,
            self.items[events],
            self.times[events],
            None if self.weights is None else self.weights[events],
            None if self.targets is None else self.targets[events],
            None if self.seen is None else self.seen[events],
        )

    def item_events(self, size: int) -> IntArray:
        """(size,) events of each item index that are targets."""
        if self.targets is None and self.weights is None:
            return np.bincount(self.items, minlength=size)
        return np.bincount(self.items[self.wanted], minlength=size)

    def item_users(self, size: int) -> IntArray:
        """(size,) users with a target event of each item index."""
        pairs = distinct((self.owner * size + self.items)[self.wanted])
        return np.bincount(pairs % size, minlength=size)


def spans(starts: IntArray, lengths: IntArray) -> IntArray:
    """Concatenate the ranges [start, start + length): a gather index without a loop."""
    total = int(lengths.sum())
    shift = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    flat: IntArray = np.arange(total) + shift
    return flat


def shard_files(run: RunLayout) -> list[Path]:
    """Local files of the shards of a run's snapshot, in order.

    Raises:
        InputError: there is none.
    """
    files = [run.storage.local_path(shard) for shard in run.shards]
    if not files:
        raise InputError(f"{run.sequences}: no sequence shards. Run the snapshot step first (python -m jobs.snapshot).")
    return files


def runs(users: pa.ChunkedArray) -> tuple[pa.Array, IntArray]:
    """Runs of equal ids: the id of each, and where it ends. A run may go on from one chunk into the next.

    The text of all events can pass the 2 GB that one string array holds, so it is never put together: the chunks are
    encoded one by one, and only the ids that are left are joined, with 64-bit offsets.
    """
    encoded = [pc.run_end_encode(chunk) for chunk in users.chunks if len(chunk)]
    if not encoded:
        return pa.array([], pa.large_string()), np.zeros(0, dtype=np.int64)
    ids = pa.concat_arrays([chunk.values.cast(pa.large_string()) for chunk in encoded])
    starts = np.cumsum([0, *(len(chunk) for chunk in encoded)])
    ends = np.concatenate([start + chunk.run_ends.to_numpy() for start, chunk in zip(starts, encoded, strict=False)])
    goes_on = np.append(np.asarray(pc.equal(ids.slice(0, len(ids) - 1), ids.slice(1))), False)
    return ids.filter(pa.array(~goes_on)), ends[~goes_on]


def _flat(table: pa.Table, users: pa.Array, ends: IntArray) -> Histories:
    """Events as read from shards; what is the same for all of them is left out."""
    weights = table[WEIGHT].to_numpy()
    targets, seen = (table[name].to_numpy() for name in (IS_TARGET, IS_SEEN))
    return Histories(
        users,
        np.concatenate([[0], ends]),
        table[ITEM_INDEX].to_numpy().astype(np.int64),
        table[EVENT_TIME].cast(pa.timestamp("us")).cast(pa.int64()).to_numpy(),
        None if (weights == 1).all() else weights,
        None if targets.all() else targets,
        None if seen.all() else seen,
    )


@contextmanager
def _of_a_snapshot(path: Path) -> Iterator[None]:
    """Say of a file or folder that cannot be read what it should have been."""
    try:
        yield
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(f"{path}: not a snapshot ({error}). Run the snapshot step again.") from error


def read_histories(files: list[Path]) -> Histories:
    """Read shards, each sorted by user and time.

    Raises:
        InputError: a file is no snapshot shard, or is not sorted by user.
    """
    with _of_a_snapshot(files[0].parent):
        table = pa.concat_tables([pq.read_table(file, columns=_COLUMNS) for file in files])
    users, ends = runs(table[USER_ID])
    if pc.count_distinct(users).as_py() != len(users):
        raise InputError(f"{files[0].parent}: a user's events are not together. Run the snapshot step again.")
    return _flat(table, users, ends)


def stream_histories(file: Path, *, events: int, users: int) -> Iterator[Histories]:
    """Read a shard a block of whole users at a time, so that memory does not grow with the shard.

    Args:
        file: sorted by user and time.
        events: of a block, about; a user with more is a block alone.
        users: of a block, at most.

    Raises:
        InputError: the file is no snapshot shard, or is not sorted by user.
    """
    before: pa.Scalar | None = None
    for table in _whole_users(file, events):
        ids, ends = runs(table[USER_ID])
        ascending = pc.less(ids.slice(0, len(ids) - 1), ids.slice(1))
        if not pc.all(ascending, min_count=0).as_py() or (before is not None and not pc.less(before, ids[0]).as_py()):
            raise InputError(f"{file}: not sorted by user. Run the snapshot step again.")
        before = ids[-1]
        with _of_a_snapshot(file):
            block = _flat(table, ids, ends)
        for start in range(0, len(block), users):
            yield block.select(np.arange(start, min(start + users, len(block))))


def row_groups(file: Path) -> int:
    """How many row groups a shard has.

    Raises:
        InputError: the file is no snapshot shard.
    """
    with _of_a_snapshot(file):
        return int(pq.read_metadata(file).num_row_groups)


def read_group(file: Path, group: int) -> Histories:
    """Users whose whole history lies in one row group of a shard; further groups are read only while there is none.

    Raises:
        InputError: the file is no snapshot shard.
    """
    tables: list[pa.Table] = []
    with _of_a_snapshot(file), pq.ParquetFile(file) as parquet:
        last = parquet.num_row_groups - 1
        for number in range(group, last + 1):
            tables.append(parquet.read_row_group(number, columns=_COLUMNS))
            table = pa.concat_tables(tables)
            users, ends = runs(table[USER_ID])
            # The first may have begun before, the last may go on behind.
            whole = np.arange(int(group > 0), len(users) - int(number < last))
            if len(whole) or number == last:
                return _flat(table, users, ends).select(whole)
    raise IndexError(f"{file} has no row group {group}")


def _whole_users(file: Path, events: int) -> Iterator[pa.Table]:
    """A shard's rows in tables of about so many, cut where a user ends."""
    held: pa.Table | None = None
    with _of_a_snapshot(file), pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(events, columns=_COLUMNS):
            read = pa.Table.from_batches([batch])
            held = read if held is None else pa.concat_tables([held, read])
            last = pc.index(held[USER_ID], held[USER_ID][-1]).as_py()  # more of this user's rows may follow
            if last and len(held) >= events:
                yield held.slice(0, last)
                held = held.slice(last)
    if held is not None and len(held):
        yield held
