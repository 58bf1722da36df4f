"""Run a whole night without Airflow: every step in order, each in its own process, which frees its memory."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from types import FrameType

from hmamba.contracts.step import StepMetrics
from hmamba.contracts.steps import KEPT_METRICS, IndexMetrics, SnapshotMetrics
from hmamba.errors import HMambaError
from hmamba.processes import PARENT
from hmamba.steps import NIGHT, REFRESH
from hmamba.storage.layout import Layout
from hmamba.storage.locks import WAIT_SECONDS
from hmamba.storage.root_locks import nights
from hmamba.storage.run_layout import RunLayout
from jobs.step import record_failure

log = logging.getLogger("hmamba")

_GRACE_SECONDS, _PATIENCE_SECONDS = 2, 10
_ENDS = (signal.SIGTERM, signal.SIGHUP)
_TURN_SECONDS = WAIT_SECONDS
"""Maximum wait for another night of the root to end."""


class StepFailedError(HMambaError):
    """A step ended the night. ``exit_code`` is the step's own, or 128 plus the signal that killed it."""

    def __init__(self, step: str, status: int) -> None:
        self.exit_code = status if status > 0 else 128 - status
        how = f"ended with exit status {status}; its own message is above"
        if status < 0:
            how = f"was killed by signal {-status}"
        hint = " Signal 9 usually means that memory ran out." if status == -9 else ""
        super().__init__(f"{step} {how}. Later steps did not run.{hint}")


@dataclass(frozen=True)
class StepDone:
    """A finished step: shard (None if not mapped), wall time in seconds including start-up, and metrics."""

    name: str
    shard: int | None
    shards: int
    seconds: float
    metrics: StepMetrics


@dataclass(frozen=True)
class NightOptions:
    """Arguments of the steps.

    ``workers``: shards scored at once; None: one per core, or one with a GPU. ``any_day``: accept a day after today, or
    long after the newest event.
    """

    root: str
    day: date
    config: str | None = None
    run_id: str = "manual"
    full_retrain: bool = False
    workers: int | None = None
    any_day: bool = False

    @property
    def run(self) -> RunLayout:
        """Working folder of the night."""
        return Layout.at(self.root).run(self.day, self.run_id)

    def command(self, step: str, shard: int | None = None) -> list[str]:
        """The command line of one step."""
        command = [sys.executable, "-m", f"jobs.{step}", "--root", self.root, "--day", self.day.isoformat()]
        command += ["--run-id", self.run_id]
        if self.config is not None:
            command += ["--config", self.config]
        if self.any_day:
            command += ["--any-day"]
        if step == "train" and self.full_retrain:
            command += ["--full-retrain"]
        if shard is not None:
            command += ["--shard", str(shard)]
        return command


def run_night(options: NightOptions) -> Iterator[StepDone]:
    """Run the steps, yielding each as it ends, and the shards of ``score`` in order.

    The steps inherit standard error, so that progress bars reach the terminal. If this process is interrupted or
    terminated, so are the running steps. Nights of one root take turns, because each judges and replaces the champion
    of the one before.

    Raises:
        BusyError: another night of this root is still running after five minutes.
        InputError: the root does not exist.
        StepFailedError: a step exited with a non-zero status. Only the report runs after it.
    """
    layout = Layout.existing(options.root)
    with nights(layout, _TURN_SECONDS), _Steps(options).running() as steps:
        try:
            yield from _night(steps)
        except StepFailedError:
            yield from _failed_night(steps)
            raise


def _night(steps: _Steps) -> Iterator[StepDone]:
    shards, device = range(0), "cpu"
    for step in NIGHT:
        if step == "score":
            yield from _score(steps, shards, device)
            continue
        done = steps.run(step)
        if isinstance(done.metrics, SnapshotMetrics):
            shards = range(done.metrics.shards)
        elif isinstance(done.metrics, IndexMetrics):
            device = done.metrics.device
        yield done


