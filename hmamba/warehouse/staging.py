"""Read source parts into temporary tables, with the same columns for every file format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from hmamba.config import SourceConfig
from hmamba.errors import InputError
from hmamba.progress import Progress
from hmamba.sources.base import LINE, MALFORMED, Part, Reading, read_column, require_columns
from hmamba.sources.times import moments, positions
from hmamba.sources.values import Column, Members, ids, numbers
from hmamba.statements import statement

T = TypeVar("T")


class _Chunk:
    """An Arrow batch whose memory can be freed after use.

    DuckDB keeps every registered object until the transaction ends, here the transaction of the whole pull. It keeps
    this small wrapper instead of the batch.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch: pa.RecordBatch | None = batch

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        batch = self.batch
        assert batch is not None  # the table is unregistered before the batch is dropped
        return pa.RecordBatchReader.from_batches(batch.schema, [batch]).__arrow_c_stream__(requested_schema)


@contextmanager
def chunk_of(connection: duckdb.DuckDBPyConnection, batch: pa.RecordBatch) -> Iterator[None]:
    """Let statements read an Arrow batch as the table ``chunk``."""
    chunk = _Chunk(batch)
    connection.register("chunk", chunk)
    try:
        yield
    finally:
        connection.unregister("chunk")
        chunk.batch = None


@dataclass(frozen=True)
class Picked:
    """The requested columns of N records of a part.

    Attributes:
        name: name of the part.
        before: number of records of the part that precede these.
        lines: int64 (N,): line on which each record starts.
        malformed: string (N,): text of each malformed record; null for all others.
        columns: the requested columns, by their names in the part; null where a record is malformed.
    """

    name: str
    before: int
    lines: pa.Array
    malformed: pa.Array
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.lines)

    def has_member(self, name: str) -> bool:
        """Whether one of the records, which are JSON objects, has a member of this name."""
        members = self.columns[name]
        return isinstance(members, Members) and members.kinds.null_count < len(members.kinds)

    def read(self, column: str, convert: Callable[[Column], T]) -> T:
        """Convert a column.

        Raises:
            InputError: the column has a type that ``convert`` cannot read.
        """
        return read_column(self.name, column, self.columns[column], convert)


def _pointer(member: str) -> str:
    """The JSON pointer (RFC 6901) of an object's member."""
    return "/" + member.replace("~", "~0").replace("/", "~1")


def _picked(
    connection: duckdb.DuckDBPyConnection, reading: Reading, batch: pa.RecordBatch, names: Sequence[str], before: int
) -> Picked:
    if reading.columns is not None:
        columns: dict[str, Column] = {name: batch.column(name) for name in names}
        return Picked(reading.name, before, batch.column(LINE), batch.column(MALFORMED), columns)
    pointers = {"members": [_pointer(name) for name in names]}
    with chunk_of(connection, batch):
        found = connection.execute(statement("ingest/pick_members"), pointers).to_arrow_table().combine_chunks()
    (picked,) = found.to_batches() or [pa.RecordBatch.from_pylist([], found.schema)]
    kinds, texts = picked.column("kinds").flatten(), picked.column("texts").flatten()
    members: dict[str, Column] = {}
    for number, name in enumerate(names):
        at = pa.array(np.arange(number, len(kinds), len(names)))
        members[name] = Members(kinds.take(at), texts.take(at))
    return Picked(reading.name, before, picked.column("line"), picked.column("malformed"), members)


def read_unchanged(
    connection: duckdb.DuckDBPyConnection, part: Part, wanted: Sequence[str], each: Callable[[Picked], None]
) -> int:
    """Read a whole part, batch by batch, and check that it did not change meanwhile.

    Args:
        connection: DuckDB, which parses JSON.
        part: the part.
        wanted: required columns, or members of JSON objects; only these are read.
        each: called with each batch of records.

    Returns:
        The number of records.

    Raises:
        InputError: the content does not match the name; a column is missing, duplicate or of an unsupported type; or
            the part changed while it was read.
    """
    reading = part.open(wanted)
    records = 0
    missing = set() if reading.columns is not None else set(wanted)
    try:
        for batch in reading.batches(wanted):
            picked = _picked(connection, reading, batch, wanted, records)
            missing -= {name for name in missing if picked.has_member(name)}
            each(picked)
            records += batch.num_rows
        keys = _member_names(connection, reading) if missing else []
    except Exception as error:
        # A file that is still being written is the likeliest cause, so report that first. KeyboardInterrupt is not an
        # Exception: Ctrl-C does not wait for the hash.
        part.require_unchanged()
        if isinstance(error, duckdb.Error):
            reason = str(error).splitlines()[0]
            raise InputError(f"{part.name} cannot be read ({reason}). Write it again.") from None
        raise
    part.require_unchanged()
    if keys:
        require_columns(part.name, [name for name in wanted if name in missing], keys)
    return records


def _member_names(connection: duckdb.DuckDBPyConnection, reading: Reading) -> list[str]:
    """Names of members of the first JSON objects that have any."""
    for batch in reading.batches(()):
        with chunk_of(connection, batch):
            found = connection.execute(statement("ingest/record_keys")).fetchall()
        if found:
            return [name for (name,) in found]
    return []


def _events(picked: Picked, source: SourceConfig, first: int) -> tuple[pa.RecordBatch, str]:
    """The columns that ``stage_events`` reads, and the form of the times in them."""
    columns, words, count = source.columns, source.null_words, len(picked)
    users = picked.read(columns.user_id, partial(ids, null_words=words))
    items = picked.read(columns.item_id, partial(ids, null_words=words))
    if columns.position is not None:
        times = picked.read(columns.position, partial(positions, null_words=words))
    else:
        read = partial(moments, time_format=source.time_format, timezone=source.timezone, null_words=words)
        times = picked.read(columns.event_time, read)
    types: pa.Array = pa.repeat("", count)
    if columns.event_type is not None:
        types = picked.read(columns.event_type, partial(ids, null_words=words)).values
    weights: pa.Array = pa.repeat(1.0, count)
    if columns.weight is not None:
        weights = picked.read(columns.weight, partial(numbers, null_words=words))
    events = {
        "position": pa.array(np.arange(first, first + count)),
        "line": picked.lines,
        "malformed": picked.malformed,
        "user_id": users.values,
        "item_id": items.values,
        "event_time": times.values,
        "event_type": types,
        "weight": weights,
        "user_unreadable": users.unreadable,
        "item_unreadable": items.unreadable,
    }
    return pa.RecordBatch.from_arrays(list(events.values()), list(events)), times.form


def stage(connection: duckdb.DuckDBPyConnection, parts: Sequence[Part], source: SourceConfig) -> list[int]:
    """Read parts into the table ``staged``; returns the number of rows of each.

    Raises:
        InputError: see :func:`read_unchanged`.
    """
    connection.execute(statement("ingest/create_staged"))

    def insert(number: int, picked: Picked) -> None:
        events, form = _events(picked, source, sum(counts) + picked.before)
        with chunk_of(connection, events):
            connection.execute(statement("ingest/stage_events"), {"file": number, "form": form})
        progress.update(0, f"{picked.before:,} rows of {picked.name}")

    counts: list[int] = []
    with Progress("read files", sum(part.size for part in parts), "bytes") as progress:
        for number, part in enumerate(parts):
            counts.append(read_unchanged(connection, part, source.columns.wanted, partial(insert, number)))
            progress.update(part.size)
    return counts
