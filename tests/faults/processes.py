"""Steps in processes of their own: forks of one that has imported everything, so that a step starts at once."""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import select
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_LIMIT_SECONDS = 120
_STEPS = ("ingest", "snapshot", "train", "gate", "index", "score", "publish", "report", "refresh")


@dataclass(frozen=True)
class Ended:
    """A step that has ended.

    Attributes:
        status: exit status; negative for a signal; None if it had to be stopped after ``_LIMIT_SECONDS``.
        log: what it wrote to standard error.
        seconds: wall time.
    """

    status: int | None
    log: str
    seconds: float

    @property
    def message(self) -> str:
        """The last line of the log."""
        lines = [line for line in self.log.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def prepare() -> None:
    """Import what steps import, once, before any fork."""
    for name in _STEPS:
        importlib.import_module(f"jobs.{name}")
    for name in ("great_expectations", "pandas", "torch", "faiss", "matplotlib.figure", "safetensors.torch"):
        importlib.import_module(name)


class Running:
    """A step that has been started; ``limits`` runs in its process before it."""

    def __init__(self, arguments: Sequence[str], limits: Callable[[], None] | None = None) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until the process has ended
        self._started = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(arguments, limits)

    def _run(self, arguments: Sequence[str], limits: Callable[[], None] | None) -> None:
        """The forked process: it never returns."""
        status = 1
        try:
            os.setpgid(0, 0)
            os.dup2(self._log.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _forget_handlers()
            if limits is not None:
                limits()
            name, *rest = arguments
            status = importlib.import_module(f"jobs.{name}").main(list(rest))
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def kill(self, after: float) -> None:
        """Kill the process after some seconds, unless it ends before."""
        if not self._ends_within(after):
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> Ended:
        """Wait for the end."""
        is_over = self._ends_within(_LIMIT_SECONDS)
        if not is_over:
            os.kill(self.pid, signal.SIGKILL)
        _, how = os.waitpid(self.pid, 0)
        seconds = time.monotonic() - self._started
        self._log.seek(0)
        log = self._log.read().decode(errors="replace")
        self._log.close()
        return Ended(os.waitstatus_to_exitcode(how) if is_over else None, log, seconds)

    def _ends_within(self, seconds: float) -> bool:
        handle = os.pidfd_open(self.pid)
        try:
            return bool(select.select([handle], [], [], max(0.0, seconds))[0])
        finally:
            os.close(handle)


def _forget_handlers() -> None:
    """Let the step set up its own log: the parent's handlers belong to pytest or to the progress of the matrix."""
    import logging
    import sys

    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for stream, number in (("stdout", 1), ("stderr", 2)):
        setattr(sys, stream, os.fdopen(os.dup(number), "w", buffering=1))


def run(arguments: Sequence[str], limits: Callable[[], None] | None = None) -> Ended:
    """Run a step to its end."""
    return Running(arguments, limits).wait()


def file_size(limit: int) -> Callable[[], None]:
    """Limit the size of every file that a step writes."""

    def apply() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return apply


def memory(more: int) -> Callable[[], None]:
    """Limit the address space of a step to what it has at its start and ``more`` bytes."""

    def apply() -> None:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    return apply


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def heed_modes() -> None:
    """Give up root's right to write where the modes of files forbid it; nothing changes for other users."""
    override = 0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER
    libc, header, sets = ctypes.CDLL(None, use_errno=True), _Header(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(ctypes.byref(header), sets) == 0
    for place in range(3):  # effective, permitted, inheritable
        sets[place] &= ~override
    assert libc.capset(ctypes.byref(header), sets) == 0
