"""This process and others: names, whether they run, and an end with the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

PARENT = "HMAMBA_PARENT"
"""Environment variable of a step: id of the process that started it. A step that outlived it would keep its locks."""

_PR_SET_PDEATHSIG = 1
_ENDED = "ZX"
"""States in /proc of a process that has ended: its parent has not asked how, or is just doing so."""


def end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent thread ends, even by ``kill -9``. Linux only."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_starter() -> None:
    """End with the parent process if ``HMAMBA_PARENT`` names it. Child processes do not inherit the variable.

    A value that is no process id, or that names a running process other than the parent, has no effect.

    Raises:
        SystemExit: the process that the variable names has ended.
    """
    value = os.environ.pop(PARENT, "")
    if not value.isdecimal() or (starter := int(value)) == 0:
        return
    if os.getppid() == starter:
        end_with_parent()
    if os.getppid() != starter and not is_running(starter):  # it may have ended before the kernel was asked
        sys.exit(
            f"{PARENT} = {starter}: this process, which started the step, has ended. To run the step alone, unset it."
        )


def is_running(process: int) -> bool:
    """Whether a process of this machine, of any user, exists and has not ended."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's process; no process id
    with suppress(OSError, IndexError):  # without /proc, a process that nobody has waited for counts as running
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(") ")[2][0] not in _ENDED
    return True


def own_name() -> str:
    """What this process runs, such as "publish" for ``python -m jobs.publish`` or "hmamba run"."""
    program, *rest = sys.argv or [""]
    name = Path(program).stem or "python"
    command = next((argument for argument in rest if not argument.startswith("-")), "")
    return f"{name} {command}".strip() if name == "hmamba" else name
