"""End a process when the process that started it ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "HMAMBA_PARENT"
"""Environment variable: id of the process that started a step. A step that outlived it would keep its locks."""

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent thread ends, even by ``kill -9``. Linux only."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_starter() -> None:
    """End with the process that ``HMAMBA_PARENT`` names; no effect if it is unset. Child processes do not inherit it.

    Raises:
        SystemExit: that process has already ended.
    """
    starter = os.environ.pop(PARENT, None)
    if starter is None:
        return
    end_with_parent()
    try:
        os.kill(int(starter), 0)
    except ProcessLookupError:
        sys.exit(f"process {starter}, which started this step, has ended")
    except PermissionError:
        pass  # it exists, under another user
