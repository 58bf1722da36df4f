"""One way to read every kind of file: Arrow batches of records with line numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.errors import InputError
from hmamba.sources.csv_blocks import read_csv
from hmamba.sources.csv_records import csv_header
from hmamba.sources.discover import SourceFile
from hmamba.sources.json_records import read_json
from hmamba.sources.text import LINE, MALFORMED, check_encoding
from hmamba.sources.values import Column, UnreadableType

T = TypeVar("T")

ROWS_PER_BATCH = 100_000
_MAGIC = {b"PAR1": "a Parquet", b"\x1f\x8b": "a gzip"}
_FOREIGN = {b"PK\x03\x04": "a zip or Excel", b"\xd0\xcf\x11\xe0": "an old Excel"}


@dataclass(frozen=True)
class Reading:
    """A file that can be read, as often as needed.

    ``columns`` are all that the file has, in its order; None for JSON, where each record has its own. ``batches(only)``
    yields record batches with ``__line``, ``__malformed`` and either the columns in ``only`` (in that order; all, if
    None) or ``__record``.
    """

    file: SourceFile
    columns: tuple[str, ...] | None
    batches: Callable[[Sequence[str] | None], Iterator[pa.RecordBatch]]


def require_columns(file: SourceFile, wanted: Iterable[str], present: Sequence[str]) -> None:
    """Check that a file has every column it needs, once. Names are compared exactly, capitals included.

    Raises:
        InputError: one is missing, and those that are there are listed; or two are called the same.
    """
    names = list(dict.fromkeys(wanted))
    missing = [name for name in names if name not in present]
    if missing:
        raise InputError(
            f"{file.name} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, present))}. "
            "Correct the file, or the names of columns in the configuration."
        )
    twice = [name for name in names if present.count(name) > 1]
    if twice:
        raise InputError(
            f"{file.name}: two columns are called {twice[0]!r}, and which is meant cannot be known. Rename one."
        )


def read_column(file: SourceFile, name: str, column: Column, convert: Callable[[Column], T]) -> T:
    """What a column of a file means.

    Raises:
        InputError: it is of a type that ``convert`` cannot read; names file, column and type.
    """
    try:
        return convert(column)
    except UnreadableType as error:
        raise InputError(
            f"{file.name}: column {name!r} is of type {error.kind}. Write it as {error.cure}, or name another column."
        ) from None


def _check_magic(file: SourceFile) -> None:
    with file.path.open("rb") as stream:
        start = stream.read(8)
    expected = b"\x1f\x8b" if file.gzipped else b"PAR1" if file.kind == "parquet" else None
    if expected is not None and not start.startswith(expected):
        raise InputError(f"{file.name} is not {_MAGIC[expected]} file. Write it again, or give it the ending it is.")
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise InputError(
                f"{file.name} is {what} file by its content, which is not read. Put what it holds there as CSV, JSON "
                "lines or Parquet."
            )
    for magic, what in _MAGIC.items():
        if expected is None and start.startswith(magic):
            raise InputError(f"{file.name} is {what} file by its content. Give it the ending it is, or write it again.")


def open_file(file: SourceFile, wanted: Iterable[str]) -> Reading:
    """Look at a file's beginning and say how to read it.

    Args:
        file: the file.
        wanted: columns that it must have. JSON records are looked at only when they are read.

    Raises:
        InputError: the content is not what the name says, or a column is missing or there twice.
    """
    names = tuple(dict.fromkeys(wanted))
    _check_magic(file)
    if file.kind == "parquet":
        return _open_parquet(file, names)
    check_encoding(file)
    if file.kind == "json":
        return Reading(file, None, lambda _: read_json(file, ROWS_PER_BATCH))
    delimiter, header = csv_header(file, names)
    require_columns(file, names, header)

    def batches(only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        columns = range(len(header)) if only is None else [header.index(name) for name in only]
        return read_csv(file, delimiter, len(header), columns, header if only is None else only, ROWS_PER_BATCH)

    return Reading(file, tuple(header), batches)


def _open_parquet(file: SourceFile, names: Sequence[str]) -> Reading:
    try:
        schema = pq.read_schema(file.path)
    except (pa.ArrowException, OSError) as error:
        raise _broken_parquet(file, error) from None
    require_columns(file, names, schema.names)
    return Reading(file, tuple(schema.names), lambda only: _read_parquet(file, only))


def _read_parquet(file: SourceFile, only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    line = 1
    try:
        with pq.ParquetFile(file.path) as parquet:
            for batch in parquet.iter_batches(ROWS_PER_BATCH, columns=None if only is None else list(only)):
                batch.validate(full=True)
                lines = pa.array(np.arange(line, line + batch.num_rows))
                line += batch.num_rows
                columns = batch.columns if only is None else [batch.column(name) for name in only]
                nothing = pa.nulls(batch.num_rows, pa.string())
                names = batch.schema.names if only is None else only
                yield pa.RecordBatch.from_arrays([lines, nothing, *columns], [LINE, MALFORMED, *names])
    except (pa.ArrowException, OSError) as error:
        raise _broken_parquet(file, error) from None


def _broken_parquet(file: SourceFile, error: Exception) -> InputError:
    return InputError(f"{file.name} is not a whole Parquet file ({str(error).splitlines()[0]}). Write it again.")
