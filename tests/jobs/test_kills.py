"""A night that is ended, in any way, takes its step and all processes of the step along."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from hmamba.storage.layout import Layout
from hmamba.storage.run_layout import CHECKPOINT
from jobs import snapshot
from tests.documents import printed
from tests.landing import DAY, Root

ALL = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL)


def heeding_hangups() -> None:
    """Heed SIGHUP in a child, also where the tests run under nohup, which children inherit."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


NIGHT = """
import json, sys
from jobs import night
printed = json.loads(sys.argv[2])
sleeps = [sys.executable, "-c", "import jobs, time; time.sleep(600)"]
night.NightOptions.command = lambda self, step, shard=None: ["echo", printed[step]] if step in printed else sleeps
list(night.run_night(night.NightOptions(sys.argv[1], night.date(2024, 1, 30), workers=2)))
"""
"""A night of two shards, in which every step that has no given output is a process that sleeps."""

TRAIN = """
import sys
from jobs import night
night.run_one(night.NightOptions(sys.argv[1], night.date(2024, 1, 30)), "train")
"""

SETTINGS = """
[snapshot]
shards = 2
[model]
dim = 16
d_state = 8
head_dim = 16
[train]
epochs = 100000
patience = 100000
tokens = 256
min_item_events = 1
processes = 2
device = "cpu"
"""


def children(pid: int) -> set[int]:
    """Process ids of all descendants of a process."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, _, rest = stat.read_text().rpartition(") ")
            state, parent = rest.split()[:2]
            if state != "Z":
                parents[int(stat.parent.name)] = int(parent)
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def alive(pids: set[int]) -> set[int]:
    """Those of the processes that have not ended. One that is a zombie of somebody else has ended."""
    found = set()
    for pid in pids:
        with suppress(OSError):
            if (Path("/proc") / str(pid) / "stat").read_text().rpartition(") ")[2][0] not in "ZX":
                found.add(pid)
    return found


def await_that(what: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def ends_all(program: str, arguments: list[str], ready: Callable[[int], bool], sent: signal.Signals) -> int:
    """Start a program, end it once it is ready, and see that nothing of it is left; returns its exit status."""
    command = [sys.executable, "-c", program, *arguments]
    with subprocess.Popen(
        command, preexec_fn=heeding_hangups, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            await_that(lambda: ready(process.pid))
            started = children(process.pid)
            process.send_signal(sent)
            process.wait(60)
            await_that(lambda: not alive(started), 30)
        finally:
            for pid in children(process.pid) | {process.pid}:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    return process.returncode


@pytest.mark.parametrize("sent", ALL, ids=lambda sent: sent.name)
@pytest.mark.parametrize("step", ["ingest", "score"])
def test_a_step_and_all_workers_of_score_end_with_the_night(layout: Layout, step: str, sent: signal.Signals) -> None:
    layout.root.mkdir()
    given = printed(shards=2)
    told = {name: given[name] for name in given if step == "score" and name != "score"}
    expected = 2 if step == "score" else 1
    status = ends_all(NIGHT, [str(layout.root), json.dumps(told)], lambda pid: len(children(pid)) == expected, sent)
    assert status == {signal.SIGTERM: 143, signal.SIGHUP: 129}.get(sent, -sent)


def test_a_night_under_nohup_goes_on(layout: Layout) -> None:
    layout.root.mkdir()
    ignoring = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{NIGHT}"
    command = [sys.executable, "-c", ignoring, str(layout.root), "{}"]
    with subprocess.Popen(command, preexec_fn=heeding_hangups, stderr=subprocess.DEVNULL) as process:
        await_that(lambda: children(process.pid))
        step = children(process.pid)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert alive({process.pid, *step}) == {process.pid, *step}
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 143
    assert alive(step) == set()


@pytest.fixture
def training(loaded: Root) -> Layout:
    """A root whose next step is a training of two processes without end."""
    loaded.configure(SETTINGS)
    assert snapshot.main(["--root", str(loaded.layout.root), "--day", DAY.isoformat()]) == 0
    return loaded.layout


def trains(layout: Layout, pid: int, moment: str = "training") -> bool:
    """Whether a process has started both processes of the training, and they have trained an epoch if that is asked."""
    state = layout.run(DAY, "manual").training / CHECKPOINT
    return len(children(pid)) >= 2 and (moment == "started" or state.exists())


@pytest.mark.parametrize(
    ("moment", "sent"),
    [("started", signal.SIGKILL), ("training", signal.SIGKILL), ("training", signal.SIGTERM)],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_processes_of_a_training_end_with_the_night(training: Layout, moment: str, sent: signal.Signals) -> None:
    """torchrun starts two more processes; those that have only started have not joined the others yet."""

    def ready(pid: int) -> bool:
        return len(children(pid)) >= 3 and trains(training, pid, moment)

    ends_all(TRAIN, [str(training.root)], ready, sent)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT], ids=lambda sent: sent.name)
def test_a_training_of_several_processes_ends_by_its_signal(training: Layout, sent: signal.Signals) -> None:
    command = [sys.executable, "-m", "jobs.train", "--root", str(training.root), "--day", DAY.isoformat()]
    with subprocess.Popen(
        command, preexec_fn=heeding_hangups, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        await_that(lambda: trains(training, process.pid))
        started = children(process.pid)
        process.send_signal(sent)
        _, said = process.communicate(timeout=60)
    assert process.returncode == -sent
    assert "SignalException" not in said
    assert not alive(started)
