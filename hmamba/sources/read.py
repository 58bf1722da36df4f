"""Read files of every format as Arrow batches of records with line numbers, see :class:`Reading`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from hmamba.errors import InputError
from hmamba.sources.base import LINE, MALFORMED, Reading, require_columns, with_lines
from hmamba.sources.csv_blocks import read_csv
from hmamba.sources.csv_records import csv_header
from hmamba.sources.discover import SourceFile
from hmamba.sources.json_records import read_json
from hmamba.sources.parquet import open_parquet, read_batches
from hmamba.sources.text import check_encoding

ROWS_PER_BATCH = 100_000
_MAGIC = {b"PAR1": "a Parquet", b"\x1f\x8b": "a gzip"}
_FOREIGN = {b"PK\x03\x04": "a zip or Excel", b"\xd0\xcf\x11\xe0": "an old Excel"}


def _check_magic(file: SourceFile) -> None:
    with file.path.open("rb") as stream:
        start = stream.read(8)
    expected = b"\x1f\x8b" if file.gzipped else b"PAR1" if file.kind == "parquet" else None
    if expected is not None and not start.startswith(expected):
        raise InputError(f"{file.name} is not {_MAGIC[expected]} file. Write it again, or correct its extension.")
    for magic, what in _FOREIGN.items():
        if start.startswith(magic):
            raise InputError(
                f"{file.name} is {what} file by its content, which is not supported. Export the data as CSV, JSON "
                "lines or Parquet."
            )
    for magic, what in _MAGIC.items():
        if expected is None and start.startswith(magic):
            raise InputError(f"{file.name} is {what} file by its content. Correct its extension, or write it again.")


def open_file(file: SourceFile, wanted: Iterable[str]) -> Reading:
    """Open a file for reading, after checks of its first bytes and its columns.

    Args:
        file: the file.
        wanted: required columns. In JSON records they are checked when the records are read.

    Raises:
        InputError: the content does not match the file name, or a column is missing or duplicate.
    """
    names = tuple(dict.fromkeys(wanted))
    _check_magic(file)
    if file.kind == "parquet":
        return _open_parquet(file, names)
    check_encoding(file)
    if file.kind == "json":
        return Reading(file.name, None, lambda _: read_json(file, ROWS_PER_BATCH))
    delimiter, header = csv_header(file, names)
    require_columns(file.name, names, header)

    def batches(only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        columns = range(len(header)) if only is None else [header.index(name) for name in only]
        return read_csv(file, delimiter, len(header), columns, header if only is None else only, ROWS_PER_BATCH)

    return Reading(file.name, tuple(header), batches)


def _open_parquet(file: SourceFile, names: Sequence[str]) -> Reading:
    with open_parquet(file) as parquet:
        columns = parquet.schema_arrow.names
    require_columns(file.name, names, columns)
    return Reading(file.name, tuple(columns), lambda only: _read_parquet(file, only))


def _read_parquet(file: SourceFile, only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    with open_parquet(file) as parquet:
        for batch in with_lines(read_batches(file, parquet, ROWS_PER_BATCH, only), 1):
            yield batch if only is None else batch.select([LINE, MALFORMED, *only])
