"""What is read a block at a time is what the csv module reads record by record, whatever the bytes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hmamba.errors import InputError
from hmamba.sources import csv_blocks, csv_records
from hmamba.sources.csv_blocks import read_csv
from hmamba.sources.discover import find_files

PIECES = [b"a", b"bc", b"12", b",", b",", b"\n", b"\n", b"\r\n", b"\r", b'"', b'""', b'","', b'"\n', b'\n"', b" "]
PIECES += [b"\xff", "é☃".encode(), b"\x00", b"\xef\xbb\xbf", b"x,y\n", b'"x","y"\n', b"\n\n"]


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_records, "BLOCK_BYTES", size)
        yield


def read(path: Path, width: int, columns: list[int], *, by_record: bool = False) -> list[Any] | str:
    """All rows, or what was complained about."""
    rows, names = 3, [f"c{column}" for column in columns]
    (file,) = find_files(str(path), path.parent, "source.path")
    try:
        batches = list(read_csv(file, ",", width, columns, names, rows, by_record=by_record))
    except InputError as error:
        return str(error)
    assert all(batch.num_rows <= rows for batch in batches)
    for batch in batches:
        batch.validate(full=True)
    return [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]


def both(content: bytes, width: int, size: int) -> tuple[list[Any] | str, list[Any] | str]:
    """The same file read fast in blocks of ``size`` and slowly as a whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(content)
        columns = [width - 1, *range(width - 1)]
        with blocks_of(size):
            fast = read(path, width, columns)
        return fast, read(path, width, columns, by_record=True)


@given(st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join), st.integers(1, 3), st.integers(1, 64))
@example(b'h,i\na,"b\nc",d\n"e","f"\n', 2, 8)
@example(b"h,i\na,b\n\xef\xbb\xbfc,d\n", 2, 4)
@example(b"h\n\r\n\na\n", 1, 1)
@example(b"h,i\r\n,\r\n\r\n\xff,b\r\nc,d", 2, 9)
@example(b'h,i\na,"b\n', 2, 4)
@example(b"\n\n\nh,i\na,b\n", 2, 1)
def test_blocks_give_what_records_give(content: bytes, width: int, size: int) -> None:
    fast, slow = both(content, width, size)
    assert fast == slow


FIELDS = st.text(st.sampled_from('ab1 ,"\n\r;é☃'), max_size=6)


@given(
    st.lists(st.lists(FIELDS, min_size=1, max_size=3), max_size=20),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 200),
)
def test_well_formed_files(records: list[list[str]], newline: str, quoted: bool, size: int) -> None:
    """Fields with delimiters, quotes and line breaks, as writers write them."""

    def field(text: str) -> str:
        return f'"{text.replace(chr(34), chr(34) * 2)}"' if quoted or set(text) & set('",\n\r') else text

    content = newline.join([",".join(map(field, record)) for record in [["h", "i"], *records]]).encode()
    fast, slow = both(content, 2, size)
    assert fast == slow
    expected = [tuple(record) for record in records if len(record) == 2]
    assert not isinstance(fast, str)
    assert [(second, first) for _, malformed, first, second in fast if malformed is None][: len(expected)] == expected


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoted", [False, True])
def test_plain_blocks_are_not_read_by_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, quoted: bool
) -> None:
    """A block with malformed rows, blank lines, and quoted fields with line breaks in them is plain."""
    monkeypatch.setattr(csv_blocks, "read_records", None)
    user = '"u,""1"""' if quoted else "u1"
    body = ["user,item", f"{user},i", "", "too,many,fields", "few", f"{user},j"]
    path = tmp_path / "a.csv"
    path.write_bytes(end.join(body).encode() + end.encode() + b"\xff,k" + end.encode())
    name = 'u,"1"' if quoted else "u1"
    assert read(path, 2, [0, 1]) == [
        (2, None, name, "i"),
        (4, "too,many,fields", None, None),
        (5, "few", None, None),
        (6, None, name, "j"),
        (7, "\\xff,k", None, None),
    ]


def test_a_record_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "x\n" * 500
    path.write_text(f'h,i\na,"{text}"\nb,c\n')
    with blocks_of(100):
        assert read(path, 2, [0, 1]) == [(2, None, "a", text), (503, None, "b", "c")]


def test_no_row_is_lost_behind_an_open_quote(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("h,i\n" + "a,b\n" * 1000 + 'c,"open\n' + "d,e\n" * 1000)
    with blocks_of(64):
        assert "the record that starts on line 1002" in str(read(path, 2, [0, 1]))


def test_chunks_share_one_type(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("h,i\n1,2\n")
    (file,) = find_files(str(path), tmp_path, "source.path")
    (batch,) = read_csv(file, ",", 2, [1], ["i"], 10)
    assert batch.schema.types == [pa.int64(), pa.string(), pa.string()]


def test_time_does_not_grow_with_the_square_of_the_records_that_are_not_utf8(tmp_path: Path) -> None:
    """Half a million records of another encoding in a block: to decode the rest after each took half a minute."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"h,i\n" + b"caf\xe9,1\n" * 500_000)
    (file,) = find_files(str(path), tmp_path, "source.path")
    started = time.monotonic()
    found = sum(
        batch.num_rows - batch.column(1).null_count for batch in read_csv(file, ",", 2, [0, 1], ["h", "i"], 10_000)
    )
    assert found == 500_000
    assert time.monotonic() - started < 15
