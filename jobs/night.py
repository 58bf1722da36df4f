"""A whole night without Airflow: every step in order, each in a process of its own that gives its memory back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from typing import Any

from hmamba.errors import HMambaError

REFRESH = ("ingest", "refresh")
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
    """What the steps are told; ``workers``: shards scored at once, None: one a core, or one with a GPU."""

    root: str
    day: date
    config: str | None = None
    run_id: str = "manual"
    full_retrain: bool = False
    workers: int | None = None

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
    """Run the steps, yielding each as it ends, and the shards of ``score`` in order.

    Standard error of the steps is this process's own, so that progress bars reach the terminal.

    Raises:
        StepFailedError: a step left with another status than 0. Nothing after it runs.
    """
    facts: dict[str, dict[str, Any]] = {}
    for step in STEPS:
        if step == "score":
            yield from score_shards(options, range(int(facts["snapshot"]["shards"])), facts["index"]["device"])
            continue
        done = _run(options, step)
        facts[step] = done.facts
        yield done


def run_one(options: NightOptions, step: str) -> StepDone:
    """Run one step.

    Raises:
        StepFailedError: it left with another status than 0.
    """
    return _run(options, step)


def run_refresh(options: NightOptions) -> Iterator[StepDone]:
    """Pull, then replace the candidates of users with new events, yielding each step as it ends.

    Raises:
        StepFailedError: a step left with another status than 0. Nothing after it runs.
    """
    for step in REFRESH:
        yield _run(options, step)


def score_shards(options: NightOptions, shards: Sequence[int], device: str) -> Iterator[StepDone]:
    """Score shards, as many at once as there are cores: much of a worker's time does not divide among threads.

    Each has an equal part of the cores, unless ``OMP_NUM_THREADS`` says otherwise. One GPU's memory is not shared.
    """
    cores = len(os.sched_getaffinity(0))
    workers = options.workers or (1 if device != "cpu" else max(1, min(cores, len(shards))))
    threads = {"OMP_NUM_THREADS": str(max(1, cores // workers))} if workers > 1 else {}
    with ThreadPoolExecutor(workers, thread_name_prefix="score") as pool:
        started = [pool.submit(_run, options, "score", shard, len(shards), threads) for shard in shards]
        try:
            for result in started:
                yield result.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run(
    options: NightOptions,
    step: str,
    shard: int | None = None,
    shards: int = 1,
    environment: dict[str, str] | None = None,
) -> StepDone:
    started = time.monotonic()
    result = subprocess.run(
        options.command(step, shard),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**(environment or {}), **os.environ},
    )
    if result.returncode != 0:
        raise StepFailedError(step, result.returncode)
    facts = json.loads(result.stdout.strip().splitlines()[-1])
    return StepDone(step, shard, shards, time.monotonic() - started, facts)
