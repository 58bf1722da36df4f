"""The operator, on real processes: statuses, metrics, logs, and no step left behind."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.dags.conftest import DAGS

ENDS = """
import json, sys
status = int(sys.argv[sys.argv.index("--config") + 1])
stamp = "2026-11-28 09:00:00,123"
print("an earlier line")
print(stamp, "INFO ends: reading", file=sys.stderr)
print(stamp, "WARNING items.csv: 3 of 90 rows are refused", file=sys.stderr)
print("from a library in C", file=sys.stderr)
if status:
    print(stamp, "ERROR ends: warehouse.duckdb: the reason", file=sys.stderr)
print(json.dumps({"arguments": sys.argv[1:], "summary": "3 things"}))
sys.exit(status)
"""

BREAKS = """
import sys
print("2026-11-28 09:00:00,123 INFO breaks: reading", file=sys.stderr)
def inner():
    raise KeyError("a bug")
inner()
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
from datetime import timedelta
from hmamba_steps import StepOperator
operator = StepOperator(task_id="train", step="sleeps", execution_timeout=timedelta(seconds=float(sys.argv[3])))
signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
command = [sys.executable, "-P", "-m", "jobs.sleeps", "--root", sys.argv[2]]
with timeout(float(sys.argv[3])):
    operator.run(command)
"""


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``jobs`` package of small real programs, in the library's place."""
    package = tmp_path / "path" / "jobs"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from hmamba.processes import end_with_starter\nend_with_starter()\n")
    (package / "ends.py").write_text(ENDS)
    (package / "breaks.py").write_text(BREAKS)
    (package / "sleeps.py").write_text(SLEEPS)
    (package / "silent.py").write_text("print('done')")
    (package / "dies.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}{os.pathsep}{DAGS.parent}")
    return package


def operator(step: str, **kwargs: Any) -> Any:
    from hmamba_steps import StepOperator

    return StepOperator(task_id=f"task-{step}", step=step, **kwargs)


class TaskInstance:
    """Keeps the XComs that a task pushes."""

    map_index = -1

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def rendered(task: Any, conf: dict[str, Any] | None = None, **params: Any) -> Any:
    """The context of a run of ``task``, whose template fields are rendered as Airflow does it."""
    from airflow.sdk import DAG
    from hmamba_steps import COMMON, common_params

    run = SimpleNamespace(
        dag_id="dag",
        run_id="manual",
        run_type="manual",
        logical_date=None,
        run_after=datetime(2024, 3, 1, 9, tzinfo=UTC),
        conf=conf,
    )
    given = {name: param.value for name, param in common_params().items()} | {"root": "/srv/shop"} | params
    given |= conf or {}  # as Airflow does, known or not
    context = {"params": given, "dag_run": run, "run_id": run.run_id, "task": task, "ti": TaskInstance()}
    if not task.has_dag():
        macros = COMMON["user_defined_macros"]
        task.dag = DAG("dag", schedule=None, user_defined_macros=macros, params=common_params())
    task.render_template_fields(context)
    return context


def command_of(task: Any, **params: Any) -> list[str]:
    return task.command(rendered(task, **params)["params"])


def test_metrics_are_the_last_line(steps: Path) -> None:
    step = operator("ends", shards="3", switches={"full_retrain": "--full-retrain"})
    metrics = step.run(command_of(step, day="2017-12-14", config="0", full_retrain=True, any_day=True))
    assert metrics["arguments"] == [
        *("--root", "/srv/shop", "--day", "2017-12-14", "--run-id", "manual", "--config", "0", "--any-day"),
        *("--shard", "3", "--full-retrain"),
    ]
    assert command_of(operator("ends", shards="4-9"))[-2:] == ["--shards", "4-9"]


def test_no_optional_argument_without_need(steps: Path) -> None:
    step = operator("ends", switches={"full_retrain": "--full-retrain"})
    command = command_of(step, day=None, config=None, full_retrain=False)
    assert command[-6:] == ["--root", "/srv/shop", "--day", "2024-02-29", "--run-id", "manual"]


@pytest.mark.parametrize(
    ("status", "final"), [("1", False), ("2", True), ("3", True), ("77", False)], ids=["one", "two", "three", "other"]
)
def test_statuses(steps: Path, status: str, final: bool) -> None:
    from hmamba_outcomes import StepFailed, StepFailedForGood

    step = operator("ends")
    with pytest.raises(StepFailed) as raised:
        step.run(command_of(step, config=status))
    assert re.fullmatch(rf"ends ended with status {status}\..*warehouse\.duckdb: the reason", str(raised.value))
    assert raised.value.code == int(status)
    assert isinstance(raised.value, StepFailedForGood) is final


def test_a_status_that_no_retry_can_change_is_not_retried() -> None:
    from airflow.sdk import RetryAction
    from hmamba_outcomes import StepFailed, StepFailedForGood
    from hmamba_steps import COMMON

    policy = COMMON["default_args"]["retry_policy"]
    assert policy.evaluate(StepFailedForGood(2, "wrong"), 1, 3).action is RetryAction.FAIL
    assert policy.evaluate(StepFailed(1, "busy"), 1, 3).action is RetryAction.DEFAULT


def test_a_step_that_the_kernel_kills_is_tried_again(steps: Path) -> None:
    from hmamba_outcomes import StepFailed, StepFailedForGood

    step = operator("dies")
    with pytest.raises(StepFailed) as raised:
        step.run(command_of(step))
    assert str(raised.value).startswith("dies was ended by SIGKILL")
    assert not isinstance(raised.value, StepFailedForGood)


