"""CSV and JSON files as Arrow batches: every record with the line it starts on, malformed ones included.

Each batch has the columns ``__line`` (int64) and ``__malformed`` (string: the raw text of what could not be read, or
null). CSV adds one string column for each column of the header; JSON adds ``__record``, the text of one value.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from hmamba.errors import InputError
from hmamba.source.discover import SourceFile

if TYPE_CHECKING:
    from _csv import Reader

LINE = "__line"
MALFORMED = "__malformed"
RECORD = "__record"
_DELIMITERS = ",;\t|"
_SPACE = " \t\r\n"


@contextmanager
def _open(file: SourceFile) -> Iterator[IO[str]]:
    """Open a text file. Bytes that are not UTF-8 come through as lone surrogates, so that only their row suffers."""
    opened = gzip.open if file.gzipped else open
    with opened(file.path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        try:
            yield text
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{file.name} is not a whole gzip file ({error}). Write it again.") from None


def _shown(text: str) -> str:
    """Text that UTF-8 can hold: bytes that were none are shown as backslash escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _is_unicode(texts: Iterable[str]) -> bool:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def _reader(stream: IO[str], delimiter: str, strict: bool) -> Reader:
    """A CSV reader that takes fields of any length: rules about lengths come later, and say which row."""
    csv.field_size_limit(sys.maxsize)
    return csv.reader(stream, delimiter=delimiter, strict=strict)


def _rows(file: SourceFile, stream: IO[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line it starts on, fields) of each record of a CSV file, the header included; blank lines are skipped."""
    reader = _reader(stream, delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{file.name}, the record that starts on line {line}: {error}. A quote is open or misplaced, so that where "
            "records end cannot be known. Mend that line, or double the quotes inside quoted fields."
        ) from None


def csv_header(file: SourceFile, wanted: Iterable[str]) -> tuple[str, list[str]]:
    """The delimiter (comma, semicolon, tab or bar: the one that finds most of ``wanted``) and the columns' names.

    Raises:
        InputError: the file is empty, or two columns share a name.
    """
    names = set(wanted)
    best: list[str] = []
    chosen = ","
    for delimiter in _DELIMITERS:
        with _open(file) as stream:
            fields = next((row for row in _reader(stream, delimiter, strict=False) if row), [])
        if (len(names & set(fields)), len(fields)) > (len(names & set(best)), len(best)):
            chosen, best = delimiter, fields
    if not best or not _is_unicode(best):
        raise InputError(f"{file.name} has no header line of column names. Give it one, or remove the file.")
    twice = sorted({name for name in best if best.count(name) > 1})
    if twice:
        raise InputError(f"{file.name}: two columns are called {twice[0]!r}. Rename one.")
    return chosen, best


def read_csv(
    file: SourceFile, delimiter: str, header: Sequence[str], only: Sequence[str], rows: int
) -> Iterator[pa.RecordBatch]:
    """Batches of at most ``rows`` records. A record with too few or too many fields, or not UTF-8, is malformed.

    Args:
        file: the file.
        delimiter: one character.
        header: names of all its columns.
        only: the columns to return.
        rows: records in a batch.

    Raises:
        InputError: a quote is left open, or the gzip file is cut off.
    """
    width = len(header)
    positions = [header.index(name) for name in only]
    empty = [""] * width
    with _open(file) as stream:
        records = _rows(file, stream, delimiter)
        next(records, None)
        while chunk := list(islice(records, rows)):
            clean = _is_unicode("".join(fields) for _, fields in chunk)
            malformed: list[str | None] = [None] * len(chunk)
            kept: list[list[str]] = []
            for number, (_, fields) in enumerate(chunk):
                if len(fields) == width and (clean or _is_unicode(fields)):
                    kept.append(fields)
                    continue
                kept.append(empty)
                malformed[number] = _shown(delimiter.join(fields))
            columns = list(zip(*kept, strict=True))
            arrays = [pa.array([line for line, _ in chunk], pa.int64()), pa.array(malformed, pa.string())]
            arrays += [pa.array(columns[position], pa.string()) for position in positions]
            yield pa.RecordBatch.from_arrays(arrays, [LINE, MALFORMED, *only])


def _json_batch(records: Sequence[tuple[int, str]]) -> pa.RecordBatch:
    clean = _is_unicode(text for _, text in records)
    good = [clean or _is_unicode((text,)) for _, text in records]
    return pa.RecordBatch.from_arrays(
        [
            pa.array([line for line, _ in records], pa.int64()),
            pa.array([None if ok else _shown(text) for ok, (_, text) in zip(good, records, strict=True)], pa.string()),
            pa.array([text if ok else None for ok, (_, text) in zip(good, records, strict=True)], pa.string()),
        ],
        [LINE, MALFORMED, RECORD],
    )


def _array_elements(file: SourceFile, text: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each element of a JSON array."""
    scan = json.JSONDecoder().raw_decode
    position, number = text.index("[") + 1, 0
    while True:
        position = _skip(text, position, _SPACE)
        if number == 0 and text[position : position + 1] == "]":
            break
        try:
            _, end = scan(text, position)
        except json.JSONDecodeError as error:
            raise InputError(f"{file.name} is not JSON: {error}. Write it again.") from None
        number += 1
        yield number, text[position:end]
        position = _skip(text, end, _SPACE)
        if text[position : position + 1] == "]":
            break
        if text[position : position + 1] != ",":
            line = text.count("\n", 0, position) + 1
            raise InputError(f"{file.name} is not JSON: line {line} lacks a comma or a bracket. Write it again.")
        position += 1
    if _skip(text, position + 1, _SPACE) != len(text):
        raise InputError(f"{file.name}: something follows the closing bracket. Write one array, or one object a line.")


def _skip(text: str, position: int, what: str) -> int:
    while position < len(text) and text[position] in what:
        position += 1
    return position


def _lines(file: SourceFile, stream: IO[str]) -> Iterator[tuple[int, str]]:
    """(line, text) of each line that is not blank. The first must be a JSON object."""
    first = True
    for line, text in enumerate(stream, 1):
        stripped = text.strip(_SPACE)
        if not stripped:
            continue
        if first:
            first = False
            try:
                is_object = isinstance(json.loads(stripped), dict)
            except ValueError:
                is_object = False
            if not is_object:
                raise InputError(
                    f"{file.name}, line {line} is not a JSON object. Write one object a line, or one array of objects."
                )
        yield line, stripped


def read_json(file: SourceFile, rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of at most ``rows`` records, from JSON lines or from one array (which is held in memory as text).

    Raises:
        InputError: the file is neither, or the gzip file is cut off.
    """
    with _open(file) as stream:
        start = stream.read(4096).lstrip(_SPACE)[:1]
    with _open(file) as stream:
        records = _array_elements(file, stream.read()) if start == "[" else _lines(file, stream)
        while chunk := list(islice(records, rows)):
            yield _json_batch(chunk)
