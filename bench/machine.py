"""The commit, the date and the machine of a measurement."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.store import ROOT


def commit() -> str:
    """The commit of the working tree, with ``-dirty`` if tracked files differ; ``unknown`` outside git."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


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
