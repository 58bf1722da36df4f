"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "HMAMBA_PARENT"
"""Environment variable: process id of the starter of a step. A step that outlives it would keep a lock."""

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends, even by ``kill -9``. Linux only."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_starter() -> None:
    """End with the process that ``HMAMBA_PARENT`` names; no effect without it. Child processes do not inherit it.

    Raises:
        SystemExit: the starter has ended already.
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
        pass  # it lives, under another user
