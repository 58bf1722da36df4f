"""The operator, on real processes: statuses, metrics, logs, and no step left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hmamba.storage.layout import Layout
from tests.dags.conftest import DAGS

ENDS = """
import json, sys
print("an earlier line")
print("reading", file=sys.stderr)
print("warehouse.duckdb: the reason", file=sys.stderr)
print(json.dumps({"arguments": sys.argv[1:]}))
sys.exit(int(sys.argv[sys.argv.index("--config") + 1]))
"""

SLEEPS = """
import os, pathlib, sys, time
pathlib.Path(sys.argv[sys.argv.index("--root") + 1], "pid").write_text(str(os.getpid()))
time.sleep(120)
"""

TASK = """
import signal, sys
sys.path.append(sys.argv[1])
from airflow.sdk.execution_time.timeout import timeout
from airflow.sdk.exceptions import AirflowException, AirflowTaskTimeout
from hmamba_steps import StepOperator
operator = StepOperator(task_id="train", step="sleeps")
signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
command = [sys.executable, "-P", "-m", "jobs.sleeps", "--root", sys.argv[2]]
try:
    with timeout(float(sys.argv[3])):
        operator.run(command)
except (AirflowException, AirflowTaskTimeout) as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``jobs`` package of small real programs, in the library's place."""
    package = tmp_path / "path" / "jobs"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from hmamba.processes import end_with_starter\nend_with_starter()\n")
    (package / "ends.py").write_text(ENDS)
    (package / "sleeps.py").write_text(SLEEPS)
    (package / "silent.py").write_text("print('done')")
    (package / "dies.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}{os.pathsep}{DAGS.parent}")
    return package


def operator(step: str, **kwargs: Any) -> Any:
    from hmamba_steps import StepOperator

    return StepOperator(task_id=f"task-{step}", step=step, **kwargs)


def context(run_id: str = "manual", interval_end: datetime | None = None, **params: Any) -> Any:
    run = SimpleNamespace(run_id=run_id, data_interval_end=interval_end, run_after=datetime(2024, 3, 1, 9, tzinfo=UTC))
    return {"params": {"root": "/srv/shop", **params}, "dag_run": run}


def test_facts_are_the_last_line(steps: Path) -> None:
    step = operator("ends", shards="3", switches={"full_retrain": "--full-retrain"})
    metrics = step.run(step.command(context(day="2017-12-14", config="0", full_retrain=True, any_day=True)))
    assert metrics["arguments"] == [
        *("--root", "/srv/shop", "--day", "2017-12-14", "--run-id", "manual", "--config", "0", "--any-day"),
        *("--shard", "3", "--full-retrain"),
    ]
    assert operator("ends", shards="4-9").command(context())[-2:] == ["--shards", "4-9"]


def test_no_optional_argument_without_need(steps: Path) -> None:
    command = operator("ends", switches={"full_retrain": "--full-retrain"}).command(
        context(day=None, config=None, full_retrain=False)
    )
    assert command[-6:] == ["--root", "/srv/shop", "--day", "2024-02-29", "--run-id", "manual"]


@pytest.mark.parametrize(
    ("status", "final"), [("1", False), ("2", True), ("3", True), ("77", False)], ids=["one", "two", "three", "other"]
)
def test_statuses(steps: Path, status: str, final: bool) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    step = operator("ends")
    with pytest.raises(AirflowException, match=rf"ends ended with status {status}\b.*duckdb: the reason") as raised:
        step.run(step.command(context(config=status)))
    assert isinstance(raised.value, AirflowFailException) is final


def test_a_step_that_the_kernel_kills_is_tried_again(steps: Path) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    step = operator("dies")
    with pytest.raises(AirflowException, match="dies was ended by SIGKILL") as raised:
        step.run(step.command(context()))
    assert not isinstance(raised.value, AirflowFailException)


def test_a_step_without_facts_is_a_failure(steps: Path) -> None:
    from airflow.sdk.exceptions import AirflowException

    step = operator("silent")
    with pytest.raises(AirflowException, match="not a JSON object: 'done'"):
        step.run(step.command(context()))


