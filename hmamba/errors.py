"""Errors that a user can fix or retry, with exit statuses for schedulers.

A message names the place (file, row, column or setting) and ends with the fix. An exception that is neither an
:class:`HMambaError` nor converted to one by :func:`explained` is a bug of this project and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells."""


class HMambaError(Exception):
    """An error that the user can fix. ``exit_code`` is the exit status of the command."""

    exit_code = 1


class ConfigError(HMambaError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2


class InputError(HMambaError):
    """A file is invalid, or a name does not exist. Nothing has been changed."""

    exit_code = 2


class BusyError(HMambaError):
    """Another process uses the same files, or a resource is exhausted. A retry may succeed."""

    exit_code = 1


class QualityError(HMambaError):
    """Data or candidates broke a rule. A retry fails in the same way, so schedulers must not retry."""

    exit_code = 3


_TO_FIX = {
    errno.EACCES: "permission is denied. Let the user that runs the steps read and write it.",
    errno.EPERM: "the operation is not permitted. Let the user that runs the steps read and write it.",
    errno.EROFS: "the file system is read-only. Mount it writable.",
    errno.ENOENT: "it does not exist. Restore it, mount what holds it, or run the step that writes it.",
    errno.ENOTDIR: "a part of the path is a file and not a folder. Move that file away.",
    errno.EEXIST: "a file is in the place of a folder. Move that file away.",
    errno.EISDIR: "it is a folder where a file is expected. Move it away.",
    errno.ELOOP: "its symbolic links form a cycle. Correct them.",
    errno.ENAMETOOLONG: "the name is too long for the file system. Use a shorter path or run id.",
    errno.EFBIG: "the file would be larger than this process (ulimit -f) or the file system allows. Raise the limit.",
}
"""Conditions that persist until the user fixes them, by errno."""

_TO_RETRY = {
    errno.ENOSPC: "no space is left on the device. Free some, then run the step again.",
    errno.EDQUOT: "the disk quota is used up. Free some space, then run the step again.",
    errno.EIO: "an input/output error. If it recurs, check the device.",
    errno.ESTALE: "the network file system has lost the file (stale handle). If it recurs, remount the file system.",
    errno.ENOTCONN: "the file system is not connected. If it recurs, remount it.",
    errno.EHOSTDOWN: "the file server does not answer. If it recurs, remount the file system.",
    errno.ETIMEDOUT: "the file server does not answer. If it recurs, remount the file system.",
    errno.ENOLCK: "no lock is available. If it recurs, use a file system that supports locks.",
    errno.EBUSY: "it is in use. Run the step again.",
    errno.EMFILE: "too many files are open. If it recurs, raise the limit (ulimit -n).",
    errno.ENFILE: "too many files are open on this machine. Run the step again.",
    errno.ENOMEM: "memory ran out. Give the step more, or lower warehouse.memory_limit or train.tokens.",
}
"""Conditions that may succeed on retry, by errno."""

_OVERRIDING = {*_TO_RETRY, errno.EACCES, errno.EPERM, errno.EROFS}
"""Conditions that replace the message of an HMambaError they caused, which may be a wrong guess (a damaged file)."""

_LIBRARIES = {"duckdb", "pyarrow", "safetensors", "torch", "lightgbm"}
_NO_MEMORY = re.compile(
    r"bad_alloc|bad allocation|can't allocate memory|out of memory|can't start new thread|cannot create thread"
    # oneDNN; the loader of shared libraries; an extension whose allocation failed
    r"|could not create a primitive|failed to map segment|error return without exception set",
    re.IGNORECASE,
)
_BY_TEXT = {os.strerror(code): code for code in (*_TO_FIX, *_TO_RETRY)}
_PATH = re.compile(r"""(?:["'](/[^"']+)["']| in (/\S+): )""")


def explained(error: BaseException, where: str | None = None) -> HMambaError | None:
    """Convert an error of the operating system (permission, space, missing folder) to an :class:`HMambaError`.

    DuckDB, Arrow, safetensors, FAISS and PyTorch wrap such errors in their own types; these are recognised by their
    text. An :class:`HMambaError` is returned unchanged, unless its cause is in ``_OVERRIDING`` or a lack of memory.

    Args:
        error: the caught exception.
        where: the place to name if the error does not name a path.

    Returns:
        The error to report, or None if it is a bug of this project.
    """
    for found in reasons(error):
        if type(found).__name__ == "OutOfMemoryException":
            return BusyError(
                f"DuckDB ran out of memory, or of disk space to spill to ({_first_line(found)}). Free some disk space, "
                "or change warehouse.memory_limit."
            )
        if _lacks_memory(found):
            return BusyError(f"{_first_line(found)}: {_TO_RETRY[errno.ENOMEM]}")
        code, path = _code(found), _place(found) or where or _first_line(found)
        if isinstance(error, HMambaError) and code not in _OVERRIDING:
            continue
        if code in _TO_FIX:
            return InputError(f"{path}: {_TO_FIX[code]}")
        if code in _TO_RETRY:
            return BusyError(f"{path}: {_TO_RETRY[code]}")
        if type(found) is RuntimeError and "inline_container" in str(found):
            return BusyError(
                "PyTorch could not write a file to its end, most likely because the disk is full. Free some space, "
                "then run the step again."
            )
    return error if isinstance(error, HMambaError) else None


def reasons(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its chain of causes; for wrappers, also the exception that was being handled."""
    visited: list[BaseException] = []
    reason: BaseException | None = error
    while reason is not None and reason not in visited:
        yield reason
        visited.append(reason)
        wraps = isinstance(reason, HMambaError) or _is_wrapper(reason)
        reason = reason.__cause__ or (reason.__context__ if wraps else None)


def _is_wrapper(error: BaseException) -> bool:
    return type(error) is RuntimeError or type(error).__module__.partition(".")[0].lstrip("_") in _LIBRARIES


def _lacks_memory(error: BaseException) -> bool:
    """Whether memory ran out: by type in Python, NumPy, Arrow and FAISS, by text in PyTorch, DuckDB and LightGBM."""
    if isinstance(error, MemoryError):
        return True
    is_wrapper = _is_wrapper(error) or isinstance(error, ImportError | SystemError)
    is_wrapper |= isinstance(error, OSError) and error.errno is None  # Arrow's, of a reader
    return is_wrapper and _NO_MEMORY.search(str(error)) is not None


def _code(error: BaseException) -> int | None:
    """The errno of an error, if it has one."""
    if isinstance(error, OSError):
        return error.errno
    if not _is_wrapper(error):
        return None
    text = str(error)
    return next((code for words, code in _BY_TEXT.items() if words in text), None)


def _place(error: BaseException) -> str | None:
    """The path that an error names, if any."""
    named = [str(name) for name in (getattr(error, "filename", None), getattr(error, "filename2", None)) if name]
    if named:
        return named[-1]
    found = _PATH.search(str(error))
    return (found[1] or found[2]) if found else None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
