"""The users whose rows differ between the table that is published and the one before, for deliveries of what changed.

Tables with the same number of shards hold each user in the same part (the shard is a digest of the id), so they are
compared part by part, and equal parts are not read. Otherwise DuckDB compares the whole tables, and spills to disk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import IS_GONE, USER_ID
from hmamba.config import Config
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.manifest import CHANGES, Manifest, PublishedFile
from hmamba.quality.changes import check_changes
from hmamba.statements import statement
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import in_memory

log = logging.getLogger("hmamba")

SCHEMA = pa.schema({USER_ID: pa.string(), IS_GONE: pa.bool_()})
"""Columns of the table: the user, and whether they have no rows any more."""

_ROWS = 1 << 17


@dataclass(frozen=True)
class ComparedPart:
    """A part of a published table: a local file and its SHA-256."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Changed:
    """Number of changed users; of them, those who are gone, and those without rows in the table before."""

    users: int
    gone: int
    new: int


def with_changes(
    layout: Layout, config: Config, manifest: Manifest, base: Manifest, folder: Path, name: str
) -> Manifest:
    """Write and check the table of changed users of a table that is about to be published.

    Args:
        layout: the root.
        config: limits of DuckDB.
        manifest: the new table. Its files are in ``folder``.
        base: the newest table until then, with all its files.
        folder: the new folder of the day, into which the changes are written.
        name: name of the check in Data Docs.

    Returns:
        The manifest with the changes; as it was if ``base`` has other columns, so that all users are delivered.

    Raises:
        QualityError: a rule of the changes is broken.
    """
    storage = layout.storage
    before = [ComparedPart(storage.local_path(layout.root / file.path), file.sha256) for file in base.files]
    after = [ComparedPart(folder / Path(file.path).name, file.sha256) for file in manifest.files]
    if not _comparable(before, after):
        log.info("publish: the table of %s has other columns, so changed users are not listed", base.day)
        return manifest
    path = layout.published_table(folder, CHANGES)
    with in_memory(config.warehouse) as connection:
        changed = write_changes(connection, before, after, path)
        unexplained = manifest.users - (base.users - changed.gone + changed.new)
        check_changes(layout.checks, connection, path, [part.path for part in after], unexplained, name)
    written, place = HashedFile.of(path), layout.published(manifest.day) / path.relative_to(folder)
    file = PublishedFile(
        path=place.relative_to(storage.root).as_posix(), rows=changed.users, bytes=written.bytes, sha256=written.sha256
    )
    return manifest.model_copy(update={"tables": {**manifest.tables, CHANGES: (file,)}, "changes_from": base.digest})


def _comparable(before: Sequence[ComparedPart], after: Sequence[ComparedPart]) -> bool:
    """Whether both tables have the same columns; otherwise every row differs."""
    schemas = [pq.read_schema(part.path) for part in (*before, *after)]
    return all(schema.equals(schemas[0]) for schema in schemas)


def write_changes(
    connection: duckdb.DuckDBPyConnection,
    before: Sequence[ComparedPart],
    after: Sequence[ComparedPart],
    target: Path,
) -> Changed:
    """Write the users whose rows differ to a Parquet file, sorted by id within each shard.

    Args:
        connection: DuckDB with a limit on its memory.
        before: parts of the table before, in the order of the shards.
        after: parts of the new table, with the same columns.
        target: the file to write; its folder is made.
    """
    target.parent.mkdir(parents=True)
    users = gone = new = 0
    with pq.ParquetWriter(target, SCHEMA, compression="zstd") as writer:
        for batch in _batches(connection, before, after):
            users, gone, new = (
                users + len(batch),
                gone + (pc.sum(batch[IS_GONE]).as_py() or 0),
                new + (pc.sum(batch["is_new"]).as_py() or 0),
            )
            writer.write_batch(batch.select(SCHEMA.names).cast(SCHEMA))
    return Changed(users, gone, new)


def _batches(
    connection: duckdb.DuckDBPyConnection, before: Sequence[ComparedPart], after: Sequence[ComparedPart]
) -> Iterator[pa.RecordBatch]:
    if len(before) == len(after):
        pairs = [([old], [new]) for old, new in zip(before, after, strict=True) if old.sha256 != new.sha256]
    else:
        pairs = [([*before], [*after])]
    for old, new in pairs:
        bound = {"before": [str(part.path) for part in old], "after": [str(part.path) for part in new]}
        yield from connection.execute(statement("changes/changed_users"), bound).to_arrow_reader(_ROWS)
