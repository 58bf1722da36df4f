"""Run a real step as a process, and measure its time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from bench.store import ROOT


@dataclass(frozen=True)
class Done:
    """A finished step.

    Attributes:
        metrics: the step metrics that it printed, with wall time and peak resident memory.
        processor: processor seconds of all its threads.
        load: load average of the last minute at its end.
    """

    metrics: dict[str, Any]
    processor: float
    load: float

    def cells(self) -> list[str]:
        """Wall and processor seconds, peak memory in GB, and load, for a table."""
        seconds, peak = self.metrics["seconds"], self.metrics["peak_bytes"] / 1e9
        return [f"{seconds:.1f}", f"{self.processor:.1f}", f"{peak:.2f}", f"{self.load:.1f}"]


CELLS = ["seconds", "processor seconds", "peak, GB", "load"]


def run(name: str, root: Path, day: date, *options: str, environment: Mapping[str, str] | None = None) -> Done:
    """Run a step to its end; ``environment`` is added to that of this process.

    Raises:
        CalledProcessError: the step failed.
    """
    command = [sys.executable, "-m", f"jobs.{name}", "--root", str(root), "--day", day.isoformat(), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **(environment or {})}
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        # wait4 instead of process.wait: it returns the processor time of this process among several parallel ones.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Done(json.loads(output), used.ru_utime + used.ru_stime, os.getloadavg()[0])
