"""Running a real step as a process, with what it cost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from bench.store import ROOT


@dataclass(frozen=True)
class Done:
    """A step that has run.

    Attributes:
        facts: what it printed, its wall time and peak resident memory among it.
        processor: seconds of all its threads together.
        load: processes that wanted to run when it ended, averaged over a minute.
    """

    facts: dict[str, Any]
    processor: float
    load: float

    def cells(self) -> list[str]:
        """Wall and processor seconds, peak memory in GB, and load, for a table."""
        seconds, peak = self.facts["seconds"], self.facts["peak_bytes"] / 1e9
        return [f"{seconds:.1f}", f"{self.processor:.1f}", f"{peak:.2f}", f"{self.load:.1f}"]


CELLS = ["seconds", "processor seconds", "peak, GB", "load"]


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def run(name: str, root: Path, day: date, *options: str) -> Done:
    """Run a step to its end.

    Raises:
        CalledProcessError: it failed.
    """
    command = [sys.executable, "-m", f"jobs.{name}", "--root", str(root), "--day", day.isoformat(), *options]
    before = _used()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return Done(json.loads(done.stdout), _used() - before, os.getloadavg()[0])