def _failed_night(steps: _Steps) -> Iterator[StepDone]:
    """Write the report of a failed night. A failure of the report must not hide the first one."""
    if not steps.options.run.failed:
        return  # the step was refused before it began: there is nothing to report
    try:
        yield steps.run("report")
    except StepFailedError as error:
        log.warning("%s", error)


def run_one(options: NightOptions, step: str) -> StepDone:
    """Run one step.

    Raises:
        StepFailedError: the step exited with a non-zero status.
    """
    with _Steps(options).running() as steps:
        return steps.run(step)


def run_refresh(options: NightOptions) -> Iterator[StepDone]:
    """Pull, then replace the candidates of users with new events, yielding each step as it ends.

    Raises:
        StepFailedError: a step exited with a non-zero status. Later steps do not run.
    """
    with _Steps(options).running() as steps:
        for step in REFRESH:
            yield steps.run(step)


def _score(steps: _Steps, shards: Sequence[int], device: str) -> Iterator[StepDone]:
    """Score shards in parallel, one per core, because much of a worker's time is single-threaded.

    Each worker has an equal part of the cores, unless ``OMP_NUM_THREADS`` is set. With a GPU, whose memory workers do
    not share, one shard runs at a time.
    """
    cores = len(os.sched_getaffinity(0))
    workers = steps.options.workers or (1 if device != "cpu" else max(1, min(cores, len(shards))))
    threads = {"OMP_NUM_THREADS": str(max(1, cores // workers))} if workers > 1 else {}
    with ThreadPoolExecutor(workers, thread_name_prefix="score") as pool:
        started = [pool.submit(steps.run, "score", shard, len(shards), threads) for shard in shards]
        try:
            for result in started:
                yield result.result()
        except StepFailedError:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            steps.stop()
            raise


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


class _Steps:
    """Runs steps as processes, several at once if needed, and ends all of them."""

    def __init__(self, options: NightOptions) -> None:
        self.options = options
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    @contextmanager
    def running(self) -> Iterator[_Steps]:
        """End every step when the block ends, also when SIGTERM or SIGHUP ends it (with status 143 or 129)."""
        before = {}
        if threading.current_thread() is threading.main_thread():  # no other thread may set a handler
            ends = [number for number in _ENDS if signal.getsignal(number) is not signal.SIG_IGN]  # as nohup does
            before = {number: signal.signal(number, _exit) for number in ends}
        try:
            yield self
        finally:
            self.stop()
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(
        self, step: str, shard: int | None = None, shards: int = 1, environment: dict[str, str] | None = None
    ) -> StepDone:
        """Run one step and wait for it.

        Raises:
            StepFailedError: the step exited with a non-zero status.
        """
        started = time.monotonic()
        command = self.options.command(step, shard)
        variables = {**(environment or {}), **os.environ, PARENT: str(os.getpid())}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as process:
            self._running.add(process)
            if self._stopped:
                process.send_signal(signal.SIGINT)
            try:
                output, _ = process.communicate()
            except BaseException:
                self._end(process)
                raise
            finally:
                self._running.discard(process)
        seconds = time.monotonic() - started
        if process.returncode != 0:
            failed = StepFailedError(step, process.returncode)
            if process.returncode < 0 and not self._stopped:
                # A killed step cannot record its own failure.
                record_failure(self.options.run, step, shard, str(failed), failed.exit_code, seconds)
            raise failed
        printed = json.loads(output.strip().splitlines()[-1])
        return StepDone(step, shard, shards, seconds, KEPT_METRICS[step].parse(printed, f"the last line of {step}"))

    def stop(self) -> None:
        """End the steps that still run."""
        self._stopped = True
        for process in tuple(self._running):
            self._end(process)

    def _end(self, process: subprocess.Popen[str]) -> None:
        """Wait for a process, which may have received Ctrl-C from the terminal; else interrupt, then kill it."""
        for patience, sent in ((_GRACE_SECONDS, signal.SIGINT), (_PATIENCE_SECONDS, signal.SIGKILL)):
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.send_signal(sent)
        process.wait()
