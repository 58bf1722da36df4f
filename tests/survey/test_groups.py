"""Files of the same columns, and the path or pattern that names exactly these files."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from hmamba.errors import InputError
from hmamba.survey.groups import describe, files_of, gather, group, needs_links, pattern_of, widened

EVENTS, ITEMS = "user_id,item_id,event_time\nu,i,2024-01-01\n", "item_id,title\ni,Apple\n"


def put(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_csv", ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def test_data_files_are_found_in_folders_and_globs_once(tmp_path: Path) -> None:
    put(tmp_path, a_csv=EVENTS, sub__b_csv=EVENTS, notes=EVENTS, _hidden_csv=EVENTS)
    names = ["a.csv", "sub/b.csv"]
    for places in ([tmp_path], [tmp_path / "a.csv", tmp_path], [tmp_path / "**/*.csv"]):
        found = gather([str(place) for place in places])
        assert [path.relative_to(tmp_path).as_posix() for path in found] == names


def test_files_are_grouped_by_columns_the_largest_first(tmp_path: Path) -> None:
    put(tmp_path, log1_csv=EVENTS * 3, log2_csv=EVENTS, items_csv=ITEMS, other_csv=EVENTS, broken_csv="")
    with duckdb.connect() as connection:
        files = describe(gather([str(tmp_path)]), tmp_path)
        groups, unreadable = group(connection, files, ["NULL"])
    assert [[file.path.name for file in one.files] for one in groups] == [
        ["log1.csv", "log2.csv", "other.csv"],
        ["items.csv"],
    ]
    assert [(one.shown, one.is_events) for one in groups] == [("log1.csv and 2 more", True), ("items.csv", False)]
    assert groups[0].size == sum((tmp_path / name).stat().st_size for name in ("log1.csv", "log2.csv", "other.csv"))
    (message,) = unreadable
    assert message.startswith("broken.csv has no header line")


@pytest.mark.parametrize(
    ("files", "others", "pattern"),
    [
        (["in/log.csv"], [], "in/log.csv"),
        (["in/log-1.csv", "in/log-2.csv"], [], "in"),
        (["in/log-1.csv", "in/log-2.csv"], ["in/items.csv"], "in/log-*.csv"),
        (["in/1/part.csv", "in/2/part.csv"], ["in/items.csv"], "in/**/part*.csv"),
    ],
)
def test_a_pattern_names_these_files_and_no_others(
    tmp_path: Path, files: list[str], others: list[str], pattern: str
) -> None:
    for name in (*files, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(EVENTS)
    assert pattern_of(describe([tmp_path / name for name in files], tmp_path), tmp_path) == pattern


def test_files_that_no_pattern_tells_apart_are_an_error(tmp_path: Path) -> None:
    names = ["a.csv", "b.csv", "c.csv"]
    for name in names:
        (tmp_path / name).write_text(EVENTS)
    with pytest.raises(InputError, match=r"the 1 other files? with its columns"):
        pattern_of(describe([tmp_path / "a.csv", tmp_path / "c.csv"], tmp_path), tmp_path)


def test_later_files_beside_the_first_are_read_unless_they_hold_other_columns(tmp_path: Path) -> None:
    put(tmp_path, **{"log-2024-01_csv": EVENTS, "log-2024-02_csv": EVENTS})
    assert widened(tmp_path / "log-2024-01.csv", tmp_path) == "log*.csv"
    put(tmp_path, **{"logins_csv": ITEMS})
    assert widened(tmp_path / "log-2024-01.csv", tmp_path) is None


def test_links_out_of_the_root_are_noticed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root / "in", log_csv=EVENTS)
    assert not needs_links("in", root)
    (tmp_path / "elsewhere.csv").write_text(EVENTS)
    (root / "in" / "linked.csv").symlink_to(tmp_path / "elsewhere.csv")
    assert needs_links("in", root)


def test_a_link_out_of_a_folder_is_read_only_if_it_is_named(tmp_path: Path) -> None:
    put(tmp_path / "exports", log_csv=EVENTS)
    put(tmp_path / "elsewhere", private_csv=EVENTS)
    link = tmp_path / "exports" / "linked.csv"
    link.symlink_to(tmp_path / "elsewhere" / "private.csv")
    with pytest.raises(InputError, match=r"linked\.csv is a link that leads out of the folder.*Name the link"):
        gather([str(tmp_path / "exports")])
    assert gather([str(tmp_path / "exports"), str(link)]) == [link, tmp_path / "exports" / "log.csv"]
    assert files_of(tmp_path / "exports") == ([tmp_path / "exports" / "log.csv"], [link])
