"""Digests of files: what is verified is complete and unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmamba.contracts.contents import Contents, HashedFile
from hmamba.errors import InputError
from hmamba.storage.run_layout import CONTENTS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "part").mkdir()
    (tmp_path / "weights").write_bytes(b"0123")
    (tmp_path / "part" / "items").write_bytes(b"45")
    Contents.of(tmp_path).write(tmp_path / CONTENTS)
    return tmp_path


def verify(folder: Path, *others: str) -> None:
    Contents.read(folder / CONTENTS).verify(folder, "Do this.", others)


def test_what_was_written_is_accepted(folder: Path) -> None:
    verify(folder)
    assert {file.name for file in Contents.read(folder / CONTENTS).files} == {"weights", "part/items"}


@pytest.mark.parametrize("name", ["weights", "part/items"])
@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "removed", "folder"])
def test_every_damage_is_found(folder: Path, name: str, damage: str) -> None:
    path, content = folder / name, (folder / name).read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "removed":
        changed = {"flip": bytes([content[0] ^ 1]) + content[1:], "cut": content[:-1], "longer": content + b"0"}
        path.write_bytes(changed[damage])
    with pytest.raises(InputError, match=rf"^{path} (is damaged|does not exist).* Do this\.$"):
        verify(folder)


def test_a_file_too_many_is_refused_unless_it_is_expected(folder: Path) -> None:
    (folder / "metrics.json").write_text("{}")
    with pytest.raises(InputError, match=r"metrics\.json does not belong there.* Do this\.$"):
        verify(folder)
    verify(folder, "metrics.json")


def test_the_digest_depends_on_names_and_contents(tmp_path: Path) -> None:
    contents = []
    for name, content in (("a", b"1"), ("b", b"1"), ("a", b"2")):
        (tmp_path / "f").write_bytes(content)
        contents.append(Contents(files=(HashedFile.of(tmp_path / "f", name),)).digest)
    assert len(set(contents)) == 3
