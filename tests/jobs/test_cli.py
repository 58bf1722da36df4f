from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tomllib
from datetime import date, datetime
from pathlib import Path

import pandas as pd
import pytest

from hmamba.config import Config, parse
from hmamba.steps import NIGHT
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from jobs.cli import main
from jobs.night import NightOptions
from tests.landing import TINY_ONCE
from tests.report.metrics_of_night import DAY, VERSION
from tests.report.night import publish, write_night
from tests.synthetic import make_catalogue, make_interactions, write_landing


def call(*arguments: str) -> int:
    """Run the command line in this process; the exit status."""
    try:
        return main(list(arguments))
    except SystemExit as left:
        return int(left.code or 0)


@pytest.fixture
def published(layout: Layout) -> Layout:
    """A root with a published night."""
    catalogue = make_catalogue()
    catalogue["category_path"] = [list(row) for row in catalogue[["department", "category"]].itertuples(index=False)]
    catalogue["title"] = [f"[red]Thing {n}[/red]\x1b[2J" for n in range(len(catalogue))]
    write_night(layout, make_interactions(), catalogue)
    publish(layout)
    return layout


@pytest.mark.parametrize(
    "command", ["run", "refresh", "rollback", "backtest", "recommend", "doctor", "init", "example"]
)
def test_help_teaches_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    assert f"Example: hmamba {command} " in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--day", "2024-01-30"),
        ("refresh", "--day", "2024-01-30"),
        ("rollback", "--to", "2024-01-30"),
        ("backtest", "--from", "2024-01-30", "--to", "2024-01-30"),
        ("recommend", "u"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_root_that_is_not_there_is_told_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    missing = tmp_path / "my shop"
    assert call(*arguments, "--root", str(missing)) == 2
    told = capsys.readouterr().err
    assert f"--root {missing}: no such folder" in told
    advised = shlex.split(told.partition("start one with: ")[2])
    assert advised == ["hmamba", "init", str(missing), "--from", "FILES"]
    assert not missing.exists()
    missing.touch()
    assert call(*arguments, "--root", str(missing)) == 2
    assert f"--root {missing} is not a folder" in capsys.readouterr().err


def test_a_slip_of_the_pen_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("recomend", "u") == 2
    assert "recommend" in capsys.readouterr().err


class TestRecommend:
    def test_shows_the_users_items(self, published: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("recommend", "user-003", "--root", str(published.root), "-n", "3") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"User user-003: day {DAY}, model_version {VERSION}"
        assert lines[1].split() == ["rank", "item", "category", "score", "item", "id"]
        assert [line.split()[0] for line in lines[2:]] == ["1", "2", "3"]
        assert all("item-" in line for line in lines[2:])

    def test_a_hostile_title_is_only_text(self, published: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        call("recommend", "user-003", "--root", str(published.root), "-n", "1")
        out = capsys.readouterr().out
        assert "[red]Thing" in out
        assert "\x1b" not in out

    def test_an_unknown_user_is_one_sentence(self, published: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("recommend", "user-03", "--root", str(published.root)) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("hmamba: user 'user-03' is not among the 40 users published")
        assert captured.err.count("\n") == 1

    def test_nothing_published_says_what_to_do(self, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        layout.root.mkdir()
        assert call("recommend", "u", "--root", str(layout.root)) == 2
        assert "Run a night first: hmamba run --root" in capsys.readouterr().err

    def test_no_items_is_no_answer(self, published: Layout) -> None:
        assert call("recommend", "user-003", "--root", str(published.root), "-n", "0") == 2


class TestDoctor:
    def test_a_good_machine(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("doctor", "--root", str(tmp_path)) == 0
        out = capsys.readouterr().out
        assert "✓ duckdb" in out
        assert "Everything that the nights need is here." in out

    def test_something_missing_is_a_status(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "hmamba.toml").write_text("colour = 1\n", encoding="utf-8")
        assert call("doctor", "--root", str(tmp_path)) == 1
        assert "✗ configuration" in capsys.readouterr().out


class TestInit:
    def test_a_root_to_start_from(self, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("init", str(layout.root)) == 0
        assert (layout.landing / "interactions").is_dir()
        assert parse(tomllib.loads(layout.config.read_text(encoding="utf-8")), "x") == Config()
        out = capsys.readouterr().out
        assert f"hmamba doctor --root {layout.root}" in out
        assert "user user_id, item item_id" in out

    def test_a_named_configuration_is_copied_with_its_comments(self, layout: Layout) -> None:
        assert call("init", str(layout.root), "--config", "complete_journey") == 0
        text = layout.config.read_text(encoding="utf-8")
        assert text.startswith("#")
        assert parse(tomllib.loads(text), "x").source.columns.user_id == "household_id"

    def test_nothing_is_overwritten(self, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        layout.root.mkdir()
        layout.config.write_text("[candidates]\nk = 3\n", encoding="utf-8")
        assert call("init", str(layout.root)) == 2
        assert "already exists" in capsys.readouterr().err
        assert layout.config.read_text(encoding="utf-8") == "[candidates]\nk = 3\n"

    def test_an_unknown_name_leaves_no_folder(self, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("init", str(layout.root), "--config", "books") == 2
        assert "Choose one of complete_journey, films" in capsys.readouterr().err
        assert not layout.root.exists()

    def test_a_file_cannot_be_a_root(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").write_text("", encoding="utf-8")
        assert call("init", str(tmp_path / "file")) == 2
        assert "is not a folder" in capsys.readouterr().err


class TestRun:
    def test_a_table_without_rows_names_no_user(self, layout: Layout, capfd: pytest.CaptureFixture[str]) -> None:
        """Users have seen the only item, and seen items are excluded."""
        write_landing(layout.root, make_interactions(items=1).drop_duplicates("user_id"))
        layout.config.write_text(TINY_ONCE, encoding="utf-8")
        assert call("run", "--root", str(layout.root), "--day", "2024-01-30") == 0
        lines = capfd.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines[-2:]] == ["Done", "The"]

    def test_a_whole_night(self, layout: Layout, capfd: pytest.CaptureFixture[str]) -> None:
        write_landing(layout.root, make_interactions())
        layout.config.write_text(TINY_ONCE, encoding="utf-8")
        assert call("run", "--root", str(layout.root), "--day", "2024-01-30", "--run-id", "first") == 0
        lines = capfd.readouterr().out.splitlines()
        said = [line.split()[0] for line in lines]
        assert said == [*NIGHT[:5], "score", "score", *NIGHT[6:], "Done", "Look", "The"]
        assert [line[:12].strip() for line in lines[5:7]] == ["score 1/2", "score 2/2"]
        assert "941 rows read from 1 file: 941 loaded, 0 duplicate, 0 refused; 60 new items" in lines[0]
        assert lines[-1] == f"The night's report: {layout.report(date(2024, 1, 30))}"
        advised = shlex.split(lines[-2].partition(": ")[2])
        assert advised[:2] == ["hmamba", "recommend"]
        assert call(*advised[1:]) == 0
        capfd.readouterr()
        manifest = read_json(layout.latest)
        assert (manifest["run_id"], manifest["day"], manifest["k"]) == ("first", "2024-01-30", 5)
        assert manifest["rows"] == 40 * 5
        page = layout.report(date(2024, 1, 30)).read_text(encoding="utf-8")
        assert "The first model was" in page
        assert "<svg" in page

        assert call("refresh", "--root", str(layout.root), "--day", "2024-01-31") == 0
        lines = capfd.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == ["ingest", "refresh"]
        assert "no user has new events; nothing was published" in lines[1]
        late = pd.DataFrame({"user_id": ["new"], "item_id": ["item-001"], "event_time": [datetime(2024, 1, 31)]})
        write_landing(layout.root, late.assign(weight=1.0), "later.parquet")
        assert call("refresh", "--root", str(layout.root), "--day", "2024-01-31") == 0
        assert "1 user with new events, 1 of them new; 0 read from their stored state, 1 from" in capfd.readouterr().out
        assert read_json(layout.latest)["users"] == 41

    def test_the_first_failure_ends_the_night(self, layout: Layout, capfd: pytest.CaptureFixture[str]) -> None:
        layout.root.mkdir()
        layout.config.write_text("[candidates]\nkay = 1\n", encoding="utf-8")
        assert call("run", "--root", str(layout.root), "--day", "2024-01-30") == 2
        captured = capfd.readouterr()
        assert "ingest ended with exit status 2; its own message is above. Later steps did not run." in captured.err
        assert "unknown key 'candidates.kay'" in captured.err
        assert captured.out == ""

    @pytest.mark.parametrize(
        ("changed", "words"),
        [
            ({"--day": "tomorrow"}, "is not a day such as 2017-12-14"),
            ({"--root": "/nowhere/at/all"}, "start one with: hmamba init /nowhere/at/all"),
            ({"--run-id": "a/b"}, "--run-id 'a/b'"),
        ],
    )
    def test_wrong_arguments_start_nothing(
        self, layout: Layout, capfd: pytest.CaptureFixture[str], changed: dict[str, str], words: str
    ) -> None:
        layout.root.mkdir()
        given = {"--root": str(layout.root), "--day": "2024-01-30"} | changed
        assert call("run", *(text for pair in given.items() for text in pair)) == 2
        assert words in " ".join(capfd.readouterr().err.replace("│", " ").split())
        assert list(layout.root.iterdir()) == []

    def test_an_interrupted_night_says_how_to_go_on(self, layout: Layout) -> None:
        write_landing(layout.root, make_interactions())
        command = [sys.executable, "-m", "jobs.cli", "run", "--root", str(layout.root), "--day", "2024-01-30"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ingest ")
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert err.endswith("Stopped. Run the same command again: it resumes where it stopped.\n")
        assert "Done" not in out

    def test_a_full_retrain_is_told_to_training_alone(self) -> None:
        options = NightOptions("/r", date(2024, 1, 30), config="films", full_retrain=True)
        told = {step: options.command(step)[3:] for step in NIGHT}
        assert [step for step, command in told.items() if "--full-retrain" in command] == ["train"]
        assert all(command[-2:] == ["--config", "films"] for step, command in told.items() if step != "train")
        assert options.command("score", 3)[-2:] == ["--shard", "3"]


def test_the_entry_point_is_installed() -> None:
    path = Path(sys.executable).with_name("hmamba")
    result = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0
    assert "recommend" in result.stdout
