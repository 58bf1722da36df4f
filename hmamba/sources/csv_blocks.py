"""Read CSV files as Arrow batches, block by block, with Arrow's parser if its result is certain, else by record.

Arrow's parser does not report the line of a row, and fails at a record with too few fields or with invalid UTF-8.
Therefore NumPy first locates the quotes, line ends and delimiters of a block. If every quote opens or closes a field,
these determine records and fields exactly: malformed records are removed and Arrow reads the rest. All other blocks are
read by :mod:`hmamba.sources.csv_records`.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from hmamba.sources.base import LINE, MALFORMED
from hmamba.sources.csv_records import Blocks, read_records
from hmamba.sources.discover import SourceFile
from hmamba.sources.text import is_unicode, open_bytes, shown

Positions = npt.NDArray[np.int64]
_MOST_BYTES = 2**31 - 2
_NEWLINE, _RETURN, _QUOTE = b'\n\r"'


@dataclass(frozen=True)
class _Piece:
    """Some records of the file: start lines, raw text of malformed records (else null), and columns."""

    lines: pa.Array
    malformed: pa.Array
    columns: list[pa.Array]


def read_csv(
    file: SourceFile,
    delimiter: str,
    width: int,
    columns: Sequence[int],
    names: Sequence[str],
    rows: int,
    *,
    by_record: bool = False,
) -> Iterator[pa.RecordBatch]:
    """Yield batches of at most ``rows`` records. Records with a wrong number of fields or invalid UTF-8 are malformed.

    Args:
        file: the file.
        delimiter: one character.
        width: number of columns of the file.
        columns: positions of the columns to return.
        names: names of the returned columns.
        rows: maximum number of records in a batch.
        by_record: read every block by record; the result is the same, for comparison in tests.

    Raises:
        InputError: a quote is not closed, the gzip file is truncated, or a bound of ``source.limits`` is exceeded.
    """
    line, has_header = 1, True
    with open_bytes(file) as stream:
        blocks = Blocks(file, stream)
        while block := blocks.take():
            if not block.strip(b"\n"):
                line += len(block)
                continue
            layout = None if by_record else _look(block, ord(delimiter))
            piece = None if layout is None else _by_arrow(layout, delimiter, width, columns, line, has_header)
            if piece is not None and layout is not None:
                yield from _batches(piece, names, rows)
                line += len(layout.newlines)
            else:
                for piece, past in _by_record(file, block, blocks, delimiter, width, columns, line, has_header, rows):
                    yield from _batches(piece, names, rows)
                    line = past
            has_header = has_header and not block.strip(b"\r\n")


def _batches(piece: _Piece, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    batch = pa.RecordBatch.from_arrays([piece.lines, piece.malformed, *piece.columns], [LINE, MALFORMED, *names])
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def _by_record(
    file: SourceFile,
    block: bytes,
    blocks: Blocks,
    delimiter: str,
    width: int,
    columns: Sequence[int],
    line: int,
    has_header: bool,
    rows: int,
) -> Iterator[tuple[_Piece, int]]:
    """At most ``rows`` records at a time of a block, which may extend into the next blocks, and the line after them."""
    found = read_records(file, block, blocks, delimiter, line)
    while taken := list(islice(found, rows)):
        records = [record for record in taken if record[1]]
        if has_header and records:
            del records[0]
            has_header = False
        yield _piece(records, width, columns), taken[-1][0]


def _piece(records: Sequence[tuple[int, list[str], str]], width: int, columns: Sequence[int]) -> _Piece:
    """Records that :func:`read_records` has read, without the blank ones."""
    clean = is_unicode(raw for _, _, raw in records)
    good = [len(fields) == width and (clean or is_unicode(fields)) for _, fields, _ in records]
    malformed = [None if ok else shown(raw) for ok, (_, _, raw) in zip(good, records, strict=True)]
    values = [
        [fields[column] if ok else None for ok, (_, fields, _) in zip(good, records, strict=True)] for column in columns
    ]
    return _Piece(
        pa.array([start for start, _, _ in records], pa.int64()),
        pa.array(malformed, pa.string()),
        [pa.array(texts, pa.string()) for texts in values],
    )


@dataclass(frozen=True)
class _Layout:
    """Positions of the R nonblank records in a block that ends with a line feed.

    Attributes:
        block: the bytes.
        newlines: positions of all line feeds.
        starts: position of the first byte of each record (R,).
        ends: position of the line feed of each record (R,).
        fields: number of fields of each record (R,).
        has_quotes: whether the block contains quotes.
    """

    block: bytes
    newlines: Positions
    starts: Positions
    ends: Positions
    fields: Positions
    has_quotes: bool


def _look(block: bytes, delimiter: int) -> _Layout | None:
    """Locate the records; None if a quote or carriage return is misplaced."""
    if not block.endswith(b"\n"):
        block += b"\n"
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        return None
    data = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(data == _NEWLINE)
    delimiters = np.flatnonzero(data == delimiter)
    ends, has_quotes = newlines, b'"' in block
    if has_quotes:
        quotes = np.flatnonzero(data == _QUOTE)
        if not _is_well_formed(data, quotes, delimiter):
            return None
        ends, delimiters = _outside(newlines, quotes), _outside(delimiters, quotes)
    starts = np.concatenate([[0], ends[:-1] + 1])
    fields = np.diff(np.searchsorted(delimiters, ends), prepend=0) + 1
    is_blank = (ends == starts) | ((ends == starts + 1) & (data[starts] == _RETURN))
    if is_blank.any():
        starts, ends, fields = starts[~is_blank], ends[~is_blank], fields[~is_blank]
    return _Layout(block, newlines, starts, ends, fields, has_quotes)


def _outside(positions: Positions, quotes: Positions) -> Positions:
    """The positions outside of quoted fields, that is after an even number of quotes."""
    outside: Positions = positions[np.searchsorted(quotes, positions) % 2 == 0]
    return outside


def _is_well_formed(data: npt.NDArray[np.uint8], quotes: Positions, delimiter: int) -> bool:
    """Whether every odd quote (counted from 1) opens a field and every even quote closes it.

    An odd quote must be at the start of a field and an even quote at its end, or an even quote is directly followed by
    an odd quote, which is an escaped quote in the text. Then a parser that reads from the left finds the same fields.
    """
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    before = np.where(opening == 0, _NEWLINE, data[opening - 1])
    after = data[closing + 1]
    allowed = [delimiter, _NEWLINE, _QUOTE]
    return bool(np.isin(before, allowed).all() and np.isin(after, [*allowed, _RETURN]).all())


def _by_arrow(
    layout: _Layout, delimiter: str, width: int, columns: Sequence[int], line: int, has_header: bool
) -> _Piece | None:
    """Read the records of a block with Arrow; None if Arrow finds a different number of records."""
    starts, ends, fields = (part[has_header:] for part in (layout.starts, layout.ends, layout.fields))
    is_good = (fields == width) & _is_utf8(layout.block, starts, ends)
    read = _parse(_good_bytes(layout, starts, ends, is_good), delimiter, width, columns, layout.has_quotes)
    if read is None or read.num_rows != np.count_nonzero(is_good):
        return None
    lines = pa.array(line + np.searchsorted(layout.newlines, starts))
    if is_good.all():
        return _Piece(lines, pa.nulls(len(starts), pa.string()), read.columns)
    bad = np.flatnonzero(~is_good)
    raw: list[str | None] = [None] * len(starts)
    for at in bad:
        raw[at] = layout.block[starts[at] : ends[at]].rstrip(b"\r").decode("utf-8", "backslashreplace")
    places = pa.array(np.cumsum(is_good) - 1, mask=~is_good)
    return _Piece(lines, pa.array(raw, pa.string()), [column.take(places) for column in read.columns])


def _is_utf8(block: bytes, starts: Positions, ends: Positions) -> npt.NDArray[np.bool_]:
    """Mask of the records that are valid UTF-8 (R,)."""
    if _decodes(block):
        return np.ones(len(starts), dtype=bool)
    return np.array(
        [_decodes(block[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)], bool
    )


def _decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _good_bytes(layout: _Layout, starts: Positions, ends: Positions, is_good: npt.NDArray[np.bool_]) -> bytes:
    """The block without malformed records, blank lines and the header."""
    if is_good.all() and len(starts) == len(layout.newlines):
        return layout.block
    good_starts, good_ends = starts[is_good], ends[is_good] + 1
    if not len(good_starts):
        return b""
    # Adjacent records are copied as one slice.
    breaks = np.flatnonzero(good_starts[1:] != good_ends[:-1])
    firsts = good_starts[np.concatenate([[0], breaks + 1])]
    lasts = good_ends[np.concatenate([breaks, [len(good_ends) - 1]])]
    return b"".join(layout.block[first:last] for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True))


def _parse(data: bytes, delimiter: str, width: int, columns: Sequence[int], has_quotes: bool) -> pa.RecordBatch | None:
    """Columns of records that all have ``width`` fields; None if Arrow disagrees."""
    names = [str(column) for column in columns]
    if not data:
        return pa.RecordBatch.from_arrays([pa.array([], pa.string())] * len(names), names)
    if data.startswith(codecs.BOM_UTF8) or len(data) > _MOST_BYTES:  # Arrow would drop the mark
        return None
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            pa.csv.ReadOptions(column_names=[str(number) for number in range(width)], block_size=len(data) + 1),
            pa.csv.ParseOptions(
                delimiter=delimiter, quote_char='"' if has_quotes else False, newlines_in_values=has_quotes
            ),
            pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), include_columns=names, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else None
