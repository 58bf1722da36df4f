from __future__ import annotations

import os
from pathlib import Path

import pytest

from hmamba.errors import InputError
from hmamba.sources.discover import find_files


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


@pytest.mark.parametrize("root", ["shop [1]", "shop"])
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in [2]", ["in [2]/a.csv", "in [2]/b.csv"]),
        ("in [2]/a.csv", ["in [2]/a.csv"]),
        ("in [[]2]/*.csv", ["in [2]/a.csv", "in [2]/b.csv"]),
        ("in*/b.*", ["in [2]/b.csv"]),
    ],
)
def test_names_may_hold_what_globs_are_made_of(tmp_path: Path, root: str, pattern: str, expected: list[str]) -> None:
    folder = tmp_path / root / "in [2]"
    folder.mkdir(parents=True)
    for name in ("a.csv", "b.csv"):
        (folder / name).touch()
    assert [file.name for file in find_files(pattern, tmp_path / root, "source.path")] == expected


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


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def names(root: Path, pattern: str = "landing", **settings: bool) -> list[str]:
    return [file.name for file in find_files(pattern, root, "source.path", **settings)]


def test_what_other_tools_leave_is_left_alone(tmp_path: Path) -> None:
    put(tmp_path, "landing/out.parquet/part-0.parquet", "landing/dt=2024-05-31/b.csv")
    put(tmp_path, "landing/_SUCCESS", "landing/out.parquet/_SUCCESS", "landing/out.parquet/.part-0.parquet.crc")
    put(tmp_path, "landing/out.parquet/_temporary/0/part-1.parquet", "landing/_delta_log/00.json", "landing/.x/c.csv")
    expected = ["landing/dt=2024-05-31/b.csv", "landing/out.parquet/part-0.parquet"]
    assert names(tmp_path) == expected
    assert names(tmp_path, "landing/**") == expected
    assert names(tmp_path, "landing/*") == expected
    assert names(tmp_path, "landing/dt=*") == expected[:1]


def test_links_are_followed_and_each_file_is_read_once(tmp_path: Path) -> None:
    put(tmp_path, "landing/a.csv", "elsewhere/b.csv", "elsewhere/deep/c.csv", "elsewhere/_SUCCESS", "d.csv")
    landing = tmp_path / "landing"
    (landing / "dt=2024-05-31").symlink_to("../elsewhere")
    (landing / "aa.csv").symlink_to("../d.csv")
    (landing / "0.csv").symlink_to("a.csv")
    (landing / "latest").symlink_to("dt=2024-05-31")
    (landing / "round").symlink_to("..")
    (tmp_path / "elsewhere" / "round").symlink_to("../landing")
    expected = ["a.csv", "aa.csv", "dt=2024-05-31/b.csv", "dt=2024-05-31/deep/c.csv"]
    put(tmp_path, "runs/part-0.parquet")  # a link to a folder above leads round, not to all that lies there
    assert [name.removeprefix("landing/") for name in names(tmp_path)] == expected


def test_a_glob_follows_links_too(tmp_path: Path) -> None:
    put(tmp_path, "landing/x/a.csv", "elsewhere/b.csv")
    (tmp_path / "landing" / "y").symlink_to("../elsewhere")
    (tmp_path / "landing" / "round").symlink_to(".")
    assert names(tmp_path, "landing/*/*.csv") == ["landing/x/a.csv", "landing/y/b.csv"]
    assert names(tmp_path, "landing/**/*.csv") == ["landing/x/a.csv", "landing/y/b.csv"]


@pytest.mark.parametrize("pattern", ["in", "in/*"])
def test_what_is_no_file_is_refused_by_name(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "a.csv")
    with pytest.raises(InputError, match=r"in/a\.csv is neither a file nor a folder"):
        find_files(pattern, tmp_path, "source.path")


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "landing/a.csv")
    (tmp_path / "landing" / "b.csv").symlink_to("gone.csv")
    for pattern in ("landing", "landing/*.csv"):
        with pytest.raises(InputError, match=r"landing/b\.csv is a link that leads nowhere"):
            names(tmp_path, pattern)
    (tmp_path / "landing" / "b.csv").unlink()
    (tmp_path / "landing" / "b.csv").symlink_to("b.csv")
    with pytest.raises(InputError, match=r"landing/b\.csv is a link that leads nowhere"):
        names(tmp_path)


@pytest.mark.parametrize("pattern", ["landing", "landing/*", "landing/*.csv", "landing/**/*.csv"])
def test_a_link_out_of_the_root_needs_a_setting(tmp_path: Path, pattern: str) -> None:
    root = tmp_path / "root"
    put(tmp_path, "root/landing/a.csv", "outside/b.csv")
    link = root / "landing" / ("b.csv" if pattern.endswith(".csv") else "b")
    link.symlink_to(tmp_path / "outside" / ("b.csv" if pattern.endswith(".csv") else ""))
    with pytest.raises(
        InputError, match=r"landing/b.* is a link that leads out of the root.*source\.follow_links = true"
    ):
        names(root, pattern)
    expected = ["landing/a.csv", "landing/b.csv" if pattern.endswith(".csv") else "landing/b/b.csv"]
    assert names(root, pattern, follow_links=True) == expected


def test_the_folder_of_the_setting_may_itself_be_a_link(tmp_path: Path) -> None:
    put(tmp_path, "outside/b.csv")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "landing").symlink_to(tmp_path / "outside")
    assert names(tmp_path / "root") == ["landing/b.csv"]


def test_a_name_that_is_not_utf8_is_refused_with_its_bytes(tmp_path: Path) -> None:
    put(tmp_path, "landing/a.csv")
    path = os.fsencode(tmp_path / "landing") + b"/caf\xe9.csv"
    with open(path, "w") as stream:  # noqa: PTH123 - a path of bytes
        stream.write("x")
    with pytest.raises(InputError, match=r"landing/caf\\xe9\.csv: the name is not UTF-8.*Rename"):
        names(tmp_path)


@pytest.mark.parametrize("letter", ["\n", "\x1b", "\u202e", "\x7f"])
def test_a_name_that_controls_a_terminal_is_refused_and_shown_escaped(tmp_path: Path, letter: str) -> None:
    put(tmp_path, f"landing/a{letter}b.csv")
    shown = letter.encode("unicode_escape").decode()
    with pytest.raises(InputError) as raised:
        names(tmp_path)
    assert str(raised.value).startswith(f"landing/a{shown}b.csv: the name has characters that control a terminal")
    (tmp_path / "landing" / f"a{letter}b.csv").rename(tmp_path / "landing" / "b.csv")
    (tmp_path / "landing" / f"c{letter}d").symlink_to("gone")
    with pytest.raises(InputError) as raised:
        names(tmp_path)
    assert str(raised.value).startswith(f"landing/c{shown}d is a link that leads nowhere")
