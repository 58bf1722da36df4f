"""Read Parquet files as Arrow batches whose memory is bounded, whatever the file claims."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil

import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.errors import InputError
from hmamba.sources.discover import SourceFile
from hmamba.sources.limits import Expansion, exceeded, require_few_columns, too_long
from hmamba.sources.parquet_pages import BadPageError, ChunkSize, chunk_size

_FOOTER_RECORDS = 4
_PAGE_RECORDS = 16
"""Bounds on the footer and on the pages of a row group, in records of ``max_record_bytes``."""
_BATCH_RECORDS = 8
_TAIL_BYTES = 8
_LEVEL_BYTES = 8
"""Arrow's levels and index of one value of a list."""
_SMALL_BATCH = 10_000
"""Batches of fewer rows are joined."""
_JOINED_BYTES = 1 << 26


@contextmanager
def open_parquet(file: SourceFile) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file after checks of its footer. Arrow's errors in the block become InputErrors.

    Raises:
        InputError: it is not a whole Parquet file, or its footer or number of columns exceed ``source.limits``.
    """
    try:
        _check_footer(file)
        with pq.ParquetFile(file.path) as parquet:
            require_few_columns(file, max(parquet.metadata.num_columns, len(parquet.schema_arrow)))
            yield parquet
    except BadPageError as error:
        raise _broken(file, str(error)) from None
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise _broken(file, str(error).splitlines()[0]) from error


def _broken(file: SourceFile, reason: str) -> InputError:
    return InputError(f"{file.name} is not a whole Parquet file ({reason}). Write it again.")


def _check_footer(file: SourceFile) -> None:
    with file.path.open("rb") as stream:
        stream.seek(-min(_TAIL_BYTES, os.fstat(stream.fileno()).st_size), os.SEEK_END)
        footer = int.from_bytes(stream.read(4), "little")
        size = stream.seek(0, os.SEEK_END)
    if _FOOTER_RECORDS * file.limits.max_record_bytes < footer <= size:  # Arrow refuses what is larger than the file
        what = f"its footer has {footer:,} bytes, more than {_FOOTER_RECORDS} times"
        raise exceeded(file, what, "max_record_bytes", "Write it again with larger row groups")


def read_batches(
    file: SourceFile,
    parquet: pq.ParquetFile,
    rows: int,
    only: Sequence[str] | None = None,
    groups: Sequence[int] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield valid batches of at most ``rows`` rows.

    A batch holds at most 8 times ``max_record_bytes``, or one row. It is read with fewer rows at once if the pages say
    that they may hold long values.

    Args:
        file: the file.
        parquet: the file, opened by :func:`open_parquet`.
        rows: maximum number of rows of a batch.
        only: names of the columns; None for all.
        groups: numbers of the row groups; None for all.

    Raises:
        InputError: the file is damaged, or exceeds ``source.limits``.
    """
    numbers = range(parquet.num_row_groups) if groups is None else groups
    at_once = _rows_at_once(file, parquet, rows, _leaves(parquet, only), numbers)
    expansion, names = Expansion(file), None if only is None else list(only)
    batches = parquet.iter_batches(at_once, row_groups=list(numbers), columns=names)
    for batch in _joined(batches, at_once, min(rows, _SMALL_BATCH)):
        expansion.add(batch.nbytes)
        if batch.nbytes > batch.num_rows * file.limits.max_record_bytes:
            raise too_long(file, "a row")
        batch.validate(full=True)
        yield batch


def _leaves(parquet: pq.ParquetFile, only: Sequence[str] | None) -> list[int]:
    """Numbers of the stored columns that belong to some columns of the schema."""
    paths = (parquet.schema.column(number).path for number in range(parquet.metadata.num_columns))
    wanted = None if only is None else set(only)
    return [
        number
        for number, path in enumerate(paths)
        if wanted is None or path in wanted or any(path.startswith(f"{name}.") for name in wanted)
    ]


def _rows_at_once(
    file: SourceFile, parquet: pq.ParquetFile, rows: int, leaves: Sequence[int], groups: Sequence[int]
) -> int:
    """The number of rows whose values fit into a batch, in every row group.

    Raises:
        InputError: the pages of a row group, or all values, exceed ``source.limits``.
    """
    most, expanded = _PAGE_RECORDS * file.limits.max_record_bytes, Expansion(file)
    schemas = [parquet.schema.column(number) for number in leaves]
    with file.path.open("rb") as stream:
        for group in groups:
            stored = parquet.metadata.row_group(group)
            chunks = [
                chunk_size(stream.fileno(), stored.column(number), schema.length or 0, most)
                for number, schema in zip(leaves, schemas, strict=True)
            ]
            lists = [chunk for chunk, schema in zip(chunks, schemas, strict=True) if schema.max_repetition_level]
            pages = sum(chunk.page_bytes for chunk in chunks)
            levels = _LEVEL_BYTES * max((chunk.values for chunk in lists), default=0)
            _check_group(file, f"pages of row group {group} take", pages, most, "smaller pages")
            _check_group(file, f"lists of row group {group} take", levels, most, "smaller row groups")
            for chunk, schema in zip(chunks, schemas, strict=True):
                if schema.max_repetition_level or schema.physical_type != "BYTE_ARRAY":
                    expanded.add(chunk.values * chunk.value_bytes)
            width = sum(_bytes_per_row(chunk, stored.num_rows) for chunk in chunks)
            rows = min(rows, max(1, _BATCH_RECORDS * file.limits.max_record_bytes // max(width, 1)))
    return rows


def _bytes_per_row(chunk: ChunkSize, rows: int) -> int:
    return chunk.value_bytes * max(1, ceil(chunk.values / max(rows, 1)))


def _check_group(file: SourceFile, what: str, count: int, most: int, smaller: str) -> None:
    if count > most:
        what = f"{what} {count:,} bytes of memory, more than {_PAGE_RECORDS} times"
        raise exceeded(file, what, "max_record_bytes", f"Write it again with {smaller}")


def _joined(batches: Iterator[pa.RecordBatch], at_once: int, rows: int) -> Iterator[pa.RecordBatch]:
    """Join batches of at most ``at_once`` rows, up to ``rows`` rows and about :data:`_JOINED_BYTES` bytes."""
    held: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        held.append(batch)
        count, size = count + batch.num_rows, size + batch.nbytes
        if count + at_once > rows or size >= _JOINED_BYTES:
            yield held[0] if len(held) == 1 else pa.concat_batches(held)
            held, count, size = [], 0, 0
    if held:
        yield pa.concat_batches(held)
