"""Encodings of text files: what is read, what is recognised, and the command that converts it."""

from __future__ import annotations

import gzip
import shlex
import subprocess
from pathlib import Path

import pytest

from hmamba.errors import InputError
from hmamba.sources.discover import SourceFile, find_files
from hmamba.sources.text import check_encoding, conversion, decode, is_unicode, open_text, shown

TEXT = "user_id,item_id\nAnna,Käse\n"


def file_of(folder: Path, content: bytes, name: str = "log.csv") -> SourceFile:
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (found,) = find_files(str(folder / name), folder, "source.path")
    return found


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_is_read_without_its_byte_order_mark(tmp_path: Path, name: str, mark: bytes) -> None:
    file = file_of(tmp_path, mark + TEXT.encode(), name)
    check_encoding(file)
    with open_text(file) as stream:
        assert stream.read() == TEXT


@pytest.mark.parametrize("name", ["log.csv", "it's a log.csv", "log.csv.gz"])
@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-16", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-32-le", "UTF-32LE"),
        ("utf-32-be", "UTF-32BE"),
    ],
)
def test_the_advised_command_converts_the_file(tmp_path: Path, encoding: str, told: str, name: str) -> None:
    file = file_of(tmp_path, TEXT.encode(encoding), name)
    with pytest.raises(InputError, match=f"is {told} text, and only UTF-8 is read") as error:
        check_encoding(file)
    command = str(error.value).partition("Convert it: ")[2]
    assert command == conversion(file, told)
    subprocess.run(["sh", "-c", command.replace("NEW", "new")], cwd=tmp_path, check=True)
    new = (tmp_path / ("new.gz" if file.gzipped else "new")).read_bytes()
    assert (gzip.decompress(new) if file.gzipped else new).decode("utf-8-sig") == TEXT
    assert shlex.split(command)


@pytest.mark.parametrize("content", [b"", b"a", "a,b\n1,日本\n".encode(), "naïve".encode("latin-1")])
def test_other_text_is_not_taken_for_utf_16(tmp_path: Path, content: bytes) -> None:
    check_encoding(file_of(tmp_path, content))


def test_a_byte_that_is_not_utf_8_is_kept_and_shown() -> None:
    text = decode(b"K\xe4se")
    assert not is_unicode(["a", text])
    assert is_unicode(["a", "Käse"])
    assert shown(text) == "K\\xe4se"
    assert text.encode("utf-8", "surrogateescape") == b"K\xe4se"


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"not gzip", lambda data: data[:20] + b"x" * 9]
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, damage: object) -> None:
    file = file_of(tmp_path, TEXT.encode() * 100, "log.csv.gz")
    assert callable(damage)
    file.path.write_bytes(damage(file.path.read_bytes()))
    with pytest.raises(InputError, match=r"log\.csv\.gz is not a whole gzip file"), open_text(file) as stream:
        stream.read()
