"""Taking nights back: the champion, the table that readers find, and what is kept aside."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from hmamba.models import promotions
from hmamba.storage.layout import Layout
from hmamba.storage.local import LocalStorage, read_json
from hmamba.upkeep import rollback
from jobs.cli import main
from tests.documents import edit
from tests.landing import DAY, Root
from tests.scored import write_run
from tests.synthetic import make_interactions

DAYS = [DAY, DAY + timedelta(days=1), DAY + timedelta(days=2), date(2099, 1, 1)]


@pytest.fixture
def nights(root: Root) -> Layout:
    """Four published nights, each with a promotion; the last one of a day that nobody meant."""
    root.configure("[candidates]\nk = 10\n")
    events = make_interactions()
    for number, day in enumerate(DAYS):
        write_run(root.layout, events, day)
        root.ok("publish", day, "manual", "--any-day")
        assert promotions.record_decision(root.layout, day, f"v{number}")
    return root.layout


def call(layout: Layout, *arguments: str) -> int:
    try:
        return main(["rollback", "--root", str(layout.root), *arguments])
    except SystemExit as left:
        return int(left.code or 0)


def tree(layout: Layout) -> list[str]:
    folders = (layout.candidates, layout.runs, layout.rolled_back)
    found = (path for folder in folders for path in folder.rglob("*") if not path.name.endswith(".lock"))
    return sorted(path.relative_to(layout.root).as_posix() for path in found)


def test_readers_and_the_champion_go_back(nights: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call(nights, "--to", DAYS[1].isoformat()) == 0
    assert read_json(nights.latest)["day"] == DAYS[1].isoformat()
    assert [promotion.version for promotion in promotions.promotions(nights)] == ["v0", "v1"]
    assert read_json(nights.champion)["version"] == "v1"
    for file in read_json(nights.latest)["files"]:
        assert (nights.root / file["path"]).is_file()
    assert sorted(path.name for path in nights.candidates.glob("run_date=*")) == [f"run_date={day}" for day in DAYS[:2]]
    assert sorted(path.name for path in (nights.rolled_back / "candidates").iterdir()) == [
        f"run_date={day}" for day in DAYS[2:]
    ]
    assert (nights.rolled_back / "runs" / "2099-01-01" / "manual" / "sequences").is_dir()
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [
        f"took back the promotion of v2 on {DAYS[2]}",
        "took back the promotion of v3 on 2099-01-01",
        f"candidates/latest.json: leads to {DAYS[1]}",
    ]
    moved = "candidates/run_date=2099-01-01: moved to .rolled-back/candidates/run_date=2099-01-01"
    assert moved in out
    assert out[-1] == f"champion: v1, since {DAYS[1]}"


def test_the_same_rollback_again_changes_nothing(nights: Layout) -> None:
    assert call(nights, "--to", DAYS[1].isoformat()) == 0
    before = tree(nights), nights.champion.read_text(), nights.latest.readlink()
    assert call(nights, "--to", DAYS[1].isoformat()) == 0
    assert (tree(nights), nights.champion.read_text(), nights.latest.readlink()) == before


def test_a_day_that_was_rolled_back_can_be_run_again(nights: Layout, root: Root) -> None:
    """A day that was taken back is published and promoted again, and taken back a second time beside the first."""
    call(nights, "--to", DAYS[1].isoformat())
    write_run(nights, make_interactions(), DAYS[2])
    assert root.ok("publish", DAYS[2], "manual", "--any-day")["changed"]
    assert read_json(nights.latest)["day"] == DAYS[2].isoformat()
    assert promotions.champion_before(nights, DAYS[2]) == "v1"
    call(nights, "--to", DAYS[1].isoformat())
    assert (nights.rolled_back / "candidates" / f"run_date={DAYS[2]}.2" / "_manifest.json").is_file()


def test_no_glob_of_the_table_meets_what_was_taken_back(nights: Layout) -> None:
    call(nights, "--to", DAYS[1].isoformat())
    pattern = f"{nights.candidates}/**/part-*.parquet"
    found = duckdb.sql(f"SELECT DISTINCT parse_filename(parse_dirpath(file)) AS day FROM glob('{pattern}')").fetchall()
    assert sorted(found) == [(f"run_date={day}",) for day in DAYS[:2]]


def test_a_folder_of_a_day_without_a_manifest_is_no_table(nights: Layout) -> None:
    (nights.candidates / "run_date=2024-01-02").mkdir(exist_ok=True)
    nights.published_manifest(DAYS[1]).unlink()
    assert call(nights, "--to", DAYS[1].isoformat()) == 0
    assert read_json(nights.latest)["day"] == DAYS[0].isoformat()


def test_delete_removes_the_folders(nights: Layout) -> None:
    assert call(nights, "--to", DAYS[0].isoformat(), "--delete") == 0
    assert [path for path in tree(nights) if "2099" in path] == []
    assert not nights.rolled_back.exists()
    assert read_json(nights.latest)["day"] == DAYS[0].isoformat()


def test_before_the_first_night_nothing_is_published(nights: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert call(nights, "--to", (DAY - timedelta(days=1)).isoformat()) == 0
    assert not nights.latest.is_symlink()
    assert promotions.promotions(nights) == ()
    out = capsys.readouterr().out
    assert "candidates/latest.json: removed, because nothing published stays" in out
    assert out.splitlines()[-1] == "champion: none"


@pytest.mark.parametrize("place", [(LocalStorage, "point"), (rollback, "_remove")])
def test_killed_anywhere_readers_find_a_whole_table_and_it_can_be_finished(
    nights: Layout, monkeypatch: pytest.MonkeyPatch, place: tuple[object, str]
) -> None:
    def kill(*_: object) -> None:
        raise SystemError("as if killed")

    with monkeypatch.context() as patched:
        patched.setattr(*place, kill)
        with pytest.raises(SystemError):
            call(nights, "--to", DAYS[1].isoformat())
    for file in read_json(nights.latest)["files"]:
        assert (nights.root / file["path"]).is_file()
    assert call(nights, "--to", DAYS[1].isoformat()) == 0
    assert read_json(nights.latest)["day"] == DAYS[1].isoformat()
    assert not nights.published(DAYS[3]).exists()


def test_a_later_refresh_of_the_table_is_pointed_out(nights: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = nights.published(DAYS[1]) / "_manifest.json"
    edit(manifest, refresh={"day": "2024-02-01", "run_id": "noon", "users": 1, "new_users": 0})
    capsys.readouterr()
    call(nights, "--to", DAYS[1].isoformat())
    again = f"python -m jobs.publish --root {nights.root} --day {DAYS[1]} --run-id manual"
    assert again in capsys.readouterr().out


OTHER_VERSION = '{"schema_version": 99}'


def test_a_table_whose_manifest_cannot_be_read_is_passed_over(
    nights: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    nights.published_manifest(DAYS[1]).write_text(OTHER_VERSION)
    capsys.readouterr()
    assert call(nights, "--to", DAYS[1].isoformat()) == 0
    assert read_json(nights.latest)["day"] == DAYS[0].isoformat()
    assert [when for when, _ in nights.published_days] == DAYS[:2]
    assert f"note: the table of {DAYS[1]} is passed over: " in capsys.readouterr().out.splitlines()[0]


def test_without_a_readable_manifest_nothing_is_changed(nights: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    for day in DAYS[:2]:
        nights.published_manifest(day).write_text(OTHER_VERSION)
    before = tree(nights), nights.champion.read_text(), nights.latest.readlink()
    assert call(nights, "--to", DAYS[1].isoformat()) == 2
    assert (tree(nights), nights.champion.read_text(), nights.latest.readlink()) == before
    assert f"No table up to {DAYS[1]} has a manifest that can be read; nothing has been ch" in capsys.readouterr().err


def test_a_folder_that_is_no_root_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letters").mkdir()
    assert call(Layout.at(tmp_path), "--to", "2024-01-01") == 2
    assert "has neither hmamba.toml nor warehouse.duckdb nor candidates/. Correct the path." in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["letters"]
