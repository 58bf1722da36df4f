"""Parts of large files, small enough to be looked at in seconds, read by the readers that the pull uses.

A text file that is too large is represented by a small file of the same kind, made of whole lines from all over it; a
Parquet file by some of its row groups. Small files represent themselves.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.errors import InputError
from hmamba.sources.base import MALFORMED, RECORD
from hmamba.sources.csv_records import csv_header
from hmamba.sources.discover import SourceFile
from hmamba.sources.read import open_file

MAX_FILES = 200
"""Files that are looked into; of more, some evenly spread ones with the first and the last."""
_BLOCKS = 16
_TRIES = 64
"""Lines among which a record of a CSV file has to begin."""
_GZIP_STEP = 2**20
_UNPACKED = 8
"""Bytes of text in a byte of its gzip, roughly."""


@dataclass(frozen=True)
class Budget:
    """What may be read of a set of files, all together.

    ``text_bytes``: of text, unpacked. ``cells``: rows times columns of Parquet. ``packed_bytes``: compressed bytes of
    one gzipped file that are gone through to reach its end.
    """

    text_bytes: int
    cells: int
    packed_bytes: int


FULL = Budget(32 * 2**20, 12_000_000, 128 * 2**20)
"""Enough for figures. A few seconds on one core."""
PEEK = Budget(2 * 2**20, 200_000, 2**20)
"""Enough to tell what columns there are."""


@dataclass(frozen=True)
class Sample:
    """What stands for a file: the file itself, or a part of it.

    ``file`` can be read as the original can and has its name. ``whole`` says that it is the original. ``scale`` is how
    much larger the original is; ``rows`` is the exact number of its rows, or None where only an estimate is possible.
    """

    original: SourceFile
    file: SourceFile
    whole: bool
    scale: float
    rows: int | None


def spread(files: Sequence[SourceFile], most: int = MAX_FILES) -> list[SourceFile]:
    """At most ``most`` files, evenly spread, the first and the last among them."""
    if len(files) <= most:
        return list(files)
    return [files[round(place * (len(files) - 1) / (most - 1))] for place in range(most)]


def take(files: Sequence[SourceFile], folder: Path, budget: Budget = FULL) -> list[Sample]:
    """A sample of each file. A damaged file stands for itself: reading it raises the error.

    Args:
        files: not more than :data:`MAX_FILES`, see :func:`spread`.
        folder: for the parts of large files; holds nothing else.
        budget: what may be read.

    Raises:
        OSError: a file is gone or may not be read.
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


