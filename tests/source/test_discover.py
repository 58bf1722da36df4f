from __future__ import annotations

from pathlib import Path

import pytest

from hmamba.errors import InputError
from hmamba.source.discover import find_files


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "landing/b.csv",
        "landing/a.parquet",
        "landing/deep/c.jsonl.gz",
        "landing/deep/d.CSV.GZ",
        "landing/.hidden.csv",
        "landing/e.csv.tmp-1234",
        "landing/.partial/f.csv",
        "other/g.ndjson",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("landing", ["landing/a.parquet", "landing/b.csv", "landing/deep/c.jsonl.gz", "landing/deep/d.CSV.GZ"]),
        ("landing/*.csv", ["landing/b.csv"]),
        ("landing/**/*.gz", ["landing/deep/c.jsonl.gz"]),
        ("*/[gb].*", ["landing/b.csv", "other/g.ndjson"]),
        ("landing/b.csv", ["landing/b.csv"]),
        ("landing/*.json", []),
    ],
)
def test_folders_files_and_globs(tree: Path, pattern: str, expected: list[str]) -> None:
    assert [file.name for file in find_files(pattern, tree, "source.path")] == expected
    absolute = find_files(str(tree / pattern), tree, "source.path")
    assert [file.name for file in absolute] == expected


def test_outside_the_root_names_are_absolute(tree: Path) -> None:
    (found,) = find_files(str(tree / "other"), tree / "landing", "source.path")
    assert found.name == str(tree / "other" / "g.ndjson")
    assert (found.kind, found.gzipped, found.size) == ("json", False, 1)


@pytest.mark.parametrize("pattern", ["nowhere", "nowhere/*.csv", "/nowhere/at/all"])
def test_a_missing_folder_is_named_with_its_setting(tree: Path, pattern: str) -> None:
    with pytest.raises(InputError, match=r"source\.path = .*nowhere.* does not exist"):
        find_files(pattern, tree, "source.path")


@pytest.mark.parametrize("name", ["notes.txt", "README", "sheet.xlsx", "a.parquet.gz", "events.csv.bz2"])
def test_an_unknown_ending_is_refused_by_name(tree: Path, name: str) -> None:
    (tree / "landing" / name).write_text("x")
    with pytest.raises(InputError, match=rf"landing/{name}: files of this kind cannot be read.*\.parquet"):
        find_files("landing", tree, "source.path")
