"""Which files have been taken in, so that none is loaded twice and none that changed is missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb

from hmamba.errors import InputError
from hmamba.files import sha256
from hmamba.source.discover import SourceFile
from hmamba.statements import statement
from hmamba.warehouse.tables import rows

Kind = Literal["interactions", "catalogue"]
State = Literal["loaded", "duplicate"]


@dataclass(frozen=True)
class TakenFile:
    """A file of a pull. ``is_new_path``: no earlier version of it has been loaded."""

    file: SourceFile
    sha256: str
    state: State
    is_new_path: bool


@dataclass(frozen=True)
class Selection:
    """What of the files found has to be read. ``skipped`` counts those that need not be."""

    taken: tuple[TakenFile, ...]
    skipped: int

    @property
    def to_load(self) -> tuple[TakenFile, ...]:
        """The files with new content."""
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
        raise changed(file)
    return found


def changed(file: SourceFile) -> InputError:
    """The error for a file that somebody writes while it is read."""
    return InputError(
        f"{file.name} changed while it was read, and nothing has been loaded. Write it under a name that starts with a "
        "dot and rename it when it is whole; then run ingest again."
    )


def select_interactions(connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile]) -> Selection:
    """Files to load: those whose content has never been loaded, under whatever name.

    Files with content that is known under another name or time of change are taken as duplicates.

    Raises:
        InputError: a file cannot be read.
    """
    ledger = rows(connection, "ingest/known_files", {"kind": "interactions"})
    seen = {(row["path"], row["bytes"], row["modified_ns"]) for row in ledger}
    hashes = {row["sha256"] for row in ledger}
    paths = {row["path"] for row in ledger if row["state"] == "loaded"}
    taken = []
    for file in files:
        if (file.name, file.size, file.modified_ns) in seen:
            continue
        content = hash_of(file)
        state: State = "duplicate" if content in hashes else "loaded"
        hashes.add(content)
        taken.append(TakenFile(file, content, state, file.name not in paths))
    loaded = sum(file.state == "loaded" for file in taken)
    return Selection(tuple(taken), len(files) - loaded)


def select_catalogue(connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile]) -> Selection:
    """All files of the catalogue if one of them is not as it was last applied, none otherwise.

    Later files overrule earlier ones, so they only make sense together.

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
        is_new = is_new or before is None or content != before["sha256"]
        taken.append(TakenFile(file, content, "loaded", before is None))
    return Selection(tuple(taken), 0) if is_new else Selection((), len(files))


def record(
    connection: duckdb.DuckDBPyConnection, batch_id: int, kind: Kind, taken: TakenFile, number_of_rows: int
) -> None:
    """Enter a file. The caller commits."""
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
            "state": taken.state,
        },
    )
