"""What every source of interactions gives to a pull: the parts that are new, and their records as Arrow batches.

A part is whatever the ledger keeps a line about: a file, or the rows of a table after a cursor. A further kind of
source is a module with a class for its parts and one for itself, and a line in :mod:`hmamba.sources.registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, Protocol, TypeVar

import pyarrow as pa

from hmamba.errors import InputError
from hmamba.sources.values import Column, UnreadableType

T = TypeVar("T")

LINE = "__line"
"""int64: where a record of a part starts, such as a line of a file; no two of its records share one."""

MALFORMED = "__malformed"
"""string: the text of a record that could not be read; null for all others."""

RECORD = "__record"
"""string: one JSON value a record, of parts whose records have members of their own and no common columns."""

State = Literal["loaded", "partial", "duplicate"]


@dataclass(frozen=True)
class Reading:
    """A part that can be read, as often as needed.

    ``columns`` are all that the part has, in its order; None where each record has members of its own.
    ``batches(only)`` yields record batches with ``__line``, ``__malformed`` and either the columns in ``only`` (in that
    order; all, if None) or ``__record``.
    """

    name: str
    columns: tuple[str, ...] | None
    batches: Callable[[Sequence[str] | None], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Rest:
    """What earlier pulls have left of a part: rows of later days than they processed.

    Attributes:
        through: the last day whose rows have been considered.
        refused_from: rows at or after this time were refused as nonsense when the part was first read. It stays the
            same, so that a row is not considered twice as the clock goes on.
    """

    through: date
    refused_from: datetime


@dataclass(frozen=True)
class LedgerEntry:
    """A part as a pull has entered it into the ledger. ``rest`` is None unless the pull left rows of later days."""

    name: str
    size: int
    modified_ns: int
    digest: str
    state: State
    rest: Rest | None
    read_as: str | None

    def rest_on(self, day: date) -> Rest | None:
        """What a pull of ``day`` has to read of it; None if nothing."""
        return None if self.rest is None or self.rest.through >= day else self.rest


@dataclass(frozen=True, kw_only=True)
class Part(ABC):
    """A part of a pull, as it was when it was selected.

    Attributes:
        name: its origin, in the ledger, the quarantine and messages.
        size: bytes, or whatever the parts of a source are measured by; the progress of reading is shown in it.
        digest: tells its content from any other.
        modified_ns: time of its last change in nanoseconds since 1970; 0 where none is known.
        state: loaded if it is to be read, duplicate if its content has been.
        is_new: no earlier version of it has been read.
        rest: what is to be read of it; None: everything.
        read_as: of the catalogue, a digest of the settings by which it is read.
    """

    name: str
    size: int
    digest: str
    modified_ns: int = 0
    state: State = "loaded"
    is_new: bool = True
    rest: Rest | None = None
    read_as: str | None = None

    @abstractmethod
    def open(self, wanted: Iterable[str]) -> Reading:
        """Look at its beginning and say how to read it.

        Args:
            wanted: columns that it must have. Records with members of their own are looked at when they are read.

        Raises:
            InputError: it cannot be read, or a column is missing or there twice.
        """

    def require_unchanged(self) -> None:  # noqa: B027 - for parts that can change
        """Check that it still holds what it held when it was selected, if that can change.

        Raises:
            InputError: it has another content now, or cannot be read any more.
        """

    def cure(self, record: str) -> str | None:
        """A sentence about what to do where a record cannot be read; None if there is nothing to say."""
        return None


@dataclass(frozen=True)
class Selection:
    """What of a source has to be taken in. ``skipped`` counts the parts that need not be read."""

    taken: tuple[Part, ...]
    skipped: int

    @property
    def to_load(self) -> tuple[Part, ...]:
        """The parts with rows that no pull has considered."""
        return tuple(part for part in self.taken if part.state == "loaded")


class Source(Protocol):
    """Where interactions come from. It is made once a pull, before the warehouse is opened."""

    @property
    def is_empty(self) -> bool:
        """Whether there is not one part, new or old."""

    def select(self, entries: Sequence[LedgerEntry], day: date) -> Selection:
        """What is new since the ledger's last entries, for a pull of ``day``.

        Args:
            entries: of all parts of interactions that pulls have taken in, oldest first.
            day: rows of later days may stay in their parts, for a pull of a later day.

        Raises:
            InputError: a part cannot be read.
        """

    def nothing(self, parts: Sequence[Part]) -> InputError:
        """The error of a first pull that finds no row in ``parts``, or not even a part."""

    def explained(self, error: InputError, parts: Sequence[Part]) -> InputError:
        """An error about one of the parts that are read, with what the source can say about its cause."""
        return error


def require_columns(name: str, wanted: Iterable[str], present: Sequence[str]) -> None:
    """Check that a part has every column it needs, once. Names are compared exactly, capitals included.

    Args:
        name: of the part.
        wanted: columns it needs.
        present: columns it has.

    Raises:
        InputError: one is missing, and those that are there are listed; or two are called the same.
    """
    names = list(dict.fromkeys(wanted))
    missing = [column for column in names if column not in present]
    if missing:
        raise InputError(
            f"{name} has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, present))}. "
            "Correct the file, or the names of columns in the configuration."
        )
    twice = [column for column in names if present.count(column) > 1]
    if twice:
        raise InputError(
            f"{name}: two columns are called {twice[0]!r}, and which is meant cannot be known. Rename one."
        )


def read_column(name: str, column: str, values: Column, convert: Callable[[Column], T]) -> T:
    """What a column of a part means.

    Raises:
        InputError: it is of a type that ``convert`` cannot read; names part, column and type.
    """
    try:
        return convert(values)
    except UnreadableType as error:
        raise InputError(
            f"{name}: column {column!r} is of type {error.kind}. Write it as {error.cure}, or name another column."
        ) from None
