"""Temporary files and folders beside their targets, and the removal of those that killed processes leave.

A temporary path has a lock file beside it, ``NAME.lock``, that its process holds. The kernel frees the lock when the
process ends, in any way and on any machine, so that a sweep tells leftovers from what is being written.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hmamba.errors import HMambaError
from hmamba.storage.locks import alone

_LOCK = ".lock"
_TEMPORARY = re.compile(r"\..*\.tmp-[0-9a-f]{8}")
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Errors of file systems without locks. A sweep deletes nothing there."""


@contextmanager
def claimed(target: Path) -> Iterator[Path]:
    """Yield a hidden path beside ``target``, where nothing is yet; what is there after the block is deleted."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp-{uuid.uuid4().hex[:8]}")
    lock = temporary.with_name(f"{temporary.name}{_LOCK}")
    with ExitStack() as stack:
        try:
            stack.enter_context(alone(lock.parent, lock.name, 0))
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
        try:
            yield temporary
        finally:
            with suppress(OSError):  # the target is complete, or the block has failed: a later sweep may delete it
                delete(temporary)
                lock.unlink(missing_ok=True)


def private_place() -> Path:
    """The path beside which processes keep temporary folders that belong to no root."""
    return Path(tempfile.gettempdir()) / "hmamba"


@contextmanager
def private_folder(beside: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder that other users cannot read; it is deleted after the block.

    Args:
        beside: a path; None for one in the folder of temporary files (``TMPDIR``).
    """
    with claimed(private_place() if beside is None else beside) as folder:
        folder.mkdir(0o700)
        yield folder


def delete(path: Path) -> None:
    """Remove a file, link or folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Swept:
    """Number of deleted files and folders, and their size in bytes."""

    count: int = 0
    size: int = 0

    def __add__(self, other: Swept) -> Swept:
        return Swept(self.count + other.count, self.size + other.size)


def sweep(folder: Path, *, below: bool = True, target: str = "") -> Swept:
    """Delete the temporary files and folders of processes that have ended.

    What cannot be deleted is left, without an error.

    Args:
        folder: a folder; need not exist.
        below: whether to sweep the folders in it as well.
        target: name of the target whose temporary paths are deleted, in a folder where others write too; empty for all.
    """
    swept = Swept()
    for parent, folders, files in os.walk(folder):
        names = {name.removesuffix(_LOCK) for name in (*folders, *files)}
        temporary = {name for name in names if _TEMPORARY.fullmatch(name) and name.startswith(f".{target}")}
        for name in sorted(temporary):
            swept += _swept(Path(parent) / name)
        folders[:] = [name for name in folders if below and name not in temporary]
    return swept


def _swept(temporary: Path) -> Swept:
    """Delete a temporary path and its lock, unless its process holds the lock."""
    lock = temporary.with_name(f"{temporary.name}{_LOCK}")
    with suppress(OSError, HMambaError):
        if not lock.exists():  # the lock is made before the path, and deleted after it
            return discard(temporary)
        with alone(lock.parent, lock.name, 0):
            swept = discard(temporary)
            lock.unlink(missing_ok=True)
            return swept
    return Swept()


def discard(path: Path) -> Swept:
    """Delete a file, link or folder, and return its size."""
    is_folder = path.is_dir() and not path.is_symlink()
    size = 0
    for file in path.rglob("*") if is_folder else [path]:
        with suppress(FileNotFoundError):
            size += file.lstat().st_size
    delete(path)
    return Swept(1, size)