def total_rows(files: Sequence[SourceFile], samples: Sequence[Sample], counts: Sequence[int]) -> tuple[int, bool]:
    """Rows of all files, and whether that is exact.

    Args:
        files: all files.
        samples: of some of them.
        counts: rows read of each sample.
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
        metadata = pq.read_metadata(file.path)
    except (pa.ArrowException, OSError):
        return 0
    return int(metadata.num_rows * metadata.num_columns)


def _of_parquet(file: SourceFile, place: Path, cells: int) -> Sample:
    try:
        with pq.ParquetFile(file.path) as parquet:
            rows = parquet.metadata.num_rows
            most = max(cells // max(parquet.metadata.num_columns, 1), 1000)
            if rows <= most:
                return Sample(file, file, True, 1.0, rows)
            groups = parquet.num_row_groups
            chosen = sorted({round(block * (groups - 1) / (_BLOCKS - 1)) for block in range(_BLOCKS)})
            taken = 0
            with pq.ParquetWriter(place, parquet.schema_arrow) as writer:
                for group in chosen:
                    batch = next(parquet.iter_batches(most // len(chosen), row_groups=[group]), None)
                    if batch is not None:
                        writer.write_batch(batch)
                        taken += batch.num_rows
    except (pa.ArrowException, OSError):
        return Sample(file, file, True, 1.0, None)  # reading it will say what is wrong, in the pull's own words
    return _part(file, place, rows / max(taken, 1), rows)


def _head(block: bytes) -> bytes:
    """The whole records that a file begins with; a quote that is open at the end of a line spans lines."""
    block = block[: block.rfind(b"\n") + 1]
    while block.count(b'"') % 2:
        block = block[: block.rfind(b"\n", 0, -1) + 1]
    return block


@dataclass(frozen=True)
class _Shape:
    """How the records of a file are separated: CSV by its delimiter and number of columns, JSON by lines."""

    delimiter: str | None
    width: int

    @classmethod
    def of(cls, file: SourceFile) -> _Shape:
        if file.kind == "json":
            return cls(None, 0)
        try:
            delimiter, header = csv_header(file, ())
        except InputError:  # reading it will say so
            return cls(",", 0)
        return cls(delimiter, len(header))

    def records(self, block: bytes, *, to_end: bool) -> bytes:
        """The whole records of a block from the middle of a file; nothing where none can be told for sure."""
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
        """Whether records as wide as the header begin on the first of these lines."""
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
    """The beginning and, within ``packed_bytes``, the end: most exports are sorted by time."""
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
        return Sample(file, file, True, 1.0, None)  # reading it will say what is wrong, in the pull's own words
    if ended and unpacked <= budget:
        return Sample(file, file, True, 1.0, None)
    if file.kind == "json" and head.lstrip()[:1] == b"[":
        return _of_elements(file, place, head)
    kept = [_head(head), _Shape.of(file).records(b"".join(tail)[-half:], to_end=ended)]
    return _of_blocks(file, place, kept, unpacked if ended else unpacked * file.size / max(seen, 1))


def _of_elements(file: SourceFile, place: Path, head: bytes) -> Sample:
    """The first elements of a JSON array, one a line."""
    text = head.decode("utf-8", "ignore")
    scan = json.JSONDecoder().raw_decode
    position, lines = text.index("[") + 1, []
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        try:
            _, end = scan(text, position)
        except json.JSONDecodeError:
            break
        lines.append(text[position:end].replace("\n", " ").replace("\r", " "))
        position = end
    return _of_blocks(file, place, ["\n".join(lines).encode()], file.size)


def read(file: SourceFile, only: Sequence[str] | None = None, rows: int | None = None) -> pa.Table:
    """Columns of a file: typed in Parquet, text in CSV, whatever the members hold in JSON. Broken records are left out.

    Args:
        file: the file.
        only: the columns; all without it. A JSON object that lacks one has a null there.
        rows: how many rows, at most; all without it.

    Raises:
        InputError: the file is not what its name says, or lacks a column.
    """
    reading = open_file(file, only or ())
    names = list(only) if only is not None else list(reading.columns or ())
    if only is None and reading.columns is not None:
        reading = open_file(file, names)  # two columns of one name are an error
    batches: list[pa.RecordBatch] = []
    for batch in _up_to(reading.batches(names), rows):
        batches.append(batch.filter(batch.column(MALFORMED).is_null()))
    if reading.columns is None:
        return _of_records((text for batch in batches for text in batch.column(RECORD).to_pylist()), only)
    if not batches:
        return pa.table({name: pa.array([], pa.string()) for name in names})
    return pa.Table.from_batches(batches).select(names)


def _up_to(batches: Iterator[pa.RecordBatch], rows: int | None) -> Iterator[pa.RecordBatch]:
    left = rows
    for batch in batches:
        yield batch if left is None else batch.slice(0, left)
        if left is not None:
            left -= batch.num_rows
            if left <= 0:
                return


def _of_records(texts: Iterator[str], only: Sequence[str] | None) -> pa.Table:
    objects: list[dict[str, Any]] = []
    for text in texts:
        try:
            value = json.loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            objects.append(value)
    names = list(only) if only is not None else list(dict.fromkeys(name for record in objects for name in record))
    return pa.table({name: _column([record.get(name) for record in objects]) for name in names})


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):  # members of several types
        return pa.array([None if value is None else str(value) for value in values], pa.string())
