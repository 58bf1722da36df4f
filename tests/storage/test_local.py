from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hmamba.errors import InputError
from hmamba.storage import local as files
from hmamba.storage.local import atomic_file, atomic_folder, digest, read_json, sha256, write_json


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_file_replaces_only_on_success(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("one")
        assert temporary.parent == target.parent
        assert temporary.name.startswith(".")
        assert ".tmp-" in temporary.name
        assert not target.exists()
    with suppress(ValueError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise ValueError("stop")
    assert target.read_text() == "one"
    assert visible(target.parent) == ["a.txt"]


def fill(target: Path, **contents: str) -> None:
    with atomic_folder(target) as folder:
        for name, text in contents.items():
            (folder / name).write_text(text)


def exchange_without(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the kernel refuse to exchange folders, with this error number."""

    class Kernel:
        def renameat2(self, *_: Any) -> int:
            files.ctypes.set_errno(code)
            return -1

    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: Kernel())


@pytest.mark.parametrize("refusal", [None, errno.ENOSYS, errno.EINVAL])
def test_atomic_folder_takes_the_place_of_the_old_one_whole(
    tmp_path: Path, refusal: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if refusal is not None:
        exchange_without(refusal, monkeypatch)
    target = tmp_path / "deep" / "night"
    fill(target, a="1", b="2")
    fill(target, b="3", c="4")
    assert {path.name: path.read_text() for path in target.iterdir()} == {"b": "3", "c": "4"}
    assert visible(target.parent) == ["night"]


def test_atomic_folder_keeps_the_old_one_on_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "night"
    fill(target, a="1")
    with suppress(ValueError), atomic_folder(target) as folder:
        (folder / "b").write_text("2")
        raise ValueError("stop")
    exchange_without(errno.EACCES, monkeypatch)
    with pytest.raises(OSError, match="Permission denied"):
        fill(target, b="2")
    assert visible(target) == ["a"]
    assert visible(tmp_path) == ["night"]


def test_a_reader_never_finds_the_folder_missing_or_mixed(tmp_path: Path) -> None:
    """Whoever has opened the old folder keeps it whole; whoever comes later finds the new one."""
    target = tmp_path / "night"
    fill(target, a="old", b="old")
    held = os.open(target, os.O_RDONLY)
    try:
        with atomic_folder(target) as folder:
            (folder / "a").write_text("new")
            assert {entry.name for entry in os.scandir(held)} == {"a", "b"}
            assert (target / "a").read_text() == "old"
        assert visible(target) == ["a"]
        assert (target / "a").read_text() == "new"
    finally:
        os.close(held)


def test_digests() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_json_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": [1, None]})
    assert read_json(tmp_path / "a.json") == {"é": [1, None]}


@pytest.mark.parametrize(
    ("content", "told"), [(None, "does not exist"), (b"{", "is not JSON"), (b"\xff", "is not JSON")]
)
def test_bad_json_is_named(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.json {told}"):
        read_json(path)
