"""Take samples of large files that can be examined in seconds, and read them with the pull's own readers.

A large text file is represented by a small file of the same kind with whole records from 16 places; a large Parquet
file by some of its row groups. A small file represents itself.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.errors import InputError
from hmamba.sources.base import LINE, MALFORMED, RECORD
from hmamba.sources.csv_records import csv_header
from hmamba.sources.discover import SourceFile
from hmamba.sources.json_records import array_elements, parsed
from hmamba.sources.limits import require_few_columns
from hmamba.sources.parquet import open_parquet, read_batches
from hmamba.sources.read import open_file
from hmamba.storage.temporary import private_folder

MAX_FILES = 200
"""Maximum number of files to sample; of more, an evenly spread selection with the first and the last."""
_BLOCKS = 16
_TRIES = 64
"""Number of lines within which a CSV record must begin."""
_GZIP_STEP = 2**20
_RECORD_CELLS = 4_000_000
"""Maximum number of cells of the table of a sample's JSON records, which has a column for each name."""
_COLUMNS = 64
"""Columns that are read together: each holds a page and a dictionary in memory."""
_HELD_BYTES = 32 * 2**20
"""About the most bytes of the first rows of a file."""
_UNPACKED = 8
"""Assumed ratio of text bytes to gzip bytes."""


@dataclass(frozen=True)
class Budget:
    """Limits on what is read of a set of files.

    ``text_bytes``: uncompressed text of all files. ``cells``: rows times columns of all Parquet files.
    ``packed_bytes``: compressed bytes of one gzip file that are read to reach its end.
    """

    text_bytes: int
    cells: int
    packed_bytes: int


FULL = Budget(32 * 2**20, 12_000_000, 128 * 2**20)
"""Enough for statistics. A few seconds on one core."""
PEEK = Budget(2 * 2**20, 200_000, 2**20)
"""Enough to find the columns."""


@dataclass(frozen=True)
class Sample:
    """The file itself, or a part of it as a file of its own.

    ``file`` is read in the same way as the original and has its name. ``whole`` is true if it is the original.
    ``scale`` is the size of the original relative to ``file``. ``rows`` is the exact number of rows of the original,
    None if it can only be estimated.
    """

    original: SourceFile
    file: SourceFile
    whole: bool
    scale: float
    rows: int | None


def spread(files: Sequence[SourceFile], most: int = MAX_FILES) -> list[SourceFile]:
    """At most ``most`` files, evenly spread, with the first and the last."""
    if len(files) <= most:
        return list(files)
    return [files[round(place * (len(files) - 1) / (most - 1))] for place in range(most)]


def take(files: Sequence[SourceFile], folder: Path, budget: Budget = FULL) -> list[Sample]:
    """A sample of each file. A damaged file represents itself, so that reading it raises the error.

    Args:
        files: at most :data:`MAX_FILES`, see :func:`spread`.
        folder: an empty folder for the parts of large files.
        budget: limits on what is read.

    Raises:
        OSError: a file does not exist or cannot be read.
    """
    text_bytes, cells = budget.text_bytes, budget.cells
    if sum(file.size * (_UNPACKED if file.gzipped else 1) for file in files if file.kind != "parquet") > text_bytes:
        text_bytes //= len(files)
    if sum(_cells(file) for file in files if file.kind == "parquet") > cells:
        cells //= len(files)
    samples = []
    for number, file in enumerate(files):
        place = folder / f"{number}.{file.kind}"
        if file.kind == "parquet":
            samples.append(_of_parquet(file, place, cells))
        elif file.gzipped:
            samples.append(_of_gzip(file, place, text_bytes, budget.packed_bytes))
        else:
            samples.append(_of_text(file, place, text_bytes))
    return samples


@contextmanager
def samples_of(files: Sequence[SourceFile], budget: Budget = FULL) -> Iterator[list[Sample]]:
    """Samples of files, as :func:`take` makes them, in a temporary folder that is deleted after the block."""
    with private_folder() as folder:
        yield take(files, folder, budget)


def total_rows(files: Sequence[SourceFile], samples: Sequence[Sample], counts: Sequence[int]) -> tuple[int, bool]:
    """Number of rows of all files, and whether it is exact.

    Args:
        files: all files.
        samples: samples of some of them.
        counts: number of rows read of each sample.
    """
    pairs = list(zip(samples, counts, strict=True))
    rows = sum(count * sample.scale if sample.rows is None else sample.rows for sample, count in pairs)
    every = len(samples) == len(files)
    if not every:
        rows *= sum(file.size for file in files) / max(sum(sample.original.size for sample in samples), 1)
    return round(rows), every and all(sample.whole or sample.rows is not None for sample in samples)


def _part(file: SourceFile, place: Path, scale: float, rows: int | None) -> Sample:
    status = place.stat()
    part = dataclasses.replace(file, path=place, gzipped=False, size=status.st_size, modified_ns=status.st_mtime_ns)
    return Sample(file, part, False, scale, rows)


