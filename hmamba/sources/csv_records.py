"""Read CSV files record by record with Python's csv module: exact for all quoting, but slow.

:mod:`hmamba.sources.csv_blocks` is much faster and uses this module only for blocks that it cannot handle.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING

from hmamba.errors import InputError
from hmamba.sources.discover import SourceFile
from hmamba.sources.text import conversion, decode, is_unicode, open_text

if TYPE_CHECKING:
    from _csv import Reader

_DELIMITERS = ",;\t|"
BLOCK_BYTES = 4 << 20


def _reader(lines: Iterable[str], delimiter: str, strict: bool) -> Reader:
    """A CSV reader without a limit on field length; the row rules check lengths later and name the row."""
    csv.field_size_limit(sys.maxsize)
    return csv.reader(lines, delimiter=delimiter, strict=strict)


def csv_header(file: SourceFile, wanted: Iterable[str]) -> tuple[str, list[str]]:
    """Detect the delimiter and read the column names.

    The delimiter is that of comma, semicolon, tab and bar that finds most of ``wanted``.

    Raises:
        InputError: the file is empty, or its header is not UTF-8.
    """
    names = set(wanted)
    best: list[str] = []
    chosen = ","
    for delimiter in _DELIMITERS:
        with open_text(file) as stream:
            fields = next((row for row in _reader(stream, delimiter, strict=False) if row), [])
        if (len(names & set(fields)), len(fields)) > (len(names & set(best)), len(best)):
            chosen, best = delimiter, fields
    if not best:
        raise InputError(f"{file.name} has no header line of column names. Give it one, or remove the file.")
    if not is_unicode(best):
        raise InputError(
            f"{file.name}: the header line is not UTF-8. Convert the file, for example with "
            f"{conversion(file, 'WINDOWS-1252')}"
        )
    return chosen, best


class Blocks:
    """A file in blocks of about :data:`BLOCK_BYTES`, each of which ends at a line end."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._rest = b""

    def take(self) -> bytes:
        """The next block; empty at the end of the file."""
        block = self._rest
        while more := self._stream.read(BLOCK_BYTES):
            block += more
            # The last byte does not count: a carriage return there may be half of a line end.
            cut = block.rfind(b"\n") + 1 or block.rfind(b"\r", 0, len(block) - 1) + 1
            if cut:
                self._rest = block[cut:]
                return block[:cut]
        self._rest = b""
        return block


class _Lines:
    """Iterator over the lines of a block, and of the following blocks while a quote is open."""

    def __init__(self, block: bytes, blocks: Blocks) -> None:
        self._blocks = blocks
        self.taken: list[str] = []
        self._open(block)

    def _open(self, block: bytes) -> None:
        self._lines = iter(io.StringIO(decode(block), newline=""))
        self._next = next(self._lines, None)

    @property
    def is_at_end(self) -> bool:
        """Whether all lines of the blocks taken so far have been yielded."""
        return self._next is None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._next is None:
            self._open(self._blocks.take())
        line = self._next
        if line is None:
            raise StopIteration
        self._next = next(self._lines, None)
        self.taken.append(line)
        return line


def read_records(
    file: SourceFile, block: bytes, blocks: Blocks, delimiter: str, line: int
) -> Iterator[tuple[int, list[str], str]]:
    """Yield the records of a block; the last record may extend into the following blocks.

    Args:
        file: the file, for messages.
        block: the block; begins with a record.
        blocks: the following blocks.
        delimiter: one character.
        line: number of the first line of the block.

    Yields:
        Start line, fields and raw text of each record; a blank line has no fields. The last item is the number of the
        line after the records, without fields or text.

    Raises:
        InputError: a quote is not closed or misplaced.
    """
    lines = _Lines(block, blocks)
    reader = _reader(lines, delimiter, strict=True)
    start = line
    try:
        while not lines.is_at_end:
            lines.taken.clear()
            fields = next(reader)
            yield start, fields, "".join(lines.taken).rstrip("\r\n")
            start = line + reader.line_num
    except csv.Error as error:
        raise InputError(
            f"{file.name}, the record that starts on line {start}: {error}. A quote is not closed or misplaced, so the "
            "end of the record is ambiguous. Fix that line, or double the quotes inside quoted fields."
        ) from None
    yield start, [], ""
