"""Users' histories in memory: flat arrays with offsets, as all steps after the snapshot read them.

Events of a user that share a timestamp are one *basket*. Their order carries no information, so no event is predicted
from another one of its basket. If every event has a time of its own, each basket is one event.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import EVENT_TIME, IS_SEEN, IS_TARGET, ITEM_INDEX, USER_ID, WEIGHT
from hmamba.errors import InputError
from hmamba.sequences.sets import distinct

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
    """N events of U users, grouped by user, each user's oldest first.

    Attributes:
        users: (U,) external ids, an Arrow string array; large_string where read from shards.
        offsets: (U + 1,) position of each user's first event; the last entry is N.
        items: (N,) item indices, >= 1.
        times: (N,) microseconds since 1970, UTC.
        weights: (N,) weight of each event, >= 0. The model neither reads nor predicts events of weight 0, but their
            items may count as seen. None: 1 each.
        targets: (N,) whether the event is a target: the model learns to predict it and is judged on it. None: all.
        seen: (N,) whether the event's item counts as seen. None: all.
        asked: (U,) time for which items are recommended to each user, microseconds: ages count back from it. None: the
            time of the user's newest event.
    """

    users: pa.Array
    offsets: IntArray
    items: IntArray
    times: IntArray
    weights: FloatArray | None = None
    targets: BoolArray | None = None
    seen: BoolArray | None = None
    asked: IntArray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def events(self) -> int:
        """Number of events N."""
        return len(self.items)

    @cached_property
    def lengths(self) -> IntArray:
        """(U,) number of events of each user."""
        return np.diff(self.offsets)

    @cached_property
    def owner(self) -> IntArray:
        """(N,) position of the user of each event."""
        return owners(self.lengths)

    @cached_property
    def basket_starts(self) -> IntArray:
        """(baskets + 1,) position of each basket's first event; the last entry is N."""
        return np.append(run_starts(self.owner, self.times), self.events)

    @cached_property
    def read(self) -> Histories:
        """The same users with only the events that the model reads: those with a positive weight."""
        if self.weights is None or bool((self.weights > 0).all()):
            return self
        return self.keep(self.weights > 0)

    @cached_property
    def wanted(self) -> BoolArray:
        """(N,) which events the model learns to predict: targets with a positive weight."""
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
        """The same users with only the events where ``wanted`` (N,) is true."""
        lengths = np.bincount(self.owner[wanted], minlength=len(self))
        return self._with(self.users, offsets_of(lengths), wanted, self.asked)

    def select(self, users: IntArray, ends: IntArray | None = None) -> Histories:
        """The users at these positions (R,), in this order; a position may occur several times.

        Args:
            users: (R,) positions.
            ends: (R,) flat position after the last event to keep of each; None: keep all events.
        """
        lengths = self.lengths[users] if ends is None else ends - self.offsets[users]
        events = spans(self.offsets[users], lengths)
        asked = None if self.asked is None else self.asked[users]
        return self._with(self.users.take(pa.array(users)), offsets_of(lengths), events, asked)

    def asked_at(self, moment: int) -> Histories:
        """The same histories, with recommendations for the day that begins at this time in microseconds."""
        return replace(self, asked=np.full(len(self), moment))

    def asked_next(self) -> Histories:
        """The same histories, with recommendations for the day after each user's newest event."""
        asked = np.zeros(len(self), dtype=np.int64)
        known = self.lengths > 0
        asked[known] = self.times[self.offsets[1:][known] - 1] + MICROSECONDS_A_DAY
        return replace(self, asked=asked)

    def _with(
        self, users: pa.Array, offsets: IntArray, events: IntArray | BoolArray, asked: IntArray | None
    ) -> Histories:
        """Histories of ``users`` with a selection of these events."""
        return Histories(
            users,
            offsets,
            self.items[events],
            self.times[events],
            None if self.weights is None else self.weights[events],
            None if self.targets is None else self.targets[events],
            None if self.seen is None else self.seen[events],
            asked,
        )

    def item_events(self, size: int) -> IntArray:
        """(size,) number of target events of each item index."""
        if self.targets is None and self.weights is None:
            return np.bincount(self.items, minlength=size)
        return np.bincount(self.items[self.wanted], minlength=size)

    def item_users(self, size: int) -> IntArray:
        """(size,) number of users with a target event of each item index."""
        pairs = distinct((self.owner * size + self.items)[self.wanted])
        return np.bincount(pairs % size, minlength=size)


def offsets_of(lengths: IntArray) -> IntArray:
    """(R + 1,) where each of R parts of these lengths begins, from 0; the last entry is where all end."""
    offsets: IntArray = np.concatenate([[0], np.cumsum(lengths)])
    return offsets


def owners(lengths: IntArray) -> IntArray:
    """(N,) number of the part that each entry belongs to, of parts of these lengths that lie end to end."""
    return np.repeat(np.arange(len(lengths)), lengths)