def _cells(file: SourceFile) -> int:
    try:
        with open_parquet(file) as parquet:
            return int(parquet.metadata.num_rows * parquet.metadata.num_columns)
    except InputError:
        return 0


def _of_parquet(file: SourceFile, place: Path, cells: int) -> Sample:
    try:
        with open_parquet(file) as parquet:
            rows = parquet.metadata.num_rows
            most = max(cells // max(parquet.metadata.num_columns, 1), 1000)
            schema = pa.schema([field for field in parquet.schema_arrow if not _is_vector(field.type)])
            is_complete, has_twins = len(schema) == len(parquet.schema_arrow), len(set(schema.names)) < len(schema)
            if (rows <= most and is_complete) or has_twins or not schema.names:
                return Sample(file, file, True, 1.0, rows)
            groups = parquet.num_row_groups
            chosen = sorted({round(block * (groups - 1) / (_BLOCKS - 1)) for block in range(_BLOCKS)})
            taken = 0
            with pq.ParquetWriter(place, schema) as writer:
                for group in chosen:
                    batch = _first_rows(file, parquet, schema, most // len(chosen), group)
                    if batch is not None:
                        writer.write_batch(batch)
                        taken += batch.num_rows
    except InputError:
        return Sample(file, file, True, 1.0, None)  # reading the file raises the pull's own error
    return _part(file, place, rows / max(taken, 1), rows)


def _is_vector(kind: pa.DataType) -> bool:
    """Whether a type is a list of numbers, such as an embedding. No role takes one, and its pages may be large."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_primitive(kind.value_type))


def _first_rows(
    file: SourceFile, parquet: pq.ParquetFile, schema: pa.Schema, rows: int, group: int
) -> pa.RecordBatch | None:
    """At most ``rows`` rows of the beginning of a row group, with the columns of a schema; None if it is empty."""
    columns: list[pa.Array] = []
    for start in range(0, len(schema), _COLUMNS):
        together = schema.names[start : start + _COLUMNS]
        batch = next(read_batches(file, parquet, rows, together, [group]), None)
        if batch is None:
            return None
        columns += batch.select(together).columns
    count = min(map(len, columns))
    return pa.RecordBatch.from_arrays([column.slice(0, count) for column in columns], schema=schema)


def _head(block: bytes) -> bytes:
    """The whole records at the beginning of a file; a record continues while a quote is open at the end of a line."""
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    quotes = np.searchsorted(np.flatnonzero(data == ord('"')), ends)
    closed = ends[quotes % 2 == 0]
    return block[: closed[-1] + 1] if len(closed) else b""


@dataclass(frozen=True)
class _Shape:
    """The format of a file's records: delimiter and number of columns of CSV, or lines of JSON."""

    delimiter: str | None
    width: int

    @classmethod
    def of(cls, file: SourceFile) -> _Shape:
        if file.kind == "json":
            return cls(None, 0)
        try:
            delimiter, header = csv_header(file, ())
        except InputError:  # reading the file raises the error
            return cls(",", 0)
        return cls(delimiter, len(header))

    def records(self, block: bytes, *, to_end: bool) -> bytes:
        """The whole records of a block from the middle of a file; empty if no beginning of a record is certain."""
        block = block.partition(b"\n")[2]
        if self.delimiter is None:
            return block if to_end else block[: block.rfind(b"\n") + 1]
        lines = block.splitlines(keepends=True)
        for start in range(min(_TRIES, len(lines))):
            if self._begins(lines[start : start + _TRIES]):
                rest = b"".join(lines[start:])
                return rest if to_end and not rest.count(b'"') % 2 else _head(rest)
        return b""

    def _begins(self, lines: Sequence[bytes]) -> bool:
        """Whether records with the header's number of fields begin on the first of these lines."""
        texts = (line.decode("utf-8", "surrogateescape") for line in lines)
        reader = csv.reader(texts, delimiter=self.delimiter or ",", strict=True)
        try:
            return all(len(fields) == self.width for fields in islice(reader, 3))
        except csv.Error:
            return False


def _of_text(file: SourceFile, place: Path, budget: int) -> Sample:
    if file.size <= budget:
        return Sample(file, file, True, 1.0, None)
    length = budget // _BLOCKS
    with file.path.open("rb") as stream:
        head = stream.read(length)
        if file.kind == "json" and head.lstrip()[:1] == b"[":
            return _of_elements(file, place, head)
        shape, kept = _Shape.of(file), [_head(head)]
        for block in range(1, _BLOCKS):
            start = block * (file.size - length) // (_BLOCKS - 1)
            stream.seek(start)
            kept.append(shape.records(stream.read(length), to_end=start + length >= file.size))
    return _of_blocks(file, place, kept, file.size)


def _of_blocks(file: SourceFile, place: Path, kept: Sequence[bytes], size: float) -> Sample:
    place.write_bytes(b"".join(block if block.endswith(b"\n") else block + b"\n" for block in kept if block))
    return _part(file, place, size / max(place.stat().st_size, 1), None)


def _of_gzip(file: SourceFile, place: Path, budget: int, packed_bytes: int) -> Sample:
    """The beginning and, within ``packed_bytes``, the end of a gzip file: most exports are sorted by time."""
    half = budget // 2
    tail: deque[bytes] = deque(maxlen=half // _GZIP_STEP + 1)
    try:
        with file.path.open("rb") as packed, gzip.open(packed) as stream:
            head = stream.read(half)
            unpacked = len(head)
            while packed.tell() < packed_bytes and (block := stream.read(_GZIP_STEP)):
                tail.append(block)
                unpacked += len(block)
            ended = not stream.read(1)
            seen = packed.tell()
    except (OSError, EOFError, zlib.error):
        return Sample(file, file, True, 1.0, None)  # reading the file raises the pull's own error
    if ended and unpacked <= budget:
        return Sample(file, file, True, 1.0, None)
    if file.kind == "json" and head.lstrip()[:1] == b"[":
        return _of_elements(file, place, head)
    kept = [_head(head), _Shape.of(file).records(b"".join(tail)[-half:], to_end=ended)]
    return _of_blocks(file, place, kept, unpacked if ended else unpacked * file.size / max(seen, 1))


def _of_elements(file: SourceFile, place: Path, head: bytes) -> Sample:
    """The first elements of a JSON array, one on each line."""
    lines = []
    with suppress(InputError):  # at the element that the head cuts off
        for _, text in array_elements(file, io.StringIO(head.decode("utf-8", "ignore"))):
            lines.append(text.replace("\n", " ").replace("\r", " "))
    return _of_blocks(file, place, ["\n".join(lines).encode()], file.size)


def read(file: SourceFile, only: Sequence[str] | None = None, rows: int | None = None) -> pa.Table:
    """Read columns of a file: typed from Parquet, text from CSV, the types of the values from JSON.

    Malformed records are left out.

    Args:
        file: the file.
        only: names of the columns; None: all. A JSON object without a column has a null there.
        rows: maximum number of rows, of fewer where they are long; None: all.

    Raises:
        InputError: the file does not have the format of its ending, or lacks a column.
    """
    reading = open_file(file, only or ())
    names = list(only) if only is not None else list(reading.columns or ())
    if only is None and reading.columns is not None:
        reading = open_file(file, names)  # raises if two columns have the same name
    batches: list[pa.RecordBatch] = []
    for batch in _up_to(reading.batches(names), rows):
        batches.append(batch.filter(batch.column(MALFORMED).is_null()))
    if reading.columns is None:
        return _of_records(file, (text for batch in batches for text in batch.column(RECORD).to_pylist()), only)
    if not batches:
        return pa.table({name: pa.array([], pa.string()) for name in names})
    return pa.Table.from_batches(batches).select(names)


def first_malformed(file: SourceFile) -> tuple[int, str] | None:
    """Line and text of the first record of a file that is malformed, among the first rows; None if none is.

    Raises:
        InputError: as :func:`read`.
    """
    batch = next(open_file(file, ()).batches(None), None)
    malformed = None if batch is None else batch.filter(batch.column(MALFORMED).is_valid())
    if not malformed:
        return None
    return malformed.column(LINE)[0].as_py(), malformed.column(MALFORMED)[0].as_py()


def _up_to(batches: Iterator[pa.RecordBatch], rows: int | None) -> Iterator[pa.RecordBatch]:
    """The first ``rows`` rows, or fewer if their values take more than :data:`_HELD_BYTES`; None for all."""
    if rows is None:
        yield from batches
        return
    held = 0
    for batch in batches:
        per_row = max(batch.nbytes // max(batch.num_rows, 1), 1)
        part = batch.slice(0, min(rows, max((_HELD_BYTES - held) // per_row, 1)))
        yield part
        rows, held = rows - part.num_rows, held + part.nbytes
        if rows <= 0 or held >= _HELD_BYTES or part.num_rows < batch.num_rows:
            return


def _of_records(file: SourceFile, texts: Iterator[str], only: Sequence[str] | None) -> pa.Table:
    objects: list[dict[str, Any]] = []
    deep = 0
    for text in texts:
        try:
            value = parsed(text)
        except RecursionError:
            deep += 1
            continue
        except ValueError:
            continue
        if isinstance(value, dict):
            objects.append(value)
    if deep and not objects:
        raise InputError(f"{file.name}: its records are nested too deeply to be examined. Write flat objects.")
    names = list(only) if only is not None else list(dict.fromkeys(name for record in objects for name in record))
    require_few_columns(file, len(names))
    objects = objects[: max(_RECORD_CELLS // max(len(names), 1), 1)]
    return pa.table({name: _column([record.get(name) for record in objects]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):  # members of several types
        return pa.array([None if value is None else str(value) for value in values], pa.string())
