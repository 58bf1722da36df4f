"""The errors a user can meet, each with the exit status a scheduler can act on.

A message names the place (file, row, column or setting) and ends with what to do about it. Anything that is not
an :class:`HMambaError`, and that :func:`explained` cannot turn into one, is a fault of this project and keeps its
traceback.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

INTERRUPTED = 130
"""Exit status of what Ctrl-C has ended, as shells give it."""


class HMambaError(Exception):
    """Something the user can fix. ``exit_code`` is the exit status of the job."""

    exit_code = 1


class ConfigError(HMambaError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2


class InputError(HMambaError):
    """A file is not what it should be, or a name does not exist. Nothing has been changed."""

    exit_code = 2


class BusyError(HMambaError):
    """Something else is at work on the same files, or a resource has run out: another try may succeed."""

    exit_code = 1


class QualityError(HMambaError):
    """Data or candidates broke a rule. Running the step again cannot help: schedulers must not retry."""

    exit_code = 3


_TO_FIX = {
    errno.EACCES: "permission is denied. Let the user that runs the steps read and write it.",
    errno.EPERM: "the operation is not permitted. Let the user that runs the steps read and write it.",
    errno.EROFS: "the file system is read-only. Mount it writable.",
    errno.ENOENT: "it does not exist. Restore it, mount what holds it, or run the step that writes it.",
    errno.ENOTDIR: "a part of the path is a file and not a folder. Move that file away.",
    errno.EEXIST: "a file is in the place of a folder. Move that file away.",
    errno.EISDIR: "it is a folder where a file is expected. Move it away.",
    errno.ELOOP: "its links lead in a circle. Correct them.",
    errno.ENAMETOOLONG: "the name is too long for the file system. Use a shorter path or run id.",
    errno.EFBIG: "the file would be larger than this process (ulimit -f) or the file system allows. Raise the limit.",
}
"""Conditions that stay until somebody changes something."""

_TO_RETRY = {
    errno.ENOSPC: "no space is left on the device. Free some, then run the step again.",
    errno.EDQUOT: "the disk quota is used up. Free some space, then run the step again.",
    errno.EIO: "an input/output error. If it comes again, look at the device.",
    errno.ESTALE: "the network file system has lost the file (stale handle). If it comes again, mount it again.",
    errno.ENOTCONN: "the file system is not connected. If it comes again, mount it again.",
    errno.EHOSTDOWN: "the file server does not answer. If it comes again, mount it again.",
    errno.ETIMEDOUT: "the file server does not answer. If it comes again, mount it again.",
    errno.ENOLCK: "no lock can be had. If it comes again, use a file system that has locks.",
    errno.EBUSY: "it is in use. Run the step again.",
    errno.EMFILE: "too many files are open. If it comes again, raise the limit (ulimit -n).",
    errno.ENFILE: "too many files are open on this machine. Run the step again.",
    errno.ENOMEM: "memory ran out. Give the step more, or lower warehouse.memory_limit or train.tokens.",
}
"""Conditions that may pass."""

_WORSE_THAN_SAID = {*_TO_RETRY, errno.EACCES, errno.EPERM, errno.EROFS}
"""Conditions that make the sentence of whoever met them a guess, such as that a file is damaged."""

_LIBRARIES = {"duckdb", "pyarrow", "safetensors"}
_BY_TEXT = {os.strerror(code): code for code in (*_TO_FIX, *_TO_RETRY)}
_PATH = re.compile(r"""(?:["'](/[^"']+)["']| in (/\S+): )""")


def explained(error: BaseException, where: str | None = None) -> HMambaError | None:
    """The error as one sentence, if the operating system is its reason: no permission, no space, no such folder.

    DuckDB, Arrow, safetensors, FAISS and PyTorch wrap such errors in their own; those are recognised by their text.
    An :class:`HMambaError` is returned as it is, unless what it was raised for is worse than it says.

    Args:
        error: what was caught.
        where: what to name where the error itself does not name a path.

    Returns:
        The error to report, or None if it is a fault of this project.
    """
    for found in _reasons(error):
        code, path = _code(found), _place(found) or where or _first_line(found)
        if isinstance(error, HMambaError) and code not in _WORSE_THAN_SAID:
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
        if type(found).__name__ == "OutOfMemoryException":
            return BusyError(
                f"DuckDB ran out of memory, or of disk space to spill to ({_first_line(found)}). Free some disk space, "
                "or change warehouse.memory_limit."
            )
    return error if isinstance(error, HMambaError) else None


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from; for the wrappers also what was being handled."""
    passed: list[BaseException] = []
    reason: BaseException | None = error
    while reason is not None and reason not in passed:
        yield reason
        passed.append(reason)
        wraps = isinstance(reason, HMambaError) or _is_wrapper(reason)
        reason = reason.__cause__ or (reason.__context__ if wraps else None)


def _is_wrapper(error: BaseException) -> bool:
    return type(error) is RuntimeError or type(error).__module__.partition(".")[0].lstrip("_") in _LIBRARIES


def _code(error: BaseException) -> int | None:
    """The operating system's number of an error."""
    if isinstance(error, OSError):
        return error.errno
    if not _is_wrapper(error):
        return None
    text = str(error)
    return next((code for words, code in _BY_TEXT.items() if words in text), None)


def _place(error: BaseException) -> str | None:
    """The path that an error is about, if it says so."""
    named = [str(name) for name in (getattr(error, "filename", None), getattr(error, "filename2", None)) if name]
    if named:
        return named[-1]
    found = _PATH.search(str(error))
    return (found[1] or found[2]) if found else None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