def test_what_the_step_says_reaches_the_log(steps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = operator("ends")
    step.run(step.command(context(config="0")))
    logged = "".join(capsys.readouterr())
    assert "ends | reading" in logged
    assert "ends | warehouse.duckdb: the reason" in logged
    assert "-m jobs.ends --root /srv/shop" in logged


def test_another_environment_can_hold_the_library(steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\necho "the other one" >&2\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("HMAMBA_PYTHON", str(other))
    command = operator("ends").command(context(config="0"))
    assert command[0] == str(other)
    assert operator("ends").run(command)["arguments"][0] == "--root"


def test_a_jobs_folder_where_the_worker_stands_is_not_taken(
    steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    intruder = tmp_path / "somewhere" / "jobs"
    intruder.mkdir(parents=True)
    (intruder / "__init__.py").write_text("")
    (intruder / "ends.py").write_text('print(\'{"arguments": "wrong"}\')')
    monkeypatch.chdir(intruder.parent)
    step = operator("ends")
    assert step.run(step.command(context(config="0")))["arguments"] != "wrong"


def test_no_root_is_said_and_not_tried_again() -> None:
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match=r"'root'.*HMAMBA_ROOT"):
        operator("ends").command(context(root=None))


@pytest.mark.parametrize(
    ("chosen", "interval_end", "days_back", "expected"),
    [
        ("2017-12-14", datetime(2024, 5, 2, 2, tzinfo=UTC), 1, date(2017, 12, 14)),
        (None, datetime(2024, 5, 2, 2, tzinfo=UTC), 1, date(2024, 5, 1)),
        (None, datetime(2024, 5, 2, 2, tzinfo=UTC), 0, date(2024, 5, 2)),
        (None, None, 1, date(2024, 2, 29)),
        (None, datetime(2024, 5, 2, 1, tzinfo=timezone(timedelta(hours=5))), 0, date(2024, 5, 1)),
    ],
    ids=["given", "nightly", "hourly", "by-hand", "not-utc"],
)
def test_the_day_of_a_run(chosen: str | None, interval_end: datetime | None, days_back: int, expected: date) -> None:
    from hmamba_steps import day_to_process

    run_after = datetime(2024, 3, 1, 9, tzinfo=UTC)
    assert day_to_process(chosen, interval_end, run_after, days_back) == expected


RUN_IDS = [
    "manual",
    "manual__2026-11-23T18:29:39.092730+00:00",
    "manual__2026-11-23T18-29-39.092730+00:00",
    "scheduled__2017-12-15T02:00:00+00:00",
    "../../etc/passwd",
    "..",
    "",
    "a run with spaces, émoji 🛒 and\nlines",
    "x" * 128,
    "x" * 129,
    "x" * 250,
    "x" * 249 + "y",
]


def test_run_ids_become_folders(tmp_path: Path) -> None:
    from hmamba_steps import folder_name

    names = [folder_name(run_id) for run_id in RUN_IDS]
    assert names == [folder_name(run_id) for run_id in RUN_IDS]
    assert len(set(names)) == len(RUN_IDS)
    for name in names:
        folder = Layout.at(tmp_path).run(date(2024, 1, 1), name).folder
        assert folder.parent == tmp_path.resolve() / "runs" / "2024-01-01"
    assert names[0] == "manual"
    assert re.fullmatch(r"scheduled__2017-12-15T02-00-00\+00-00-[0-9a-f]{8}", names[3])


def _await(path: Path) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return False


@pytest.mark.parametrize(
    ("sent", "seconds", "said"),
    [
        (signal.SIGTERM, "100", "AirflowException: sleeps was ended by SIGTERM"),
        (signal.SIGKILL, "100", ""),
        (None, "2", "AirflowTaskTimeout"),
    ],
    ids=["killed", "killed-hard", "timed-out"],
)
def test_no_step_outlives_its_task(
    steps: Path, tmp_path: Path, sent: signal.Signals | None, seconds: str, said: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TASK, str(DAGS), str(tmp_path), seconds],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as task:
        step = _await(tmp_path / "pid")
        if sent is not None:
            task.send_signal(sent)
        _, stderr = task.communicate(timeout=60)
    assert _gone(step)
    assert said in stderr
    assert task.returncode != 0
