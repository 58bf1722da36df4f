"""The commit, the date and the machine of a measurement."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.store import ROOT


def _git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True).stdout


def commit() -> str:
    """The commit of the working tree; ``unknown`` outside git.

    It ends in ``-dirty`` if tracked files differ. Results do not count: a command of several measurements writes them.
    """
    try:
        name = _git("describe", "--always", "--abbrev=10", "--exclude=*").strip()
        differs = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)bench/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name}-dirty" if differs else name


def today() -> str:
    """The UTC date."""
    return datetime.now(UTC).date().isoformat()


def machine() -> str:
    """Processor, usable cores, memory, GPU and PyTorch version, in one line."""
    information = Path("/proc/cpuinfo")
    names = re.findall(r"(?m)^model name\s*:\s*(.+)$", information.read_text()) if information.exists() else []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    card = f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "; no GPU"
    return (
        f"{names[0] if names else 'unknown processor'}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB{card}; "
        f"PyTorch {torch.__version__} with {torch.get_num_threads()} threads"
    )