def test_a_step_without_metrics_is_a_failure(steps: Path) -> None:
    from hmamba_outcomes import StepFailed

    step = operator("silent")
    with pytest.raises(StepFailed) as raised:
        step.run(command_of(step))
    assert "not a JSON object: 'done'" in str(raised.value)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    """Runs a step and returns what it logged: level and message, in order."""

    def run(step: Any, **params: Any) -> list[tuple[str, str]]:
        monkeypatch.setattr(type(step), "log", logging.getLogger("tests.step"))
        caplog.clear()
        with caplog.at_level("INFO", "tests.step"), contextlib.suppress(SystemExit):
            step.run(command_of(step, **params))
        return [(record.levelname, record.getMessage()) for record in caplog.records]

    return run


def test_each_line_keeps_its_level_and_has_the_step_once_and_no_time(steps: Path, logged: Any) -> None:
    lines = logged(operator("ends"), config="0")
    assert lines[0][1].startswith("$ ")
    assert lines[1:] == [
        ("INFO", "ends | reading"),
        ("WARNING", "ends | items.csv: 3 of 90 rows are refused"),
        ("INFO", "ends | from a library in C"),
        ("INFO", "ends | 3 things"),
    ]


@pytest.mark.parametrize("status", ["1", "2", "3"])
def test_the_last_line_of_a_failed_step_is_its_sentence(steps: Path, logged: Any, status: str) -> None:
    assert logged(operator("ends"), config=status)[-1] == ("ERROR", "ends | warehouse.duckdb: the reason")


def test_the_traceback_of_a_bug_is_logged_as_an_error(steps: Path, logged: Any) -> None:
    lines = logged(operator("breaks"))
    assert lines[1] == ("INFO", "breaks | reading")
    assert {level for level, _ in lines[2:]} == {"ERROR"}
    assert lines[-1][1] == "breaks | KeyError: 'a bug'"


@pytest.mark.parametrize(
    ("step", "sentence"),
    [("dies", "dies was ended by SIGKILL. It said: nothing"), ("usage", "wrong arguments")],
    ids=["killed", "without a level"],
)
def test_a_failure_without_a_sentence_gets_one(steps: Path, logged: Any, step: str, sentence: str) -> None:
    (steps / "usage.py").write_text("import sys; print('wrong arguments', file=sys.stderr); sys.exit(2)")
    assert logged(operator(step))[-1] == ("ERROR", sentence)


def test_another_environment_can_hold_the_library(steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "python"
    other.write_text(f'#!/bin/sh\necho "the other one" >&2\nexec {sys.executable} "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("HMAMBA_PYTHON", str(other))
    command = command_of(operator("ends"), config="0")
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
    assert step.run(command_of(step, config="0"))["arguments"] != "wrong"


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
        (signal.SIGTERM, "100", "sleeps was ended by SIGTERM"),
        (signal.SIGKILL, "100", ""),
        (None, "2", "sleeps was stopped after 0:00:02, its execution_timeout"),
    ],
    ids=["killed", "killed-hard", "timed-out"],
)
def test_no_step_outlives_its_task(
    steps: Path, tmp_path: Path, sent: signal.Signals | None, seconds: str, said: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TASK, str(DAGS), str(tmp_path), seconds],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as task:
        step = _await(tmp_path / "pid")
        if sent is not None:
            task.send_signal(sent)
        output, _ = task.communicate(timeout=60)
    assert _gone(step)
    assert said in output
    assert task.returncode != 0


def test_the_task_shows_what_it_runs_on() -> None:
    step = operator("ends", shards="3")
    rendered(step, root="/srv/shop", config="films")
    assert {name: getattr(step, name) for name in step.template_fields} == {
        "root": "/srv/shop",
        "day": "2024-02-29",
        "config": "films",
        "run_folder": "manual",
        "shards": "3",
    }


@pytest.mark.parametrize(
    ("conf", "root", "said"),
    [
        ({"dya": "2024-01-01"}, "", "Did you mean 'day'"),
        ({}, "/nowhere/shop", "/nowhere/shop does not exist on this worker"),
        ({}, None, "HMAMBA_ROOT"),
    ],
    ids=["mistyped key", "no such root", "no root"],
)
def test_a_wrong_run_is_refused_before_anything_is_made(
    tmp_path: Path, conf: dict[str, Any], root: str | None, said: str
) -> None:
    from hmamba_outcomes import StepFailedForGood

    step = operator("ends")
    context = rendered(step, conf, root=str(tmp_path) if root == "" else root)
    with pytest.raises(StepFailedForGood) as raised:
        step.execute(context)
    assert said in str(raised.value)
    assert context["ti"].pushed == {"failure": str(raised.value)}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("python", "mode", "said"),
    [
        ("/nowhere/python", 0o700, "/nowhere/python: No such file or directory. Correct the path"),
        ("", 0o000, "shop: Permission denied. Correct the path or its permissions"),
    ],
    ids=["no interpreter", "an unreadable root"],
)
def test_an_error_of_the_operating_system_is_a_sentence(
    steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, mode: int, said: str
) -> None:
    from hmamba_outcomes import StepFailedForGood

    root = tmp_path / "shop"
    (root / "landing").mkdir(parents=True)
    monkeypatch.setenv("HMAMBA_PYTHON", python)
    if mode == 0 and os.geteuid() == 0:
        monkeypatch.setattr(Path, "iterdir", denied)  # root may read everything
    root.chmod(mode)
    step = operator("ends", takes_turns=False)
    context = rendered(step, root=str(root), config="0")
    with pytest.raises(StepFailedForGood):
        step.execute(context)
    root.chmod(0o700)
    assert said in context["ti"].pushed["failure"]


def denied(path: Path) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
