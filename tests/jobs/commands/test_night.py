"""Running nights from the command line."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from datetime import date, datetime

import pandas as pd
import pytest

from hmamba.steps import NIGHT
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from jobs.night import NightOptions
from tests.jobs.commands.call import call
from tests.landing import TINY_ONCE
from tests.synthetic import make_interactions, write_landing


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
