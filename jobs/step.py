"""Shared code of all steps: arguments, logging, exit status, metrics."""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import date
from types import TracebackType
from typing import TypeVar

from hmamba import clock
from hmamba.config import Config, load
from hmamba.contracts.step import StepFailure, StepMetrics
from hmamba.errors import explained
from hmamba.storage.layout import Layout
from hmamba.storage.run_layout import RunLayout
from hmamba.text import escaped, for_log, log_handler

log = logging.getLogger("hmamba")

_M = TypeVar("_M", bound=StepMetrics)


@dataclass(frozen=True)
class StepContext:
    """Arguments of a step: its name, the root, the day, the run and the settings."""

    layout: Layout
    day: date
    run_id: str
    config: Config
    options: argparse.Namespace
    step: str

    @property
    def run(self) -> RunLayout:
        """Working folder of this run."""
        return self.layout.run(self.day, self.run_id)

    def alone(self, *, shared: bool) -> AbstractContextManager[None]:
        """Lock the run during a block: another step of it, or another try of this one, waits.

        Raises:
            BusyError: the run is still locked after ``warehouse.wait_seconds``.
        """
        run = self.run
        return run.storage.lock(run.folder, wait_seconds=self.config.warehouse.wait_seconds, shared=shared)

    def record(self, metrics: _M, started: float, shard: int | None = None) -> _M:
        """Write the metrics of the step, or of one shard, with wall time and peak memory, and return them.

        The record of an earlier failure is removed.

        Args:
            metrics: metrics of the step.
            started: ``time.monotonic()`` at the start.
            shard: the shard; None for a whole step.
        """
        cost = {
            "seconds": round(time.monotonic() - started, 3),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        whole, run = metrics.model_copy(update=cost), self.run
        whole.write(run.step_metrics(self.step, shard), run.storage)
        run.storage.delete(run.step_failure(self.step, shard))
        return whole


def record_failure(run: RunLayout, step: str, shard: int | None, message: str, status: int, seconds: float) -> None:
    """Record a step's failure for the report. Write errors are ignored, because the step has failed in any case."""
    told = for_log(message)
    failure = StepFailure(step=step, shard=shard, message=told, exit_status=status, seconds=round(seconds, 3))
    with suppress(OSError, MemoryError):
        failure.write(run.step_failure(step, shard), run.storage)


def day_argument(text: str) -> date:
    """Parse a day on the command line, for argparse."""
    try:
        return clock.day_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Build a parser with the arguments that all steps share."""
    result = argparse.ArgumentParser(prog=f"python -m jobs.{name}", description=description)
    root = os.environ.get("HMAMBA_ROOT") or None
    result.add_argument(
        "--root",
        required=root is None,
        default=root,
        help="folder of the recommender, e.g. ./demo (default: HMAMBA_ROOT)",
    )
    result.add_argument("--day", required=True, type=day_argument, help="the day to process, UTC, e.g. 2017-12-14")
    result.add_argument("--config", help="a .toml file or a named configuration (default: ROOT/hmamba.toml)")
    result.add_argument("--run-id", default="manual", help="names the run's working folder (default: manual)")
    result.add_argument(
        "--any-day", action="store_true", help="accept a day after today, or long after the newest event"
    )
    result.add_argument("--verbose", action="store_true", help="log more")
    return result


def _enter(name: str, given: argparse.Namespace) -> StepContext:
    """Check the arguments of a step. Writes nothing.

    Raises:
        ConfigError: the root is a URI, the run id cannot be a folder's name, or a setting is wrong.
        InputError: the root does not exist, or the day is in the future.
    """
    layout = Layout.existing(given.root)
    layout.run(given.day, given.run_id)
    config = load(given.config, layout)
    if given.day > clock.now().date() and not given.any_day:
        from hmamba.warehouse.days import check_against_clock  # imports DuckDB, which most steps do not need

        check_against_clock(layout, config, given.day)
    return StepContext(layout, given.day, given.run_id, config, given, name)


def run_step(
    name: str,
    description: str,
    body: Callable[[StepContext], StepMetrics],
    arguments: list[str] | None,
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
    *,
    records: bool = True,
    shared: bool = False,
    locks: bool = True,
    parts: Callable[[argparse.Namespace], Sequence[int] | None] = lambda _: None,
    turn: Callable[[StepContext], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> int:
    """Parse arguments, run ``body``, record and print its metrics.

    Standard output is one JSON line, the metrics and a ``summary`` in words. Everything else goes to standard error,
    with time and level before each message; the DAGs read the level. The metrics are stored under the run's
    ``metrics/`` with the step's wall time (seconds) and peak resident memory (bytes), a failure under ``failures/``.

    Args:
        name: name of the step.
        description: for ``--help``.
        body: does the work and returns its metrics.
        arguments: command-line arguments; those of the process if None.
        add_options: adds the step's own options.
        records: whether this process locks the run, and records and prints the metrics; one of the processes of a step
            does.
        shared: whether other processes of this step may work on the run at the same time.
        locks: whether the step locks the run; not if it only records its metrics there.
        parts: returns the shards of ``body`` if it records metrics per shard itself.
        turn: a lock that comes before that of the run, see :mod:`hmamba.storage.root_locks`.

    Returns:
        The exit status: 0, or the ``exit_code`` of the :class:`HMambaError` that ended the step (a retry cannot
        help after 2 or 3).
    """
    options = parser(name, description)
    if add_options is not None:
        add_options(options)
    given = options.parse_args(arguments)
    _log_to_stderr(given.verbose)
    started = time.monotonic()
    context = None
    shards = parts(given)
    try:
        context = _enter(name, given)
        if not records:
            body(context)
            return 0
        with turn(context), context.alone(shared=shared) if locks else nullcontext():
            metrics = body(context)
            if shards is None:
                metrics = context.record(metrics, started)
    except Exception as error:
        known = explained(error, f"a file under {given.root}")
        message = str(known) if known else f"{type(error).__name__}: {error}"
        if context is not None:
            first = None if shards is None else shards[0]
            seconds = time.monotonic() - started
            record_failure(context.run, name, first, message, known.exit_code if known else 1, seconds)
        if known is None:
            raise
        log.error("%s: %s", name, known)
        log.debug("%s", name, exc_info=error)
        return known.exit_code
    print(json.dumps({**json.loads(metrics.model_dump_json()), "summary": metrics.in_a_line}), flush=True)
    return 0


def _log_to_stderr(verbose: bool) -> None:
    logging.basicConfig(handlers=[log_handler()], level=logging.DEBUG if verbose else logging.INFO)
    logging.captureWarnings(True)
    for noisy in ("matplotlib", "great_expectations", "py.warnings", "faiss"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    sys.excepthook = _without_interrupts


def _without_interrupts(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print no traceback for Ctrl-C. Python then ends by SIGINT, so the exit status is that of an interrupt."""
    if not issubclass(kind, KeyboardInterrupt):
        lines = "".join(traceback.format_exception(kind, error, trace)).rstrip("\n").split("\n")
        print("\n".join(map(escaped, lines)), file=sys.stderr)
