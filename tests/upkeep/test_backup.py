"""A backup, and a restored root whose nights are those of the original."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import duckdb
import pytest

from hmamba.candidates.lookup import published_manifest
from hmamba.contracts.backup import Backup
from hmamba.report.history import nights
from hmamba.storage.layout import Layout
from hmamba.upkeep import backup as backups
from hmamba.upkeep.versions import versions
from tests.jobs.commands.call import call
from tests.nights import FIRST, THIRD, run_night, state
from tests.synthetic import make_interactions, write_landing

FOURTH = date(2024, 1, 31)


def back_up(layout: Layout, target: Path) -> int:
    return call("backup", str(target), "--root", str(layout.root))


def restore(source: Path, root: Path) -> int:
    return call("restore", str(source), "--root", str(root))


@pytest.mark.parametrize("name", ["copy", "copy.tar", "copy.tar.gz", "copy.tgz", "copy.tar.xz"])
def test_a_restored_root_equals_the_original(two: Layout, tmp_path: Path, name: str) -> None:
    two.rules.write_text('[[deny]]\nname = "some"\nitems = ["item-001"]\n')
    assert back_up(two, tmp_path / name) == 0
    assert (tmp_path / name).is_dir() == (name == "copy")
    assert restore(tmp_path / name, tmp_path / "back") == 0
    back = Layout.at(tmp_path / "back")
    assert state(back) == state(two)
    assert back.latest.is_symlink()
    assert published_manifest(back) == published_manifest(two)
    assert versions(back) == versions(two)
    assert nights(back) == nights(two)
    assert back.config.read_text() == two.config.read_text()
    assert back.rules.read_text() == two.rules.read_text()
    assert not back.run(FIRST, "one").sequences.exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_night_on_the_restored_root_equals_one_on_the_original(two: Layout, tmp_path: Path) -> None:
    assert call("forget", "user-007", "--root", str(two.root)) == 0
    assert back_up(two, tmp_path / "copy.tar") == 0
    assert restore(tmp_path / "copy.tar", tmp_path / "back") == 0
    back = Layout.at(tmp_path / "back")
    shutil.copytree(two.landing, back.landing)
    found = []
    for layout in (two, back):
        write_landing(layout.root, make_interactions(users=120, items=80, days=31).tail(120), "fourth.parquet")
        metrics = run_night(layout, FOURTH, "four")
        table = published_manifest(layout)
        assert metrics["ingest"]["files"] == 1
        found.append((metrics["train"]["version"], metrics["gate"]["reason"], table.snapshot, table.files))
    assert found[0] == found[1]


def test_a_refresh_of_the_restored_root(two: Layout, tmp_path: Path) -> None:
    assert back_up(two, tmp_path / "copy") == 0
    assert restore(tmp_path / "copy", tmp_path / "back") == 0
    shutil.copytree(two.landing, tmp_path / "back" / "landing")
    write_landing(tmp_path / "back", make_interactions(users=120, items=80, days=31).tail(40), "noon.parquet")
    assert call("refresh", "--root", str(tmp_path / "back"), "--day", str(FOURTH)) == 0
    refreshed = published_manifest(Layout.at(tmp_path / "back")).refresh
    assert refreshed is not None
    assert refreshed.users > 0


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", ["warehouse.duckdb", "models/champion.json", "backup.json"])
def test_a_damaged_backup_is_refused_and_leaves_nothing(
    two: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], name: str
) -> None:
    assert back_up(two, tmp_path / "copy") == 0
    damage(tmp_path / "copy" / name)
    capsys.readouterr()
    assert restore(tmp_path / "copy", tmp_path / "back") == 2
    assert Path(name).name in capsys.readouterr().err
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize("kind", [".tar.gz", ".tar.xz"])
def test_a_damaged_archive_and_a_file_that_is_no_archive_are_refused(
    two: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    archive = tmp_path / f"copy{kind}"
    assert back_up(two, archive) == 0
    whole = archive.read_bytes()
    half = len(whole) // 2
    for content in (whole[:half], whole[:half] + bytes(100) + whole[half + 100 :], b"no archive"):
        archive.write_bytes(content)
        capsys.readouterr()
        assert restore(archive, tmp_path / "back") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "Use another backup" in line
    assert restore(tmp_path / "none.tar", tmp_path / "back") == 2
    assert restore(two.root, tmp_path / "back") == 2
    assert "is no backup, as it holds no backup.json. Give the folder or the archive" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("hostile", ["../out", "/tmp/out"])
def test_a_backup_cannot_write_outside_of_the_root(
    two: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str], hostile: str
) -> None:
    assert back_up(two, tmp_path / "copy") == 0
    made = Backup.read(tmp_path / "copy" / "backup.json")
    made.model_copy(update={"links": {hostile: "x"}}).write(tmp_path / "copy" / "backup.json")
    assert restore(tmp_path / "copy", tmp_path / "back") == 2
    made.model_copy(update={"links": {"candidates/latest.json": f"../{hostile}"}}).write(
        tmp_path / "copy" / "backup.json"
    )
    assert restore(tmp_path / "copy", tmp_path / "back") == 2
    assert "outside of the root" in capsys.readouterr().err
    by_way_of_another = {"here": ".", "there": "here/../out"}
    made.model_copy(update={"links": by_way_of_another}).write(tmp_path / "copy" / "backup.json")
    assert restore(tmp_path / "copy", tmp_path / "back") == 2
    assert "names there, which is outside of the root" in capsys.readouterr().err
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.add(two.config, arcname="../evil")
    assert restore(tmp_path / "evil.tar", tmp_path / "back") == 2
    assert not (tmp_path.parent / "evil").exists()


def test_a_link_out_of_the_root_is_refused_as_it_could_not_be_restored(
    two: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = two.models / "20240101-0000abcd"
    link.symlink_to(tmp_path)
    assert back_up(two, tmp_path / "copy") == 2
    assert f"{link} is a link out of the root" in capsys.readouterr().err
    assert not (tmp_path / "copy").exists()


def test_nothing_is_overwritten(two: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert back_up(two, two.root / "copy") == 2
    assert "inside of the root" in capsys.readouterr().err
    assert back_up(two, tmp_path / "copy.zip") == 2
    assert "archives end with .tar, .tar.gz, .tgz, .tar.xz" in capsys.readouterr().err
    assert not (tmp_path / "copy.zip").exists()
    assert back_up(two, tmp_path / "copy") == 0
    assert back_up(two, tmp_path / "copy") == 2
    assert "backups are not overwritten" in capsys.readouterr().err
    assert restore(tmp_path / "copy", two.root) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert restore(tmp_path / "copy", tmp_path / "empty") == 0


def test_a_backup_waits_for_a_running_step(two: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two.config.write_text("[warehouse]\nwait_seconds = 0.1\n" + two.config.read_text())
    with two.storage.lock(two.run(THIRD, "three").folder):
        assert back_up(two, tmp_path / "copy") == 1
    assert "is locked by process" in capsys.readouterr().err
    assert not (tmp_path / "copy").exists()


def test_a_backup_that_is_killed_leaves_no_file(two: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: object) -> None:
        raise SystemError("as if killed")

    with monkeypatch.context() as patched:
        patched.setattr(backups, "_kept", kill)
        with pytest.raises(SystemError):
            back_up(two, tmp_path / "copy.tar")
    assert not (tmp_path / "copy.tar").exists()
    assert back_up(two, tmp_path / "copy.tar") == 0


def test_a_backup_of_an_empty_folder_is_refused(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout.root.mkdir()
    assert back_up(layout, tmp_path / "copy") == 2
    assert "nothing to back up" in capsys.readouterr().err


def test_the_description_can_be_read_without_the_program(two: Layout, tmp_path: Path) -> None:
    assert back_up(two, tmp_path / "copy") == 0
    made = json.loads((tmp_path / "copy" / "backup.json").read_text())
    assert made["links"] == {"candidates/latest.json": f"run_date={THIRD}/_manifest.json"}
    with duckdb.connect(str(tmp_path / "copy" / "warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM interactions").fetchall() == [(True,)]
