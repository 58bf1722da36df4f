"""Locks between threads and processes, as files that only their owner can open.

The kernel's ``flock`` is the lock; it ends with the process that holds it. The content of the file only names the
holders, for the messages of those who wait.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hmamba.errors import BusyError, InputError
from hmamba.processes import is_running, own_name

log = logging.getLogger("hmamba")

WAIT_SECONDS = 300.0
"""Maximum wait where no setting is at hand; the default of ``warehouse.wait_seconds``."""

REPORT_SECONDS = 60.0
"""Interval between log lines while a process waits for a lock."""

_TRY_SECONDS = 0.5
_LONGEST_NOTE = 1 << 16


@contextmanager
def alone(
    folder: Path, name: str = ".lock", wait_seconds: float = WAIT_SECONDS, *, shared: bool = False
) -> Iterator[None]:
    """Hold a lock on a file in ``folder`` during the block, across threads and processes.

    The kernel releases the lock when the process ends, also after a crash. The file has the mode 0600, so that users
    who may only read the folder cannot lock it. It is not deleted, but may be deleted while nobody holds the lock.

    Args:
        folder: folder of the lock file; created if missing.
        name: name of the lock file.
        wait_seconds: maximum wait.
        shared: whether others may hold the lock at the same time, if they ask for it as shared too.

    Raises:
        BusyError: another thread or process still holds the lock after the wait; the message names it if it can.
        InputError: the lock file belongs to another user, or is no ordinary file.
    """
    lock = _locked(folder / name, wait_seconds, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        _sign(lock, shared)
        yield
    finally:
        if not shared:
            with suppress(OSError):
                os.ftruncate(lock, 0)
        os.close(lock)


def _locked(path: Path, wait_seconds: float, mode: int) -> int:
    """A file descriptor that holds the lock."""
    started, reported = time.monotonic(), -REPORT_SECONDS
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)  # whoever held the lock may have deleted the folder
        lock = _opened(path)
        try:
            fcntl.flock(lock, mode | fcntl.LOCK_NB)
            if _is_at(lock, path):
                return lock
            os.close(lock)  # the file was deleted while this process opened it: others lock another one
            continue
        except BlockingIOError:
            holder = _holders(lock)
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        waited = time.monotonic() - started
        if waited >= wait_seconds:
            raise BusyError(
                f"{path} is locked by {holder}, also after {waited:.0f} seconds. Wait until it has ended, or end it, "
                "then run this step again."
            )
        if waited - reported >= REPORT_SECONDS:
            log.info("%s is locked by %s: waiting, %.0f of up to %.0f s", path, holder, waited, wait_seconds)
            reported = waited
        time.sleep(min(_TRY_SECONDS, wait_seconds - waited))


def _opened(path: Path) -> int:
    """Open a lock file, and close it to other users.

    Raises:
        InputError: it belongs to another user, or is no ordinary file.
    """
    with suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path} is no ordinary file, as locks are. Move it away, then run this step again.")
        # The owner of the folder can do with it what he likes, and some file systems give all files one owner.
        if found.st_uid not in {os.geteuid(), path.parent.stat().st_uid}:
            raise _foreign(path, found.st_uid)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except PermissionError:
        if path.exists() and path.stat().st_uid != os.geteuid():
            raise _foreign(path, path.stat().st_uid) from None
        raise
    if os.fstat(lock).st_mode & 0o077:
        with suppress(PermissionError):  # on a file system without modes, or of the owner of the folder
            os.fchmod(lock, 0o600)
    return lock


def _foreign(path: Path, owner: int) -> InputError:
    return InputError(
        f"{path} belongs to user {owner}, but this process runs as user {os.geteuid()}. Run all steps of a root as one "
        "user. If they are now, delete the file while no step runs."
    )


def _is_at(lock: int, path: Path) -> bool:
    """Whether the open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def _sign(lock: int, shared: bool) -> None:
    """Name this process in the file that it has locked; beside the other holders if the lock is shared."""
    own = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "step": own_name(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    with suppress(OSError):  # a full disk does not matter to the lock
        if not shared:
            os.ftruncate(lock, 0)
        elif os.fstat(lock).st_size > _LONGEST_NOTE:
            return
        os.lseek(lock, 0, os.SEEK_END)
        os.write(lock, f"{json.dumps(own)}\n".encode())


def _holders(lock: int) -> str:
    """The holders of a lock, in words."""
    found = []
    with suppress(OSError):
        for line in os.pread(lock, _LONGEST_NOTE, 0).splitlines():
            with suppress(ValueError, KeyError, TypeError):
                found.append(_in_words(json.loads(line)))
    living = list(dict.fromkeys(filter(None, found)))
    if not living:
        return "another process"
    more = f" and {len(living) - 1} more" if len(living) > 1 else ""
    return f"{living[0]}{more}"


def _in_words(holder: dict[str, Any]) -> str | None:
    """A holder, such as "process 123 (publish, since 2024-05-31T02:14:05Z)"; None if it has ended."""
    process, host = int(holder["process"]), str(holder["host"])
    here = host == socket.gethostname()
    if here and not is_running(process):
        return None
    where = "" if here else f" on {host}"
    return f"process {process}{where} ({holder['step']}, since {holder['since']})"
