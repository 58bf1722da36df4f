"""Headers, blocks and records of CSV files. That whole files are read so is in test_csv_blocks.py."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from hmamba.errors import InputError
from hmamba.sources import csv_records
from hmamba.sources.csv_records import Blocks, csv_header, read_records
from hmamba.sources.discover import SourceFile, find_files


def file_of(folder: Path, content: str | bytes) -> SourceFile:
    path = folder / "log.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    (found,) = find_files(str(path), folder, "source.path")
    return found


@pytest.mark.parametrize(
    ("content", "delimiter", "names"),
    [
        ("user,item\n1,2\n", ",", ["user", "item"]),
        ("user;item\n1;2\n", ";", ["user", "item"]),
        ("user|item|note, a;b\n", "|", ["user", "item", "note, a;b"]),
        ("\n\nuser\titem\n", "\t", ["user", "item"]),
        ('"user","item"\n', ",", ["user", "item"]),
        ("user,a;b;c;d\n", ",", ["user", "a;b;c;d"]),  # the wanted column decides, not the number of columns
        ("a,b;c\n", ",", ["a", "b;c"]),  # as good as a semicolon: the first counts
        ("who;what;when,where\n", ";", ["who", "what", "when,where"]),  # without a wanted column, the most columns
        ("one\n", ",", ["one"]),
    ],
)
def test_the_delimiter_is_the_one_that_finds_the_wanted_columns(
    tmp_path: Path, content: str, delimiter: str, names: list[str]
) -> None:
    assert csv_header(file_of(tmp_path, content), ["user", "item"]) == (delimiter, names)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "has no header line"), (b"\n\r\n", "has no header line"), (b"K\xe4ufer,item\n", "iconv")],
)
def test_a_file_without_a_readable_header_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(InputError, match=rf"^log\.csv.*{told}"):
        csv_header(file_of(tmp_path, content), ["user"])


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 100])
def test_blocks_end_at_line_ends_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, newline: bytes
) -> None:
    monkeypatch.setattr(csv_records, "BLOCK_BYTES", size)
    content = newline.join([b"a,b", b"", b"cd,efgh", b"i"])
    blocks, taken = Blocks(file_of(tmp_path, b""), io.BytesIO(content)), []
    while block := blocks.take():
        taken.append(block)
    assert b"".join(taken) == content
    assert all(block.endswith(newline) for block in taken[:-1])
    assert len(taken) > 1 or size >= len(content)
    assert blocks.take() == b""


def test_records_have_the_number_of_their_first_line_and_their_text(tmp_path: Path) -> None:
    file, block = file_of(tmp_path, ""), b'a,b\n\n"c\nd",e\r\nf\n'
    assert list(read_records(file, block, Blocks(file, io.BytesIO()), ",", 7)) == [
        (7, ["a", "b"], "a,b"),
        (8, [], ""),
        (9, ["c\nd", "e"], '"c\nd",e'),
        (11, ["f"], "f"),
        (12, [], ""),
    ]


def test_a_record_goes_on_in_the_next_block(tmp_path: Path) -> None:
    file = file_of(tmp_path, "")
    found = list(read_records(file, b'"one\n', Blocks(file, io.BytesIO(b'two",b\nc,d\n')), ",", 1))
    assert found[0] == (1, ["one\ntwo", "b"], '"one\ntwo",b')


def test_an_ambiguous_quote_names_the_line_of_its_record(tmp_path: Path) -> None:
    file = file_of(tmp_path, "")
    for block in (b'a,b\n"c,d\n', b'a,b\n"c"d,e\n'):
        with pytest.raises(InputError, match=r"the record that starts on line 5: .*quote"):
            list(read_records(file, block, Blocks(file, io.BytesIO()), ",", 4))
