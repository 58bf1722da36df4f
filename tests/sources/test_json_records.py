"""Values that Python's JSON reader refuses. Whole files are read in test_read.py."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hmamba.config import Limits
from hmamba.errors import InputError
from hmamba.sources import json_records
from hmamba.sources.base import LINE, MALFORMED, RECORD
from hmamba.sources.discover import find_files
from hmamba.sources.json_records import array_elements, parsed, read_json

DEEP = "[" * 100_000 + "]" * 100_000


def read(folder: Path, content: bytes, rows: int = 100) -> list[pa.RecordBatch]:
    (folder / "log.json").write_bytes(content)
    (file,) = find_files(str(folder / "log.json"), folder, "source.path")
    return list(read_json(file, rows))


def test_a_number_with_thousands_of_digits_is_text() -> None:
    assert parsed("123") == 123
    assert parsed("9" * 5000) == "9" * 5000
    assert parsed(f'{{"a": -{"9" * 5000}}}') == {"a": "-" + "9" * 5000}
    for wrong in ("", "{", "1 2"):
        with pytest.raises(ValueError, match=r"\w"):
            parsed(wrong)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_batches_have_at_most_as_many_records(tmp_path: Path, rows: int) -> None:
    batches = read(tmp_path, b'{"a": 1}\n{"a": 2}\n\n{"a": 3}\n', rows)
    assert max(map(len, batches)) <= rows
    table = pa.Table.from_batches(batches)
    assert table.column_names == [LINE, MALFORMED, RECORD]
    assert table[LINE].to_pylist() == [1, 2, 4]


def test_a_record_that_is_not_utf_8_is_malformed_and_shown(tmp_path: Path) -> None:
    (batch,) = read(tmp_path, b'{"a": 1}\n{"a": "\xe4"}\n')
    assert batch[MALFORMED].to_pylist() == [None, '{"a": "\\xe4"}']
    assert batch[RECORD].to_pylist() == ['{"a": 1}', None]


def test_a_deep_value_is_a_record_of_lines_and_refused_in_an_array(tmp_path: Path) -> None:
    line = f'{{"a": {DEEP}}}'.encode()
    (batch,) = read(tmp_path, line + b"\n")
    assert batch[RECORD].to_pylist() == [line.decode()]
    with pytest.raises(InputError, match=r"element 2 is nested too deeply to find its end\. Write one object a line"):
        read(tmp_path, b'[{"a": 1}, ' + line + b"]")
    with pytest.raises(InputError, match="line 1 is not a JSON object"):
        read(tmp_path, b'"' + DEEP.encode() + b'"\n')


def test_an_array_is_read_element_by_element(tmp_path: Path) -> None:
    """Not held in memory: hours of events may be one array."""
    (tmp_path / "log.json").touch()
    (file,) = find_files(str(tmp_path / "log.json"), tmp_path, "source.path")
    stream = io.StringIO("[" + ",\n".join(f'{{"a": {number}}}' for number in range(500_000)) + "]")
    elements = array_elements(file, stream)
    assert next(elements) == (1, '{"a": 0}')
    assert stream.tell() < 2_000_000
    *_, last = elements
    assert last == (500_000, '{"a": 499999}')


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (b'{"a": 1 "b": 2}', "Expecting ',' delimiter"),
        (b"nope", "Expecting value"),
        (b'{"a": "b\n"}', "Invalid control character at"),
    ],
)
def test_an_error_in_an_array_is_not_taken_for_a_long_element(tmp_path: Path, wrong: bytes, reason: str) -> None:
    (tmp_path / "log.json").write_bytes(b'[{"a": 1},\n' + wrong + b',\n{"a": 1}' * 500_000 + b"]")
    (file,) = find_files(str(tmp_path / "log.json"), tmp_path, "source.path", limits=Limits(max_record_bytes=10_000))
    with pytest.raises(InputError, match=rf"element 2, which starts on line 2: {reason}\. Write it again"):
        list(read_json(file, 100))


@given(st.recursive(st.none() | st.integers() | st.text('ab"\\[{, \n'), lambda inner: st.lists(inner, max_size=3)))
@example([1, 23, 456])
def test_elements_do_not_depend_on_where_pieces_end(value: object) -> None:
    text = f" {json.dumps([value, 12, {'k': value}], indent=1)}\n"
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_records, "_PIECE", 1)
        found = [batch.column(RECORD).to_pylist() for batch in read(Path(folder), text.encode())]
    assert [json.loads(element) for batch in found for element in batch] == [value, 12, {"k": value}]
