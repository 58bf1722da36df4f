"""A whole night without Airflow: every step in order, each in a process of its own that gives its memory back."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from hmamba.errors import HMambaError

STEPS = ("ingest", "snapshot", "train", "gate", "index", "score", "publish", "report")


class StepFailedError(HMambaError):
    """A step ended the night. ``exit_code`` is the step's own, or 128 plus the signal that killed it."""

    def __init__(self, step: str, status: int) -> None:
        self.exit_code = status if status > 0 else 128 - status
        how = f"ended with exit status {status}" if status > 0 else f"was killed by signal {-status}"
        hint = " Signal 9 usually means that memory ran out." if status == -9 else ""
        super().__init__(f"{step} {how}; its own message is above. Steps after it have not run.{hint}")


@dataclass(frozen=True)
class StepDone:
    """A step that ran: its shard if it is one of many, wall time with start-up (seconds), and its facts."""

    name: str
    shard: int | None
    shards: int
    seconds: float
    facts: dict[str, Any]


@dataclass(frozen=True)
class NightOptions:
    """What the steps are told."""

    root: str
    day: date
    config: str | None = None
    run_id: str = "manual"
    full_retrain: bool = False

    def command(self, step: str, shard: int | None = None) -> list[str]:
        """The command line of one step."""
        command = [sys.executable, "-m", f"jobs.{step}", "--root", self.root, "--day", self.day.isoformat()]
        command += ["--run-id", self.run_id]
        if self.config is not None:
            command += ["--config", self.config]
        if step == "train" and self.full_retrain:
            command += ["--full-retrain"]
        if shard is not None:
            command += ["--shard", str(shard)]
        return command


def run_night(options: NightOptions) -> Iterator[StepDone]:
    """Run the steps, yielding each as it ends.

    Standard error of the steps is this process's own, so that progress bars reach the terminal.

    Raises:
        StepFailedError: a step left with another status than 0. Nothing after it runs.
    """
    shards = 1
    for step in STEPS:
        for shard in range(shards) if step == "score" else [None]:
            done = _run(options, step, shard, shards if step == "score" else 1)
            yield done
        if step == "snapshot":
            shards = int(done.facts["shards"])


def _run(options: NightOptions, step: str, shard: int | None, shards: int) -> StepDone:
    started = time.monotonic()
    result = subprocess.run(options.command(step, shard), stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        raise StepFailedError(step, result.returncode)
    facts = json.loads(result.stdout.strip().splitlines()[-1])
    return StepDone(step, shard, shards, time.monotonic() - started, facts)
