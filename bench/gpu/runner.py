"""Runs every part in a process of its own, within its time, and keeps what each has found."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.gpu.parts import STACK_SIGNAL, Part
from bench.gpu.record import Entry

ROOT = Path(__file__).parents[2]
UNFINISHED = "not finished in time"
_TAIL = 15
_LEAST_SECONDS = 5.0  # under this a process would not even have imported PyTorch


@dataclass(frozen=True)
class Result:
    """What became of a part.

    Attributes:
        part: which.
        status: ``passed``, ``FAILED``, ``could not run`` or ``not finished in time``.
        entries: its findings.
        seconds: how long it took.
        trouble: the end of what it wrote to standard error, if it crashed or was stopped.
    """

    part: Part
    status: str
    entries: list[Entry]
    seconds: float
    trouble: str = ""


class Running:
    """A part that has been started.

    Args:
        part: which.
        folder: the working folder, with the histories.
        options: further options for its process.
        seconds: after which it is stopped.
    """

    def __init__(self, part: Part, folder: Path, options: list[str], seconds: float) -> None:
        self.part, self.folder = part, folder
        self.started = time.monotonic()
        self.deadline = self.started + seconds
        self._errors = folder / f"{part.name}.err"
        command = [sys.executable, "-m", "bench.gpu", "--part", part.name, "--folder", str(folder), *options]
        # Waiting threads sleep: parts that run side by side must not slow one another down.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **os.environ}
        with self._errors.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stderr=errors, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def result(self) -> Result | None:
        """What it found, once it has ended or its time is over; None while it runs."""
        late = self.process.poll() is None
        if late and time.monotonic() < self.deadline:
            return None
        if late:
            self.stop()
        findings = self.folder / f"{self.part.name}.json"
        entries: list[Entry] = json.loads(findings.read_text(encoding="utf-8")) if findings.exists() else []
        status = status_of(entries, self.process.returncode, late=late)
        troubled = late or self.process.returncode != 0
        lines = self._errors.read_text(encoding="utf-8", errors="replace").splitlines() if troubled else []
        return Result(self.part, status, entries, time.monotonic() - self.started, "\n".join(lines[-_TAIL:]))

    def stop(self) -> None:
        """End it with all that it started, after it has written where it stands."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, STACK_SIGNAL)
            time.sleep(0.5)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def status_of(entries: list[Entry], code: int | None, *, late: bool) -> str:
    """One status for a part's findings and its exit."""
    if any(entry["kind"] == "check" and not entry["passed"] for entry in entries):
        return "FAILED"
    if late:
        return UNFINISHED
    if code != 0:
        return "FAILED"
    if entries and all(entry["kind"] == "skip" for entry in entries):
        return "could not run"
    return "passed"


def run_parts(parts: Sequence[Part], folder: Path, options: list[str], limit: float) -> list[Result]:
    """Run parts in order, one at a time; those that may run beside the others go on meanwhile.

    Args:
        parts: which.
        folder: the working folder, with the histories.
        options: further options for each process.
        limit: seconds for everything.
    """
    end = time.monotonic() + limit
    waiting, active = list(parts), list[Running]()
    results: dict[str, Result] = {}
    try:
        while waiting or active:
            while waiting and _may_start(waiting[0], active):
                part = waiting.pop(0)
                seconds = min(part.seconds, end - time.monotonic())
                if seconds < _LEAST_SECONDS:
                    results[part.name] = Result(part, UNFINISHED, [], 0.0, "No time was left to start it.")
                    continue
                print(f"== {part.title} ({seconds:.0f} s at most)", flush=True)
                active.append(Running(part, folder, options, seconds))
            for running in list(active):
                result = running.result()
                if result is not None:
                    active.remove(running)
                    results[running.part.name] = result
                    print(f"== {result.part.title}: {result.status} after {result.seconds:.0f} s", flush=True)
                    if result.trouble:
                        print(result.trouble, flush=True)
            time.sleep(0.05)
    finally:
        for running in active:
            running.stop()
    return [results[part.name] for part in parts]


def _may_start(part: Part, active: list[Running]) -> bool:
    """Whether a part may run beside what runs already."""
    return part.beside or not active or (not part.alone and all(running.part.beside for running in active))
