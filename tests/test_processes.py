"""What a step does about the process that started it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from hmamba.processes import PARENT, is_running, own_name

SAYS = f"import os, jobs; print('began', os.environ.get({PARENT!r}))"


def run(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run([sys.executable, "-c", SAYS], capture_output=True, text=True, check=False, env=variables)


def test_a_step_begins_where_its_starter_lives_and_does_not_hand_it_on() -> None:
    assert run({PARENT: str(os.getpid())}).stdout == run({}).stdout == "began None\n"


def test_a_step_whose_starter_has_ended_does_not_begin() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as starter:
        pass
    done = run({PARENT: str(starter.pid)})
    assert (done.stdout, done.returncode) == ("", 1)
    assert f"{PARENT} = {starter.pid}: this process, which started the step, has ended" in done.stderr


def test_a_starter_that_nobody_has_waited_for_has_ended() -> None:
    """As for a moment after a kill: a step that took it for running would outlive its night."""
    starter = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    try:
        assert starter.stdout is not None
        starter.stdout.read()
        os.waitid(os.P_PID, starter.pid, os.WEXITED | os.WNOWAIT)
        assert not is_running(starter.pid)
        assert run({PARENT: str(starter.pid)}).returncode == 1
    finally:
        starter.wait()
    assert is_running(os.getpid())


@pytest.mark.parametrize("value", ["", "0", "-1", "none", "1", "9" * 30])
def test_a_value_that_does_not_name_the_starter_has_no_effect(value: str) -> None:
    assert run({PARENT: value}).stdout == "began None\n"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["/a/jobs/publish.py", "--root", "shop"], "publish"),
        (["/bin/hmamba", "--verbose", "rollback", "--root", "shop"], "hmamba rollback"),
        (["/bin/hmamba"], "hmamba"),
        (["-c"], "-c"),
        ([""], "python"),
        ([], "python"),
    ],
)
def test_a_process_is_named_by_its_program(arguments: list[str], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    assert own_name() == name
