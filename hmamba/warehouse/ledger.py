"""Which files have been taken in, so that none is loaded twice and none that changed is missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import duckdb

from hmamba.errors import InputError
from hmamba.sources.discover import SourceFile
from hmamba.statements import statement
from hmamba.storage.local import sha256
from hmamba.warehouse.tables import Row, rows

Kind = Literal["interactions", "catalogue"]
State = Literal["loaded", "partial", "duplicate"]


@dataclass(frozen=True)
class Rest:
    """What earlier pulls have left of a file: rows of later days than they processed.

    Attributes:
        through: the last day whose rows have been considered.
        refused_from: rows at or after this time were refused as nonsense when the file was first read. It stays the
            same, so that a row is not considered twice as the clock goes on.
    """

    through: date
    refused_from: datetime


@dataclass(frozen=True)
class TakenFile:
    """A file of a pull.

    Attributes:
        file: where it lies.
        sha256: of its content.
        state: loaded if it is to be read, duplicate if its content has been.
        is_new_path: no earlier version of it has been read.
        rest: what is to be read of it; None: everything.
        read_as: of a file of the catalogue, a digest of the settings by which it is read.
    """

    file: SourceFile
    sha256: str
    state: State
    is_new_path: bool
    rest: Rest | None = None
    read_as: str | None = None


@dataclass(frozen=True)
class Selection:
    """What of the files found has to be read. ``skipped`` counts those that need not be."""

    taken: tuple[TakenFile, ...]
    skipped: int

    @property
    def to_load(self) -> tuple[TakenFile, ...]:
        """The files with rows that no pull has considered."""
        return tuple(taken for taken in self.taken if taken.state == "loaded")


def hash_of(file: SourceFile) -> str:
    """SHA-256 of a file as it is now.

    Raises:
        InputError: it has vanished, may not be read, or is not the size it was when it was found.
    """
    try:
        found = sha256(file.path)
        size = file.path.stat().st_size
    except OSError as error:
        raise InputError(f"{file.name} cannot be read: {error.strerror}. Restore it, or its permissions.") from None
    if size != file.size:
        raise _changed(file)
    return found


def require_unchanged(taken: TakenFile) -> None:
    """Check that a file still holds what it held when it was selected.

    Raises:
        InputError: it has another content now, has vanished or may not be read.
    """
    if hash_of(taken.file) != taken.sha256:
        raise _changed(taken.file)


def _changed(file: SourceFile) -> InputError:
    """The error for a file that somebody writes while it is read."""
    return InputError(
        f"{file.name} changed while it was read, and nothing has been loaded. Write it under a name that starts with a "
        "dot and rename it when it is whole; then run ingest again."
    )


def select_interactions(connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile], day: date) -> Selection:
    """Files to load: those whose content has never been read, under whatever name, or not through ``day``.

    Files with content that is known under another name or time of change are taken as duplicates.

    Raises:
        InputError: a file cannot be read.
    """
    ledger = rows(connection, "ingest/known_files", {"kind": "interactions"})
    known = {(row["path"], row["bytes"], row["modified_ns"]): row["sha256"] for row in ledger}
    contents = {row["sha256"]: row for row in ledger if row["state"] != "duplicate"}
    paths = {row["path"] for row in ledger if row["state"] != "duplicate"}
    taken: dict[str, TakenFile] = {}
    duplicates = []
    for file in files:
        entered = known.get((file.name, file.size, file.modified_ns))
        if entered is not None and (entered in taken or _rest(contents[entered], day) is None):
            continue
        content = hash_of(file)
        is_read = content in contents
        rest = _rest(contents[content], day) if is_read else None
        if content in taken or (is_read and rest is None):
            duplicates.append(TakenFile(file, content, "duplicate", file.name not in paths))
        else:
            taken[content] = TakenFile(file, content, "loaded", file.name not in paths and not is_read, rest)
    return Selection((*taken.values(), *duplicates), len(files) - len(taken))


def _rest(entry: Row, day: date) -> Rest | None:
    """What a pull of ``day`` has to read of a content, by its newest entry in the ledger."""
    if entry["state"] != "partial" or entry["read_through"] >= day:
        return None
    return Rest(entry["read_through"], entry["refused_from"])


def select_catalogue(connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile], read_as: str) -> Selection:
    """All files of the catalogue if one of them is not as it was last applied, none otherwise.

    Later files overrule earlier ones, so they only make sense together. Nor are they as they were if they would be read
    otherwise: ``read_as`` is a digest of the settings by which they are read.

    Raises:
        InputError: a file cannot be read.
    """
    last = {row["path"]: row for row in rows(connection, "ingest/known_files", {"kind": "catalogue"})}
    taken = []
    is_new = False
    for file in files:
        before = last.get(file.name)
        is_same = before is not None and (file.size, file.modified_ns) == (before["bytes"], before["modified_ns"])
        content = before["sha256"] if before is not None and is_same else hash_of(file)
        is_new = is_new or before is None or (content, read_as) != (before["sha256"], before["read_as"])
        taken.append(TakenFile(file, content, "loaded", before is None, read_as=read_as))
    return Selection(tuple(taken), 0) if is_new else Selection((), len(files))


def record(
    connection: duckdb.DuckDBPyConnection,
    batch_id: int,
    kind: Kind,
    taken: TakenFile,
    number_of_rows: int,
    left: int = 0,
    rest: Rest | None = None,
) -> None:
    """Enter a file. The caller commits.

    Args:
        connection: the warehouse.
        batch_id: the pull.
        kind: what the file holds.
        taken: the file.
        number_of_rows: how many rows the pull considered.
        left: how many it left for a later day; if any, the file is entered as partial.
        rest: what a pull of a later day will have to read.
    """
    connection.execute(
        statement("ingest/add_batch_file"),
        {
            "batch_id": batch_id,
            "kind": kind,
            "path": taken.file.name,
            "bytes": taken.file.size,
            "modified_ns": taken.file.modified_ns,
            "sha256": taken.sha256,
            "rows": number_of_rows,
            "state": "partial" if left else taken.state,
            "rows_left": left,
            "read_through": rest.through if left and rest else None,
            "refused_from": rest.refused_from if left and rest else None,
            "read_as": taken.read_as,
        },
    )
