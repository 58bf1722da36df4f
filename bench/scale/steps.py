"""Running a real step as a process, with what it cost."""

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
    """A step that has run.

    Attributes:
        metrics: what it printed, its wall time and peak resident memory among it.
        processor: seconds of all its threads together.
        load: processes that wanted to run when it ended, averaged over a minute.
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
        CalledProcessError: it failed.
    """
    command = [sys.executable, "-m", f"jobs.{name}", "--root", str(root), "--day", day.isoformat(), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **(environment or {})}
    ) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        # Not subprocess's own wait: several steps run at once, and each is to tell its own processor time.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Done(json.loads(told), used.ru_utime + used.ru_stime, os.getloadavg()[0])
