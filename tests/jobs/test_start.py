"""`hmamba init --from`: what it writes is what the first steps run with, with no key added by hand."""

from __future__ import annotations

import re
import shlex
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from hmamba.storage.layout import Layout
from jobs.cli import main
from tests.landing import Root
from tests.survey import exports


def call(*arguments: str) -> int:
    try:
        return main(list(arguments))
    except SystemExit as left:
        return int(left.code or 0)


@pytest.mark.parametrize("name", ["movielens", "sessions", "groceries", "reviews", "ordered"])
def test_what_is_proposed_can_be_pulled(
    root: Root, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = getattr(exports, name)(tmp_path / "exports")
    assert call("init", str(root.layout.root), "--from", str(folder)) == 0
    said = capsys.readouterr().out
    assert "would be refused" not in said
    advised = shlex.split(said.splitlines()[-1])
    assert advised[:5] == ["hmamba", "run", "--root", str(root.layout.root), "--day"]
    day = date.fromisoformat(advised[5])
    metrics = root.ok("ingest", day)
    assert metrics["rows_quarantined"] == 0
    assert metrics["rows_loaded"] > 500
    assert root.ok("snapshot", day)["events"] == metrics["rows_loaded"]
    assert not root.layout.landing.exists()


def test_from_takes_several_files(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exports.movielens(tmp_path / "ml")
    files = sorted(map(str, folder.iterdir()))
    assert call("init", str(layout.root), "--from", *files) == 0
    said = capsys.readouterr().out
    assert re.search(r"(?m)^user +userId", said)
    assert re.search(r"(?m)^unit of time +epoch_s", said)
    assert "! tags.csv could be interactions too" in said


def test_init_says_what_later_nights_read(root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exports.ordered(tmp_path / "log")  # a catalogue lies beside the events
    assert call("init", str(root.layout.root), "--from", str(folder)) == 0
    said = capsys.readouterr().out
    assert "Every night finds" not in said
    day = date.fromisoformat(said.split()[-1])
    pattern = re.search(r"set source\.path to a pattern, such as '(.+)'", said)
    assert pattern is not None
    written = root.layout.config.read_text(encoding="utf-8")
    root.configure(written.replace(str(folder / "interactions.parquet"), pattern[1]))
    first = root.ok("ingest", day)["rows_loaded"]
    more = pd.read_parquet(folder / "interactions.parquet").assign(position=lambda frame: frame.position + 12)
    more.to_parquet(folder / "interactions-2.parquet", index=False)
    assert root.ok("ingest", day, "second")["rows_loaded"] == first


@pytest.mark.parametrize("name", ["my (1) exports", "exports"])
def test_a_pattern_that_would_read_other_files_is_not_suggested(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout.at(tmp_path / name)
    folder = exports.sessions(layout.root)
    (folder / "events.csv").rename(folder / "2024-05-01.csv")
    (folder / "items.csv").write_text("itemid,name\n1,Thing\n", encoding="utf-8")
    assert call("init", str(layout.root), "--from", str(folder)) == 0
    said = capsys.readouterr().out
    assert "*.csv" not in said
    assert "put them all into one folder" in said


def test_the_pattern_is_one_whatever_the_folder_is_called(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout.at(tmp_path / "shop (1)")
    folder = exports.sessions(layout.root)
    (folder / "items.csv").write_text("itemid,name\n1,Thing\n", encoding="utf-8")
    assert call("init", str(layout.root), "--from", str(folder)) == 0
    assert "such as 'events*.csv'." in capsys.readouterr().out


def test_a_folder_of_events_alone_is_read_whole(root: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = exports.sessions(tmp_path / "log")
    assert call("init", str(root.layout.root), "--from", str(folder)) == 0
    said = capsys.readouterr().out
    assert "Every night finds new and changed ones" in said
    day = date.fromisoformat(said.split()[-1])
    first = root.ok("ingest", day)["rows_loaded"]
    more = pd.read_csv(folder / "events.csv").assign(visitorid=lambda frame: frame.visitorid + 1000)
    more.to_csv(folder / "later.csv", index=False)
    assert root.ok("ingest", day, "second")["rows_loaded"] == first


def test_nothing_is_written_if_no_column_fits(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "log.csv").write_text("KUNDE,sku,ts\n1,2,1716985932\n", encoding="utf-8")
    assert call("init", str(layout.root), "--from", str(tmp_path / "log.csv")) == 2
    assert "'KUNDE', 'sku', 'ts'" in capsys.readouterr().err
    assert not layout.root.exists()
    assert call("init", str(layout.root), "--from", str(tmp_path / "log.csv"), "--column", "user_id=KUNDE") == 0
    assert 'user_id = "KUNDE"' in layout.config.read_text(encoding="utf-8")


def test_refused_rows_are_shown_before_the_first_night(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"u{n},i{n},{1716985932 + n}\n" for n in range(40))
    (tmp_path / "log.csv").write_text(f"user,item,ts\n{rows},i,1716985932\n", encoding="utf-8")
    assert call("init", str(layout.root), "--from", str(tmp_path / "log.csv")) == 0
    assert "! 1 of 41 rows would be refused (user_id_present)" in capsys.readouterr().out


def test_a_first_night_that_would_stop_is_not_suggested(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{f'u{n}' * (n % 20 == 0)},i{n},{1716985932 + n}\n" for n in range(40))
    (tmp_path / "log.csv").write_text(f"user,item,ts\n{rows}", encoding="utf-8")
    assert call("init", str(layout.root), "--from", str(tmp_path / "log.csv")) == 0
    said = capsys.readouterr().out
    assert "hmamba run" not in said
    assert "38 of 40 rows would be refused (95.0%)" in said
    assert said.splitlines()[-1].strip() == f"hmamba doctor --root {layout.root}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.csv"], "a.csv: give files after --from"),
        (["--column", "user_id=x"], "user_id=x: give files after --from"),
        (["--from", "a.csv", "--config", "films"], "give one of them"),
        (["--from", "/nowhere"], "--from /nowhere: no such file or folder"),
    ],
)
def test_arguments_that_do_not_fit_write_nothing(
    layout: Layout, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert call("init", str(layout.root), *arguments) == 2
    assert words in capsys.readouterr().err
    assert not layout.root.exists()


def test_an_existing_configuration_is_kept(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout.root.mkdir()
    layout.config.write_text("[candidates]\nk = 3\n", encoding="utf-8")
    assert call("init", str(layout.root), "--from", str(exports.sessions(tmp_path / "log"))) == 2
    assert "already exists" in capsys.readouterr().err
    assert layout.config.read_text(encoding="utf-8") == "[candidates]\nk = 3\n"
