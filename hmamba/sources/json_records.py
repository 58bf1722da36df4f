"""Read JSON files (one object per line, or one array of objects) as Arrow batches of records in text form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import IO, Any

import pyarrow as pa

from hmamba.errors import InputError
from hmamba.sources.base import LINE, MALFORMED, RECORD
from hmamba.sources.discover import SourceFile
from hmamba.sources.limits import too_long
from hmamba.sources.text import is_unicode, open_text, shown

_SPACE = " \t\r\n"
_BLANKS = re.compile(f"[{_SPACE}]+")
_PIECE = 1 << 20
"""Characters of an array that are read at once."""
_LONGEST_WORD = len("-Infinity")
_CUT_STRING = "Unterminated string starting at"
_MOST_CHARACTERS = 1 << 24
"""Characters of the records of a batch, about."""


def _whole(digits: str) -> int | str:
    """An integer; its text if it has more digits than Python converts (4,300 by default)."""
    try:
        return int(digits)
    except ValueError:
        return digits


_DECODER = json.JSONDecoder(parse_int=_whole)


def parsed(text: str) -> Any:
    """Parse a JSON value. Integers with too many digits for Python become text.

    Raises:
        ValueError: the text is not JSON.
        RecursionError: the value is nested too deeply for Python.
    """
    return _DECODER.decode(text)


def _json_batch(records: Sequence[tuple[int, str]]) -> pa.RecordBatch:
    clean = is_unicode(text for _, text in records)
    good = [clean or is_unicode((text,)) for _, text in records]
    return pa.RecordBatch.from_arrays(
        [
            pa.array([line for line, _ in records], pa.int64()),
            pa.array([None if ok else shown(text) for ok, (_, text) in zip(good, records, strict=True)], pa.string()),
            pa.array([text if ok else None for ok, (_, text) in zip(good, records, strict=True)], pa.string()),
        ],
        [LINE, MALFORMED, RECORD],
    )


class _Array:
    """A JSON array that is read from a stream piece by piece.

    ``text`` is the part in memory, ``at`` the position in it, ``line`` the number of the line at ``at``.
    """

    def __init__(self, file: SourceFile, stream: IO[str]) -> None:
        self._file, self._stream = file, stream
        self._text, self._at, self._line, self._ended = "", 0, 1, False

    def elements(self) -> Iterator[tuple[int, str]]:
        """See :func:`array_elements`."""
        self._skip_space()
        self._at += 1  # the opening bracket
        number = 0
        while not (self._skip_space() == "]" and number == 0):
            number += 1
            yield number, self._element(number)
            after = self._skip_space()
            if after == "]":
                break
            if after != ",":
                raise InputError(
                    f"{self._file.name} is not JSON: line {self._line} lacks a comma or a bracket. Write it again."
                )
            self._at += 1
        self._at += 1
        if self._skip_space():
            raise InputError(
                f"{self._file.name}: something follows the closing bracket. Write one array, or one object a line."
            )

    def _more(self, count: int) -> None:
        """Read ``count`` characters more, and forget those before the position."""
        more = self._stream.read(count)
        self._ended = not more
        self._text, self._at = self._text[self._at :] + more, 0

    def _skip_space(self) -> str:
        """Skip blanks; returns the next character, empty at the end."""
        while True:
            found = _BLANKS.match(self._text, self._at)
            past = self._at if found is None else found.end()
            self._line += self._text.count("\n", self._at, past)
            self._at = past
            if past < len(self._text):
                return self._text[past]
            if self._ended:
                return ""
            self._more(_PIECE)

    def _element(self, number: int) -> str:
        """The element at the position. Its end is certain only if something follows it."""
        while True:
            try:
                _, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                # Text that is cut off fails in its last word, or at the beginning of its last string.
                if self._ended or (error.pos < len(self._text) - _LONGEST_WORD and error.msg != _CUT_STRING):
                    raise InputError(
                        f"{self._file.name} is not JSON: element {number}, which starts on line {self._line}: "
                        f"{error.msg}. Write it again."
                    ) from None
            except RecursionError:
                raise InputError(
                    f"{self._file.name}: element {number} is nested too deeply to find its end. Write one object a "
                    "line."
                ) from None
            else:
                if end < len(self._text) or self._ended:
                    text = self._text[self._at : end]
                    self._line += text.count("\n")
                    self._at = end
                    return text
            held = len(self._text) - self._at
            if held > self._file.limits.max_record_bytes:
                raise too_long(self._file, f"element {number}, which starts on line {self._line},")
            self._more(max(_PIECE, held))


def array_elements(file: SourceFile, stream: IO[str]) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each element of a JSON array; a few elements are in memory at a time.

    Raises:
        InputError: the text is not an array, ends within one, or an element is longer than ``max_record_bytes``.
    """
    return _Array(file, stream).elements()


def _lines(file: SourceFile, stream: IO[str]) -> Iterator[tuple[int, str]]:
    """(line, text) of each line that is not blank. The first must be a JSON object."""
    first = True
    most = file.limits.max_record_bytes
    # A line of more characters than bytes are allowed is too long; one of other letters may have up to 4 times as many.
    for line, text in enumerate(iter(partial(stream.readline, most + 1), ""), 1):
        if len(text) > most:
            raise too_long(file, f"line {line}")
        stripped = text.strip(_SPACE)
        if not stripped:
            continue
        if first:
            first = False
            try:
                is_object = isinstance(parsed(stripped), dict)
            except RecursionError:
                is_object = stripped.startswith("{")  # DuckDB parses the record later and decides
            except ValueError:
                is_object = False
            if not is_object:
                raise InputError(
                    f"{file.name}, line {line} is not a JSON object. Write one object a line, or one array of objects."
                )
        yield line, stripped


def read_json(file: SourceFile, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield batches of at most ``rows`` records, from JSON lines or from one array.

    Raises:
        InputError: the file has neither form, the gzip file is truncated, or a bound of ``source.limits`` is exceeded.
    """
    with open_text(file) as stream:
        start = stream.read(4096).lstrip(_SPACE)[:1]
    with open_text(file) as stream:
        records = array_elements(file, stream) if start == "[" else _lines(file, stream)
        while chunk := _chunk(records, rows):
            yield _json_batch(chunk)


def _chunk(records: Iterator[tuple[int, str]], rows: int) -> list[tuple[int, str]]:
    """The next records: at most ``rows``, and about :data:`_MOST_CHARACTERS`."""
    chunk: list[tuple[int, str]] = []
    length = 0
    for record in records:
        chunk.append(record)
        length += len(record[1])
        if len(chunk) >= rows or length >= _MOST_CHARACTERS:
            break
    return chunk
