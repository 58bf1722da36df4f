"""The interface of a source of interactions: its new parts, and their records as Arrow batches.

A part is the unit of the ledger: a file, or the rows of a table after a cursor. To add a source, write a module with a
class for the source and a class for its parts, and register it in :mod:`hmamba.sources.registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from hmamba.errors import InputError
from hmamba.sources.values import Column, UnreadableType
from hmamba.text import listed

T = TypeVar("T")

LINE = "__line"
"""int64: position at which a record starts, such as the line of a file; unique within a part."""

MALFORMED = "__malformed"
"""string: text of a record that could not be read; null for all others."""

RECORD = "__record"
"""string: one JSON value per record, in parts without common columns."""

State = Literal["loaded", "partial", "duplicate"]


@dataclass(frozen=True)
class Reading:
    """An opened part, which can be read repeatedly.

    ``columns`` are all columns of the part, in order; None for JSON records without common columns.
    ``batches(only)`` yields record batches with ``__line``, ``__malformed`` and either the columns in ``only`` (in that
    order; all columns if None) or ``__record``.
    """

    name: str
    columns: tuple[str, ...] | None
    batches: Callable[[Sequence[str] | None], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Rest:
    """The rows of a part that earlier pulls left because they belong to later days.

    Attributes:
        through: the last day whose rows have been considered.
        refused_from: rows at or after this time were refused as invalid when the part was first read. The bound is kept
            for later pulls, so that no row is considered twice as the clock advances.
    """

    through: date
    refused_from: datetime


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """A part as recorded in the ledger.

    Attributes:
        name: its origin, used in the ledger, the quarantine and messages.
        size: bytes, or another unit of the source; progress is shown in it.
        digest: identifies the content.
        modified_ns: time of the last change in nanoseconds since 1970; 0 if unknown.
        state: loaded, partial if the pull left rows of later days, or duplicate if the content was read before.
        rest: the rows that were left; None unless the state is partial.
        read_as: for catalogue files, a digest of the settings that determine how they are read; else None.
    """

    name: str
    size: int
    digest: str
    modified_ns: int = 0
    state: State = "loaded"
    rest: Rest | None = None
    read_as: str | None = None

    def rest_on(self, day: date) -> Rest | None:
        """The rows that a pull of ``day`` has to read; None if there are none."""
        return None if self.rest is None or self.rest.through >= day else self.rest


@dataclass(frozen=True, kw_only=True)
class Part(LedgerEntry, ABC):
    """A part of a source, as it was at selection.

    The state is loaded if the part is to be read, and ``rest`` the rows to read, None for all rows. ``is_new``: whether
    no earlier version of the part has been read.
    """

    is_new: bool = True

    @abstractmethod
    def open(self, wanted: Iterable[str]) -> Reading:
        """Open the part for reading.

        Args:
            wanted: required columns. In JSON records they are checked when the records are read.

        Raises:
            InputError: the part cannot be read, or a column is missing or duplicate.
        """

    def require_unchanged(self) -> None:
        """Check that the content has not changed since selection, if it can change.

        Raises:
            InputError: the content has changed, or can no longer be read.
        """

    def cure(self, record: str) -> str | None:
        """A sentence that says how to fix an unreadable record, or None."""
        return None


@dataclass(frozen=True)
class Selection:
    """The parts to load or record. ``skipped`` counts the parts that need not be read."""

    taken: tuple[Part, ...]
    skipped: int

    @property
    def to_load(self) -> tuple[Part, ...]:
        """The parts with rows that no pull has considered yet."""
        return tuple(part for part in self.taken if part.state == "loaded")


class Source(Protocol):
    """A source of interactions. It is created once per pull, before the warehouse is opened."""

    @property
    def is_empty(self) -> bool:
        """Whether the source has no parts at all, new or old."""

    def select(self, entries: Sequence[LedgerEntry], day: date) -> Selection:
        """Select the parts that are new relative to the ledger, for a pull of ``day``.

        Args:
            entries: all ledger entries of interactions, oldest first.
            day: the day that is processed; rows of later days may stay in their parts.

        Raises:
            InputError: a part cannot be read.
        """

    def nothing(self, parts: Sequence[Part]) -> InputError:
        """The error for a first pull that finds no rows in ``parts``, or no parts."""

    def explained(self, error: InputError, parts: Sequence[Part]) -> InputError:
        """Add to an error about one of ``parts`` what the source knows about its cause."""
        return error


def require_columns(name: str, wanted: Iterable[str], present: Sequence[str]) -> None:
    """Check that a part has every required column exactly once. Names are case-sensitive.

    Args:
        name: name of the part.
        wanted: required columns.
        present: columns of the part.

    Raises:
        InputError: a column is missing (the message lists the present columns) or duplicate.
    """
    names = list(dict.fromkeys(wanted))
    missing = [column for column in names if column not in present]
    if missing:
        raise InputError(
            f"{name} has no column {', '.join(map(repr, missing))}; it has {listed(present)}. "
            "Correct the file, or the names of columns in the configuration."
        )
    twice = [column for column in names if present.count(column) > 1]
    if twice:
        raise InputError(f"{name}: two columns are called {twice[0]!r}, so the name is ambiguous. Rename one.")


def with_lines(batches: Iterable[pa.RecordBatch], first: int) -> Iterator[pa.RecordBatch]:
    """Add ``__line`` and ``__malformed`` to batches of well-formed records, which are numbered from ``first`` on."""
    for batch in batches:
        past = first + batch.num_rows
        added = [pa.array(np.arange(first, past)), pa.nulls(batch.num_rows, pa.string())]
        yield pa.RecordBatch.from_arrays([*added, *batch.columns], [LINE, MALFORMED, *batch.schema.names])
        first = past


def read_column(name: str, column: str, values: Column, convert: Callable[[Column], T]) -> T:
    """Convert a column of a part.

    Raises:
        InputError: ``convert`` cannot read the column's type; the message names part, column and type.
    """
    try:
        return convert(values)
    except UnreadableType as error:
        raise InputError(
            f"{name}: column {column!r} is of type {error.kind}. Write it as {error.cure}, or name another column."
        ) from None
