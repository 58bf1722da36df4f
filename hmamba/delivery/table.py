"""The published table as deliveries read it: a copy that no publication changes, in whole or the changed users only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.candidates.lookup import published_manifest
from hmamba.columns import IS_GONE, USER_ID
from hmamba.config import Config, TargetConfig
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.delivery import Delivered
from hmamba.contracts.manifest import CHANGES, Manifest, PublishedFile
from hmamba.statements import statement
from hmamba.storage import root_locks
from hmamba.storage.layout import Layout
from hmamba.storage.local import digest, link_or_copy
from hmamba.storage.temporary import private_folder
from hmamba.warehouse.connection import in_memory

_ROWS = 1 << 16
_ALL_RANKS = 2**31 - 1
_VALUES = {"items": "delivery/items_of_users", "rows": "delivery/rows_of_users"}
_FORMAT = 1
"""Raised when what targets are given changes for the same table and settings."""


@dataclass(frozen=True)
class Table:
    """A published table, for one target.

    Attributes:
        manifest: its manifest.
        parts: copies of its files, in the order of the shards.
        changes: copy of the table of changed users; None without one.
        top: the largest rank that is delivered; None for all.
        content: what the value of a user is, see :class:`hmamba.config.TargetConfig`.
        connection: DuckDB, in memory.
    """

    manifest: Manifest
    parts: tuple[Path, ...]
    changes: Path | None
    top: int | None
    content: str
    connection: duckdb.DuckDBPyConnection

    @property
    def schema(self) -> pa.Schema:
        """Columns of the rows."""
        return pq.read_schema(self.parts[0]).remove_metadata()

    def described(self) -> Delivered:
        """What a target holds after the delivery."""
        columns = [[field.name, str(field.type)] for field in self.schema]
        return Delivered(
            day=self.manifest.day,
            run_id=self.manifest.run_id,
            model_version=self.manifest.model_version,
            last_day=self.manifest.last_day,
            digest=self.manifest.digest,
            settings=digest([_FORMAT, self.top, self.content, columns]),
            users=self.manifest.users,
            rows=self.number_of_rows(),
        )

    def number_of_rows(self) -> int:
        """Number of rows up to the rank ``top``."""
        if self.top is None:
            return self.manifest.rows
        bound = {"parts": [str(path) for path in self.parts], "top": self.top}
        ((rows,),) = self.connection.execute(statement("delivery/number_of_rows"), bound).fetchall()
        return int(rows)

    def changed_users(self) -> pa.Table:
        """The changed users: user_id, is_gone. Empty without a table of them."""
        schema = pa.schema({USER_ID: pa.string(), IS_GONE: pa.bool_()})
        return schema.empty_table() if self.changes is None else pq.read_table(self.changes, schema=schema)

    def rows(self, *, changed: bool = False) -> Iterator[pa.RecordBatch]:
        """Rows in the order of the table, in batches.

        Args:
            changed: whether only those of changed users.
        """
        for part in self._parts(changed):
            yield from self._query("delivery/rows", part, changed)

    def rows_of(self, part: Path) -> Iterator[pa.RecordBatch]:
        """Rows of a part, in batches."""
        return replace(self, parts=(part,)).rows()

    def values(self, *, changed: bool = False) -> Iterator[pa.RecordBatch]:
        """Users with their rows as one JSON list each (user_id, value), part by part and sorted by id in each.

        Args:
            changed: whether only changed users who are not gone.
        """
        for part in self._parts(changed):
            yield from self._query(_VALUES[self.content], part, changed)

    def lines(self, part: Path) -> Iterator[pa.RecordBatch]:
        """The rows of a part as JSON objects (line)."""
        bound = {"part": str(part), "top": self.top or _ALL_RANKS}
        yield from self.connection.execute(statement("delivery/lines"), bound).to_arrow_reader(_ROWS)

    def _parts(self, changed: bool) -> tuple[Path, ...]:
        if not changed:
            self.connection.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (user_id VARCHAR)")
        elif self.changes is None:
            return ()
        else:
            self.connection.execute(statement("delivery/create_wanted"), {"changes": str(self.changes)})
        return self.parts

    def _query(self, name: str, part: Path, changed: bool) -> Iterator[pa.RecordBatch]:
        bound = {"part": str(part), "top": self.top or _ALL_RANKS, "everyone": not changed}
        yield from self.connection.execute(statement(name), bound).to_arrow_reader(_ROWS)


@contextmanager
def copied(layout: Layout, config: Config, day: date | None) -> Iterator[tuple[Manifest, Path]]:
    """Yield a manifest and a folder with its files, which a publication or an erasure meanwhile does not change.

    Args:
        layout: the root.
        config: how long to wait for a publication.
        day: night of the table; None for the newest.

    Raises:
        BusyError: a table was being published for longer than ``warehouse.wait_seconds``.
        InputError: nothing is published, or a file is missing or damaged.
    """
    with private_folder(layout.root / "deliver") as folder:
        with root_locks.tables(layout, config.warehouse.wait_seconds, shared=True):
            manifest = published_manifest(layout, day)
            cure = f"Publish that night again: {layout.command('run', '--day', str(manifest.day))}."
            for file in (*manifest.files, *manifest.tables.get(CHANGES, ())):
                _copy(layout, file, _place(folder, file), cure)
        yield manifest, folder


def _place(folder: Path, file: PublishedFile) -> Path:
    """Where the copy of a published file is; parts of different tables have the same name."""
    return folder / file.path.replace("/", "-")


def _copy(layout: Layout, file: PublishedFile, target: Path, cure: str) -> None:
    source = layout.storage.local_path(layout.root / file.path)
    link_or_copy(source, target)
    HashedFile(name=source.name, bytes=file.bytes, sha256=file.sha256).verified(target, cure, name=source)


@contextmanager
def opened(manifest: Manifest, folder: Path, config: Config, target: TargetConfig) -> Iterator[Table]:
    """Open a copied table for a target."""
    (changes,) = manifest.tables.get(CHANGES, ()) or (None,)
    with in_memory(config.warehouse) as connection:
        yield Table(
            manifest=manifest,
            parts=tuple(_place(folder, file) for file in manifest.files),
            changes=None if changes is None else _place(folder, changes),
            top=target.top,
            content=target.content,
            connection=connection,
        )
