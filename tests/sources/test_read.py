from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.errors import InputError
from hmamba.sources import read
from hmamba.sources.discover import find_files
from hmamba.sources.read import open_file

HOSTILE = [
    '"quoted"',
    "com,ma",
    "new\nline",
    "carriage\r\nreturn",
    "snow ☃ 🛒",
    "'; drop table interactions; --",
    " pad ",
]


def rows(path: Path, *wanted: str) -> list[tuple[Any, ...]]:
    """All rows of a file: line, malformed, then the wanted columns, or the record's text."""
    (file,) = find_files(str(path), path.parent, "source.path")
    batches = list(open_file(file, wanted).batches(wanted))
    if not batches:
        return []
    table = pa.Table.from_batches(batches)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("batch", [1, 2, 100])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_keeps_hostile_ids_and_lines(
    tmp_path: Path, delimiter: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "ROWS_PER_BATCH", batch)
    path = tmp_path / "events.csv"
    pd.DataFrame({"u": HOSTILE, "i": range(len(HOSTILE))}).to_csv(path, index=False, sep=delimiter)
    # Two of the ids hold a line break, so that what follows them lies a line further down.
    lines = [2, 3, 4, 6, 8, 9, 10]
    expected = [(line, None, user, str(number)) for number, (line, user) in enumerate(zip(lines, HOSTILE, strict=True))]
    assert rows(path, "u", "i") == expected


def test_csv_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "x,y,z\n1,2,3\n")
    assert rows(path, "z", "x") == [(2, None, "3", "1")]


@pytest.mark.parametrize("prefix", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_csv_byte_order_mark_newlines_and_blank_lines(tmp_path: Path, prefix: str, newline: str) -> None:
    path = write(tmp_path, "a.csv", prefix + newline.join(["u,i", "a,b", "", "c,d"]))
    assert rows(path, "u", "i") == [(2, None, "a", "b"), (4, None, "c", "d")]


@pytest.mark.parametrize(
    ("line", "shown"), [(b"only-one", "only-one"), (b"a,b,c", "a,b,c"), (b"\xff\xfe,b", "\\xff\\xfe,b")]
)
def test_a_malformed_csv_record_costs_only_itself(tmp_path: Path, line: bytes, shown: str) -> None:
    path = write(tmp_path, "a.csv", b"u,i\na,b\n" + line + b"\nc,d\n")
    assert rows(path, "u", "i") == [(2, None, "a", "b"), (3, shown, None, None), (4, None, "c", "d")]


def test_an_open_quote_names_the_line_where_its_record_starts(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'u,i\na,b\nc,"open\nd,e\nf,g\n')
    with pytest.raises(InputError, match=r"a\.csv, the record that starts on line 3: .*quote"):
        rows(path, "u", "i")


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json"])
def test_json_lines(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name, '{"u": "a"}\n\n{broken\r\n  {"u": "é"}')
    assert rows(path, "u") == [(1, None, '{"u": "a"}'), (3, None, "{broken"), (4, None, '{"u": "é"}')]


@pytest.mark.parametrize("content", ['[{"u": 1}, {"u": "]"}]', ' [\n {"u": 1},\n\n{"u": "]"}\n] \n', "[]"])
def test_json_arrays(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, "a.json", content)
    found = rows(path, "u")
    assert [json.loads(text) for _, _, text in found] == json.loads(content)
    assert [number for number, _, _ in found] == list(range(1, len(found) + 1))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[{"u": 1}', "line 1 lacks a comma or a bracket"),
        ('[{"u": 1} {"u": 2}]', "line 1 lacks a comma"),
        ('[{"u": 1},]', "is not JSON"),
        ('[{"u": 1}] {"u": 2}', "follows the closing bracket"),
        ('{\n"u": 1\n}', "line 1 is not a JSON object"),
        ("17\n18\n", "line 1 is not a JSON object"),
        ("u,i\na,b\n", "line 1 is not a JSON object"),
    ],
)
def test_what_is_not_json(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(InputError, match=rf"a\.json.*{told}"):
        rows(write(tmp_path, "a.json", content), "u")


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv.gz", "u,i\na,b\n"), ("a.jsonl.gz", '{"u": "a"}\n'), ("a.json.gz", '[{"u": "a"}]')]
)
def test_gzip_reads_the_same_and_is_refused_when_cut(tmp_path: Path, name: str, content: str) -> None:
    packed = gzip.compress((content * 50).encode() if name != "a.json.gz" else content.encode())
    plain = write(tmp_path, name.removesuffix(".gz"), gzip.decompress(packed))
    assert rows(write(tmp_path, name, packed), "u") == rows(plain, "u") != []
    with pytest.raises(InputError, match=rf"{name} is not a whole gzip file"):
        rows(write(tmp_path, name, packed[:-9]), "u")


def parquet(folder: Path, **columns: pa.Array) -> Path:
    path = folder / "a.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_keeps_types_and_counts_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "ROWS_PER_BATCH", 2)
    path = parquet(tmp_path, u=pa.array(HOSTILE), n=pa.array(range(len(HOSTILE))))
    assert rows(path, "n", "u") == [(line, None, line - 1, user) for line, user in enumerate(HOSTILE, 1)]


def test_parquet_text_that_is_not_unicode(tmp_path: Path) -> None:
    offsets = pa.array([0, 2], pa.int32()).buffers()[1]
    broken = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(b"\xff\xfe"))
    with pytest.raises(InputError, match=r"a\.parquet is not a whole Parquet file"):
        rows(parquet(tmp_path, u=broken), "u")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.parquet", b"u,i\na,b\n", "is not a Parquet file"),
        ("a.parquet", b"PAR1 and then nothing", "is not a whole Parquet file"),
        ("a.parquet", b"", "is not a Parquet file"),
        ("a.csv", b"PAR1 and then nothing", "is a Parquet file by its content"),
        ("a.csv", gzip.compress(b"u,i\na,b\n", mtime=0), "is a gzip file by its content"),
        ("a.csv", b"PK\x03\x04 a workbook", "is a zip or Excel file by its content"),
        ("a.csv.gz", b"u,i\na,b\n", "is not a gzip file"),
        ("a.csv", b"", "has no header line"),
        ("a.csv", b"\xff\xfeu\x00,\x00", "is UTF-16 text, and only UTF-8 is read"),
        ("a.csv", b"us\xe9r,i\n1,2\n", "the header line is not UTF-8"),
        ("a.csv", b"u,i,u\n1,2,3\n", "two columns are called 'u'"),
        ("a.csv", b"user;item\n1;2\n", "has no column 'u'; it has 'user', 'item'"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    with pytest.raises(InputError, match=rf"{name}.*{told}"):
        rows(write(tmp_path, name, content), "u")
