"""Local storage with atomic writes: write to a temporary name beside the target, flush, rename.

Readers ignore names that start with a dot or contain ``.tmp-``. :mod:`hmamba.storage.temporary`
sweeps those that killed processes leave.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hmamba.errors import InputError
from hmamba.storage.locks import alone
from hmamba.storage.temporary import claimed, delete

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, in hex digits; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; rename it onto ``target`` if the block succeeds, delete it if not."""
    with claimed(target) as temporary:
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``target`` that replaces it if the block succeeds, and is deleted if not.

    An existing ``target`` is exchanged in one system call (Linux ``renameat2``), so that a reader lists the old
    folder or the new folder. If the kernel or file system does not support this, the old folder is moved aside first.
    """
    with claimed(target) as temporary:
        temporary.mkdir()
        yield temporary
        for path in temporary.rglob("*"):
            _sync(path)
        if target.exists():
            _exchange(temporary, target)
        else:
            temporary.rename(target)
        _sync(target.parent)


def _exchange(new: Path, target: Path) -> None:
    """Swap two folders. Afterwards ``new`` is the path of the old ``target``."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "renameat2"):
        names = os.fsencode(new), os.fsencode(target)
        if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
            raise OSError(code, os.strerror(code), str(target))
    with claimed(target) as aside:
        target.rename(aside)
        new.rename(target)
        aside.rename(new)


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` a second name of a file, or a copy where the file system has no hard links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_file(target) as temporary:
        temporary.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")


def read_json(path: Path, cure: str = "Restore it, or run the step that writes it again.") -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        cure: what to do then; the last sentence of the error message.

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. {cure}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}). {cure}") from None


@dataclass(frozen=True)
class LocalStorage:
    """A local folder as a :class:`hmamba.storage.base.Storage`. Its places are local paths."""

    root: Path

    @classmethod
    def at(cls, root: str) -> LocalStorage:
        """Open a folder by its path or ``file://`` URI; it need not exist."""
        path = unquote(root.removeprefix("file://")) if root.startswith("file://") else root
        return cls(Path(path).expanduser().resolve())

    write_file = staticmethod(atomic_file)
    write_folder = staticmethod(atomic_folder)
    lock = staticmethod(alone)
    delete = staticmethod(delete)
    digest = staticmethod(sha256)

    def exists(self, place: Path) -> bool:
        """Whether a file or folder exists; a dangling link does not."""
        return place.exists()

    def find(self, folder: Path, pattern: str) -> list[Path]:
        """Sorted files and folders in a folder whose relative path matches a glob."""
        found = folder.glob(pattern) if folder.is_dir() else ()
        return sorted(path for path in found if not path.name.startswith("."))

    def local_path(self, place: Path) -> Path:
        """``place`` itself."""
        return place

    def point(self, pointer: Path, target: Path) -> None:
        """Make ``pointer`` a link to ``target``, in one rename."""
        leads_to = target.relative_to(pointer.parent)
        if not pointer.is_symlink() or pointer.readlink() != leads_to:
            with atomic_file(pointer) as temporary:
                temporary.symlink_to(leads_to)

    def move(self, place: Path, target: Path) -> None:
        """Rename a file or folder."""
        target.parent.mkdir(parents=True, exist_ok=True)
        place.rename(target)


LOCAL = LocalStorage(Path("/"))
"""Local files that belong to no root, or that the storage of a root has copied or will store."""
