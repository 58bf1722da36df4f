"""Bounds on what a file may take to read (``source.limits``): errors that name the bound, and a meter of expansion."""

from __future__ import annotations

from hmamba.errors import InputError
from hmamba.sources.discover import SourceFile

FREE_BYTES = 2**30
"""Expanded bytes that are always read, so that small files may have any ratio."""


def exceeded(file: SourceFile, what: str, setting: str, cure: str) -> InputError:
    """The error for a file beyond a bound.

    Args:
        file: the file.
        what: what is too large, up to the name of the bound.
        setting: name of the setting in ``source.limits``.
        cure: how to change the file, without a full stop.
    """
    bound = f"source.limits.{setting} = {getattr(file.limits, setting)}"
    return InputError(f"{file.name}: {what} {bound}. {cure}; or raise the setting if the file is right.")


def too_long(file: SourceFile, what: str) -> InputError:
    """The error for a record, named by ``what``, beyond ``max_record_bytes``."""
    cure = "Look for a missing line end or closing quote, or split the record"
    return exceeded(file, f"{what} has more bytes than", "max_record_bytes", cure)


def require_few_columns(file: SourceFile, columns: int) -> None:
    """Check the number of columns.

    Raises:
        InputError: there are more than ``max_columns``.
    """
    if columns > file.limits.max_columns:
        cure = "Remove the columns that are not needed"
        raise exceeded(file, f"it has {columns:,} columns, more than", "max_columns", cure)


class Expansion:
    """Meter of what a compressed file expands to while it is read."""

    def __init__(self, file: SourceFile) -> None:
        self._file, self._bytes = file, 0
        self._most = max(FREE_BYTES, file.limits.max_expansion * file.size)

    def add(self, count: int) -> None:
        """Count ``count`` more bytes.

        Raises:
            InputError: they are more than ``max_expansion`` times the file's size, and than :data:`FREE_BYTES`.
        """
        self._bytes += count
        if self._bytes > self._most:
            what = f"its {self._file.size:,} bytes expand to more than {self._most:,}, beyond"
            cure = "Write the file again without the repeated content"
            raise exceeded(self._file, what, "max_expansion", cure)
