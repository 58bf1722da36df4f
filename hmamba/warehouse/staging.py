"""Reading files into temporary tables: the staged batch, the rows it loses, and those rows as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from hmamba.config import InteractionColumns, SourceConfig
from hmamba.errors import InputError
from hmamba.progress import Progress
from hmamba.source.read import Reading, open_file, require_columns
from hmamba.source.text import LINE, RECORD
from hmamba.statements import statement
from hmamba.warehouse.ledger import Kind, TakenFile, changed, hash_of


def pointer(member: str) -> str:
    """The JSON pointer (RFC 6901) of an object's member."""
    return "/" + member.replace("~", "~0").replace("/", "~1")


class _Chunk:
    """An Arrow batch that DuckDB can be made to let go of.

    It keeps every object that was ever registered until the transaction ends, which here is that of the whole pull.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch: pa.RecordBatch | None = batch

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        batch = self.batch
        assert batch is not None  # a statement that comes after the block has no table of this name
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


def _wanted(columns: InteractionColumns) -> list[str]:
    names = [columns.user_id, columns.item_id, columns.event_time, columns.weight]
    return list(dict.fromkeys(name for name in names if name is not None))


def read_unchanged(
    connection: duckdb.DuckDBPyConnection,
    taken: TakenFile,
    wanted: Sequence[str],
    each: Callable[[Reading, pa.RecordBatch, int], None],
    lists: Sequence[str] = (),
) -> int:
    """Read a whole file, batch by batch, as ``chunk``.

    Args:
        connection: where ``chunk`` appears.
        taken: the file.
        wanted: columns, or members of JSON objects, that must be there; only these are read.
        each: called with every batch and the number of records before it.
        lists: the columns that may hold lists.

    Returns:
        The number of records.

    Raises:
        InputError: the file is not what its name says, lacks a column, or changed while it was read.
    """
    reading = open_file(taken.file, wanted, lists)
    records = 0
    keys: set[str] = set()
    try:
        for batch in reading.batches(wanted):
            with chunk_of(connection, batch):
                each(reading, batch, records)
                if reading.columns is None:
                    keys.update(key for (key,) in connection.execute(statement("ingest/record_keys")).fetchall())
            records += batch.num_rows
    except duckdb.Error as error:
        raise InputError(f"{taken.file.name} cannot be read ({str(error).splitlines()[0]}). Write it again.") from None
    finally:
        # A file that grows is the likeliest reason for any other complaint about it.
        if hash_of(taken.file) != taken.sha256:
            raise changed(taken.file)
    if keys:
        require_columns(taken.file, wanted, sorted(keys))
    return records


def _as_they_are(batch: pa.RecordBatch, source: SourceConfig) -> dict[str, bool]:
    """Which values mean the same with and without a detour through text."""
    time = batch.schema.field(source.columns.event_time).type
    weight = batch.schema.field(source.columns.weight or source.columns.user_id).type
    return {
        "is_utc": source.time_format == "auto"
        and source.timezone == "UTC"
        and pa.types.is_timestamp(time)
        and time.tz is None
        and time.unit != "ns",
        "is_number": pa.types.is_integer(weight) or pa.types.is_float64(weight),
    }


def stage(connection: duckdb.DuckDBPyConnection, files: Sequence[TakenFile], source: SourceConfig) -> list[int]:
    """Read files into the temporary table ``staged``; returns the rows of each.

    Raises:
        InputError: see :func:`read_unchanged`.
    """
    columns = source.columns
    for name in ("create_staged", "read_time"):
        connection.execute(statement(f"ingest/{name}"))
    by_column = statement(
        "ingest/stage_columns",
        user_id=columns.user_id,
        item_id=columns.item_id,
        event_time=columns.event_time,
        weight=columns.weight or columns.user_id,
    )
    members = {
        "user_id": pointer(columns.user_id),
        "item_id": pointer(columns.item_id),
        "event_time": pointer(columns.event_time),
        "weight": pointer(columns.weight or columns.user_id),
    }

    def insert(number: int, reading: Reading, batch: pa.RecordBatch, before: int) -> None:
        values = {
            "first": sum(counts) + before,
            "file": number,
            "time_format": source.time_format,
            "weighted": columns.weight is not None,
        }
        if reading.columns is None:
            connection.execute(statement("ingest/stage_records"), values | members)
        else:
            connection.execute(by_column, values | _as_they_are(batch, source))
        progress.update(0, f"{before:,} rows of {files[number].file.name}")

    counts: list[int] = []
    with Progress("read files", sum(taken.file.size for taken in files), "bytes") as progress:
        for number, taken in enumerate(files):
            counts.append(read_unchanged(connection, taken, _wanted(columns), partial(insert, number)))
            progress.update(taken.file.size)
    return counts


def quarantine(
    connection: duckdb.DuckDBPyConnection,
    batch_id: int,
    kind: Kind,
    number: int,
    taken: TakenFile,
) -> None:
    """Copy the refused rows of one file, with all their columns, into the quarantine. The caller commits."""
    reading = open_file(taken.file, ())
    values = {"batch_id": batch_id, "kind": kind, "path": taken.file.name, "file": number}
    refused = connection.execute(statement("ingest/refused_lines"), {"file": number}).to_arrow_table()["line"]
    for everything in reading.batches(reading.columns or ()):
        batch = everything.filter(pc.is_in(everything.column(LINE), value_set=refused))
        if not batch.num_rows:
            continue
        if reading.columns is None:
            name, chunk = "ingest/add_quarantine_records", batch
        else:
            fields = [batch.column(column) for column in reading.columns]
            structs = pa.StructArray.from_arrays(fields, list(reading.columns))
            name = "ingest/add_quarantine_columns"
            chunk = pa.RecordBatch.from_arrays([batch.column(LINE), structs], [LINE, RECORD])
        with chunk_of(connection, chunk):
            connection.execute(statement(name), values)
    if hash_of(taken.file) != taken.sha256:
        raise changed(taken.file)
