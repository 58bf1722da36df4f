"""What a step does about the process that started it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from hmamba.processes import PARENT

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
    assert f"process {starter.pid}, which started this step, has ended" in done.stderr
