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
from hmamba.sources.limits import require_few_columns, too_long
from hmamba.sources.text import conversion, decode, is_unicode, open_bytes

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
        InputError: the file is empty, its header is not UTF-8, or a bound of ``source.limits`` is exceeded.
    """
    names = set(wanted)
    best: list[str] = []
    chosen = ","
    for delimiter in _DELIMITERS:
        fields = _first_fields(file, delimiter)
        if (len(names & set(fields)), len(fields)) > (len(names & set(best)), len(best)):
            chosen, best = delimiter, fields
    if not best:
        raise InputError(f"{file.name} has no header line of column names. Give it one, or remove the file.")
    require_few_columns(file, len(best))
    if not is_unicode(best):
        raise InputError(
            f"{file.name}: the header line is not UTF-8. Convert the file, for example with "
            f"{conversion(file, 'WINDOWS-1252')}"
        )
    return chosen, best


def _first_fields(file: SourceFile, delimiter: str) -> list[str]:
    """The fields of the first record that is not blank; empty if there is none."""
    with open_bytes(file) as stream:
        blocks = Blocks(file, stream)
        lines = _Lines(file, blocks.take(), blocks)
        for fields in _reader(lines, delimiter, strict=False):
            if fields:
                return fields
            lines.begin(lines.next_line)
    return []


class Blocks:
    """A file in blocks of about :data:`BLOCK_BYTES`, each of which ends at a line end."""

    def __init__(self, file: SourceFile, stream: IO[bytes]) -> None:
        self._file, self._stream = file, stream
        self._rest = b""
        self._lines = 0

    def take(self) -> bytes:
        """The next block; empty at the end of the file.

        Raises:
            InputError: a line is longer than ``max_record_bytes``.
        """
        pieces, length, last = [self._rest], len(self._rest), self._rest
        while more := self._stream.read(BLOCK_BYTES):
            # The last byte does not count: a carriage return there may be half of a line end.
            joint = last + more
            cut = joint.rfind(b"\n") + 1 or joint.rfind(b"\r", 0, len(joint) - 1) + 1
            pieces.append(more)
            if cut:
                block, past = b"".join(pieces), length - len(last) + cut
                self._rest = block[past:]
                return self._counted(block[:past])
            length += len(more)
            last = more[-1:]
            if length > self._file.limits.max_record_bytes:
                raise too_long(self._file, f"line {self._lines + 1}")
        self._rest = b""
        return self._counted(b"".join(pieces))

    def _counted(self, block: bytes) -> bytes:
        self._lines += block.count(b"\n") or block.count(b"\r")
        return block


class _Lines:
    """Iterator over the lines of a block, and of the following blocks while a quote is open.

    ``text`` holds the lines of the record so far.
    """

    def __init__(self, file: SourceFile, block: bytes, blocks: Blocks, line: int = 1) -> None:
        self._file, self._blocks = file, blocks
        self.next_line = line
        self.begin(line)
        self._open(block)

    def begin(self, line: int) -> None:
        """Begin a record on ``line``."""
        self._line, self._length = line, 0
        self._taken: list[str] = []

    @property
    def text(self) -> str:
        """Text of the lines since the record began."""
        return "".join(self._taken)

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
        self._taken.append(line)
        self._length += len(line)
        self.next_line += 1
        if self._length > self._file.limits.max_record_bytes:
            raise too_long(self._file, f"the record that starts on line {self._line}")
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
        InputError: a quote is not closed or misplaced, or a record is longer than ``max_record_bytes``.
    """
    lines = _Lines(file, block, blocks, line)
    reader = _reader(lines, delimiter, strict=True)
    start = line
    try:
        while not lines.is_at_end:
            lines.begin(start)
            fields = next(reader)
            yield start, fields, lines.text.rstrip("\r\n")
            start = lines.next_line
    except csv.Error as error:
        raise InputError(
            f"{file.name}, the record that starts on line {start}: {error}. A quote is not closed or misplaced, so the "
            "end of the record is ambiguous. Fix that line, or double the quotes inside quoted fields."
        ) from None
    yield start, [], ""