def spans(starts: IntArray, lengths: IntArray) -> IntArray:
    """Concatenate the ranges [start, start + length), as an index for a gather."""
    flat: IntArray = np.arange(int(lengths.sum())) + np.repeat(starts - offsets_of(lengths)[:-1], lengths)
    return flat


def run_starts(*keys: npt.NDArray[Any]) -> IntArray:
    """Positions at which runs of equal entries begin; with several keys (N,), entries are equal if all keys are."""
    is_first = np.zeros(len(keys[0]), dtype=bool)
    is_first[:1] = True
    for key in keys:
        is_first[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(is_first)


def runs(users: pa.ChunkedArray) -> tuple[pa.Array, IntArray]:
    """Runs of equal ids: the id of each run, and its end. A run may span several chunks.

    The ids of all events can exceed the 2 GB limit of one string array. Therefore the chunks are encoded one by one,
    and only the ids of the runs are concatenated, with 64-bit offsets.
    """
    encoded = [pc.run_end_encode(chunk) for chunk in users.chunks if len(chunk)]
    if not encoded:
        return pa.array([], pa.large_string()), np.zeros(0, dtype=np.int64)
    ids = pa.concat_arrays([chunk.values.cast(pa.large_string()) for chunk in encoded])
    starts = np.cumsum([0, *(len(chunk) for chunk in encoded)])
    ends = np.concatenate([start + chunk.run_ends.to_numpy() for start, chunk in zip(starts, encoded, strict=False)])
    continues = np.append(np.asarray(pc.equal(ids.slice(0, len(ids) - 1), ids.slice(1))), False)
    return ids.filter(pa.array(~continues)), ends[~continues]


def _flat(table: pa.Table, users: pa.Array, ends: IntArray) -> Histories:
    """Histories of a table of shard rows; weights, targets and seen are None if they are 1 or true throughout."""
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
    """Turn errors of reading a file or folder into an InputError that says what it should be."""
    try:
        yield
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(f"{path}: not a snapshot ({error}). Run the snapshot step again.") from error


def read_histories(files: list[Path]) -> Histories:
    """Read shards that are sorted by user and time.

    Raises:
        InputError: a file is not a snapshot shard, or is not sorted by user.
    """
    with _of_a_snapshot(files[0].parent):
        table = pa.concat_tables([pq.read_table(file, columns=_COLUMNS) for file in files])
    users, ends = runs(table[USER_ID])
    if pc.count_distinct(users).as_py() != len(users):
        raise InputError(f"{files[0].parent}: a user's events are not together. Run the snapshot step again.")
    return _flat(table, users, ends)


def stream_histories(file: Path, *, events: int, users: int, asked: int | None = None) -> Iterator[Histories]:
    """Read a shard in blocks of whole users, so that memory does not grow with the shard.

    Args:
        file: a shard, sorted by user and time.
        events: approximate number of events of a block; a user with more is a block of its own.
        users: maximum number of users of a block.
        asked: time for which items are recommended to the users, microseconds; None: a day after each user's newest
            event, for events that have positions, which are a day apart.

    Raises:
        InputError: the file is not a snapshot shard, or is not sorted by user.
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
        block = block.asked_next() if asked is None else block.asked_at(asked)
        for start in range(0, len(block), users):
            yield block.select(np.arange(start, min(start + users, len(block))))


def read_user(file: Path, user: str) -> Histories:
    """The history of one user of a shard, without events if the shard has none of theirs.

    Raises:
        InputError: the file is not a snapshot shard.
    """
    with _of_a_snapshot(file):
        table = pq.read_table(file, columns=_COLUMNS, filters=[(USER_ID, "==", user)])
        return _flat(table, pa.array([user], pa.large_string()), np.array([len(table)]))


def row_groups(file: Path) -> int:
    """Number of row groups of a shard.

    Raises:
        InputError: the file is not a snapshot shard.
    """
    with _of_a_snapshot(file):
        return int(pq.read_metadata(file).num_row_groups)


def read_group(file: Path, group: int) -> Histories:
    """Users whose whole history is in one row group of a shard; further groups are read only if there are none.

    Raises:
        InputError: the file is not a snapshot shard.
    """
    tables: list[pa.Table] = []
    with _of_a_snapshot(file), pq.ParquetFile(file) as parquet:
        last = parquet.num_row_groups - 1
        for number in range(group, last + 1):
            tables.append(parquet.read_row_group(number, columns=_COLUMNS))
            table = pa.concat_tables(tables)
            users, ends = runs(table[USER_ID])
            # The first user may begin in an earlier group, the last one may continue in a later group.
            whole = np.arange(int(group > 0), len(users) - int(number < last))
            if len(whole) or number == last:
                return _flat(table, users, ends).select(whole)
    raise IndexError(f"{file} has no row group {group}")


def _whole_users(file: Path, events: int) -> Iterator[pa.Table]:
    """A shard's rows in tables of about ``events`` rows that end at the end of a user."""
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
