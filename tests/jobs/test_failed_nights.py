"""Nights that fail, that are killed, and that somebody ends with Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest

from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from jobs.cli import main
from tests.documents import printed
from tests.landing import DAY, TINY
from tests.synthetic import make_interactions, write_landing


def run(layout: Layout, *more: str) -> int:
    try:
        return main(["run", "--root", str(layout.root), "--day", DAY.isoformat(), *more])
    except SystemExit as left:
        return int(left.code or 0)


def test_a_failed_night_has_a_report_and_the_status_of_its_step(
    layout: Layout, capfd: pytest.CaptureFixture[str]
) -> None:
    write_landing(layout.root, make_interactions().drop(columns="item_id"))
    assert run(layout) == 2
    captured = capfd.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == ["report"]
    assert "has no column 'item_id'" in captured.err
    assert captured.err.splitlines()[-1].startswith("hmamba: ingest ended with exit status 2")
    assert layout.report(DAY).is_file()
    failure = read_json(layout.run(DAY, "manual").step_failure("ingest"))
    assert (failure["step"], failure["exit_status"]) == ("ingest", 2)


def test_a_night_before_the_first_file_stops_at_ingest(layout: Layout, capfd: pytest.CaptureFixture[str]) -> None:
    (layout.landing / "interactions").mkdir(parents=True)
    assert run(layout) == 2
    captured = capfd.readouterr()
    assert "Nothing to start from" in captured.err
    assert "warehouse.duckdb" not in captured.err
    assert not layout.warehouse.exists()


def test_a_report_that_cannot_be_written_does_not_hide_the_failure(
    layout: Layout, capfd: pytest.CaptureFixture[str]
) -> None:
    write_landing(layout.root, make_interactions().drop(columns="item_id"))
    (layout.root / "reports").touch()
    assert run(layout) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert str(layout.root / "reports") in captured.err
    assert "Move that file away." in captured.err
    assert captured.err.splitlines()[-1].startswith("hmamba: ingest ended with exit status 2")


def test_a_step_that_is_refused_before_it_begins_has_no_report(
    layout: Layout, capfd: pytest.CaptureFixture[str]
) -> None:
    layout.root.mkdir()
    try:
        code = main(["run", "--root", str(layout.root), "--day", "2999-01-01"])
    except SystemExit as left:
        code = int(left.code or 0)
    captured = capfd.readouterr()
    assert (code, captured.out, captured.err.count("is after today")) == (2, "", 1)
    assert [path.name for path in layout.root.rglob("*")] == ["runs", ".night.lock"]


WAITING = """
import pathlib, sys, time
pathlib.Path(sys.argv[sys.argv.index("--root") + 1], "pid").write_text(str(__import__("os").getpid()))
try:
    time.sleep(120)
except KeyboardInterrupt:
    pathlib.Path(sys.argv[sys.argv.index("--root") + 1], "cleaned").touch()
    raise
"""
STUBBORN = WAITING.replace("except KeyboardInterrupt:", "except KeyboardInterrupt:\n    time.sleep(120)")
NIGHT = """
import sys
from jobs import night
night.NightOptions.command = lambda self, step, shard=None: [sys.executable, sys.argv[1], "--root", self.root]
night._PATIENCE_SECONDS = 1
from jobs.cli import main
sys.exit(main(["run", "--root", sys.argv[2], "--day", "2024-01-30"]))
"""
SCORING = """
import json, sys
from jobs import night
printed = json.loads(sys.argv[3])
waiting = [sys.executable, sys.argv[1], "--root", sys.argv[2]]
night.NightOptions.command = lambda self, step, shard=None: waiting if step == "score" else ["echo", printed[step]]
from jobs.cli import main
sys.exit(main(["run", "--root", sys.argv[2], "--day", "2024-01-30", "--workers", "2"]))
"""
"""A night whose other steps only say what scoring has to know."""


def await_text(path: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


@pytest.mark.parametrize(
    ("is_terminal", "sent", "status"),
    [(True, signal.SIGINT, 130), (False, signal.SIGINT, 130), (False, signal.SIGTERM, 143)],
    ids=["terminal", "kill -INT", "kill"],
)
@pytest.mark.parametrize(("program", "cleans"), [(WAITING, True), (STUBBORN, False)], ids=["ordinary", "stubborn"])
def test_a_stopped_night_ends_its_step_and_says_by_what(
    layout: Layout, tmp_path: Path, program: str, cleans: bool, is_terminal: bool, sent: signal.Signals, status: int
) -> None:
    """A terminal sends Ctrl-C to the night and its steps; ``kill`` reaches the night alone."""
    layout.root.mkdir()
    step = tmp_path / "step.py"
    step.write_text(program)
    with subprocess.Popen(
        [sys.executable, "-c", NIGHT, str(step), str(layout.root)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        pid = int(await_text(layout.root / "pid"))
        if is_terminal:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(sent)
        _, said = process.communicate(timeout=60)
    assert process.returncode == status, said
    assert "Stopped. Run the same command again" in said
    assert "hmamba" not in said
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (layout.root / "cleaned").exists() == cleans


def test_ctrl_c_while_scoring_ends_all_workers(layout: Layout, tmp_path: Path) -> None:
    layout.root.mkdir()
    step = tmp_path / "step.py"
    step.write_text(WAITING.replace('"pid")', '"pid-" + str(__import__("os").getpid()))'))
    with subprocess.Popen(
        [sys.executable, "-c", SCORING, str(step), str(layout.root), json.dumps(printed(9))], start_new_session=True
    ) as process:
        deadline = time.monotonic() + 60
        while len(found := list(layout.root.glob("pid-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert process.returncode == 130
    assert len(found) == len(list(layout.root.glob("pid-*"))) == 2
    for path in found:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name.removeprefix("pid-")), 0)


@contextmanager
def waiting_night(layout: Layout) -> Iterator[subprocess.Popen[str]]:
    """A night whose real ingest waits for a warehouse that somebody else has open."""
    write_landing(layout.root, make_interactions())
    layout.config.write_text(TINY, encoding="utf-8")
    holder = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(layout.warehouse)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as held:
        assert held.stdout is not None
        held.stdout.readline()
        command = [sys.executable, "-m", "jobs.cli", "run", "--root", str(layout.root), "--day", DAY.isoformat()]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
            assert process.stderr is not None
            assert "waiting" in process.stderr.readline()
            yield process
        held.communicate()


def test_a_real_step_ends_without_a_traceback(layout: Layout) -> None:
    with waiting_night(layout) as process:
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in said) == (130, False), said


def test_a_step_does_not_outlive_a_night_that_is_killed(layout: Layout) -> None:
    with waiting_night(layout) as process:
        process.kill()
        process.communicate(timeout=60)  # the step holds the pipe open as long as it lives
    assert process.returncode == -signal.SIGKILL


def test_a_step_that_is_killed_is_recorded(layout: Layout, tmp_path: Path) -> None:
    layout.root.mkdir()
    step = tmp_path / "step.py"
    step.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    done = subprocess.run(
        [sys.executable, "-c", NIGHT, str(step), str(layout.root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 137, done.stderr
    failure = read_json(layout.run(date(2024, 1, 30), "manual").step_failure("ingest"))
    assert (failure["exit_status"], "killed by signal 9" in failure["message"]) == (137, True)
