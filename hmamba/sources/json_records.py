"""Read JSON files (one object per line, or one array of objects) as Arrow batches of records in text form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Any

import pyarrow as pa

from hmamba.errors import InputError
from hmamba.sources.base import LINE, MALFORMED, RECORD
from hmamba.sources.discover import SourceFile
from hmamba.sources.text import is_unicode, open_text, shown

_SPACE = " \t\r\n"


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


def array_elements(file: SourceFile, text: str) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each element of a JSON array.

    Raises:
        InputError: the text is not an array, or ends within one.
    """
    position, number = text.index("[") + 1, 0
    while True:
        position = _skip(text, position, _SPACE)
        if number == 0 and text[position : position + 1] == "]":
            break
        try:
            _, end = _DECODER.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise InputError(f"{file.name} is not JSON: {error}. Write it again.") from None
        except RecursionError:
            raise InputError(
                f"{file.name}: element {number + 1} is nested too deeply to find its end. Write one object a line."
            ) from None
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
    """Yield batches of at most ``rows`` records, from JSON lines or from one array (which is held in memory as text).

    Raises:
        InputError: the file has neither form, or the gzip file is truncated.
    """
    with open_text(file) as stream:
        start = stream.read(4096).lstrip(_SPACE)[:1]
    with open_text(file) as stream:
        records = array_elements(file, stream.read()) if start == "[" else _lines(file, stream)
        while chunk := list(islice(records, rows)):
            yield _json_batch(chunk)
