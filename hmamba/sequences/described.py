"""What is known of items and users beside their events: the columns of the catalogue and of the users file, with types.

Rules, segments and similar tables read these files; the model does not. Every column is kept under its own name. A text
column whose every value is a whole number, a number, true or false, a date or a time gets that type.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba import columns
from hmamba.config import Config, SourceConfig
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.manifest import SnapshotFile, SnapshotManifest
from hmamba.errors import InputError
from hmamba.sources.discover import find_files
from hmamba.sources.files import FilePart
from hmamba.sources.values import Column, Members, decoded, ids, is_number, is_uuid, trimmed, uuids
from hmamba.statements import statement
from hmamba.storage.run_layout import DESCRIBED_ITEMS, ITEMS, MANIFEST, users_name
from hmamba.text import counted
from hmamba.warehouse.forgotten import forgotten_salt
from hmamba.warehouse.staging import Picked, chunk_of, read_unchanged

log = logging.getLogger("hmamba")

ITEM_COLUMNS = (
    columns.ITEM_INDEX,
    columns.ITEM_ID,
    columns.TITLE,
    columns.CATEGORY_PATH,
    columns.FIRST_SEEN,
    columns.EVENTS,
)
"""Columns of described_items.parquet that come from the snapshot; those of the catalogue follow."""

_ROWS = 131_072
_WIDER = {
    frozenset({"BIGINT", "DOUBLE"}): "DOUBLE",
    frozenset({"DATE", "TIMESTAMP"}): "TIMESTAMP",
}


@dataclass
class _Staged:
    """What is read of some files: the names of columns by their number, and the rows that could not be used."""

    names: dict[str, int] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    unusable: int = 0
    example: str = ""

    def number(self, name: str) -> str:
        """Name of a column in the staged tables."""
        return f"c{self.names.setdefault(name, len(self.names))}"


def describe(
    connection: duckdb.DuckDBPyConnection, folder: Path, root: Path, config: Config, manifest: SnapshotManifest
) -> SnapshotManifest:
    """Write the descriptions of items and users beside the shards of a snapshot, and name them in its manifest.

    Args:
        connection: the warehouse; it is only read.
        folder: the folder of the snapshot.
        root: the root of the recommender, to which paths of settings are relative.
        config: ``[catalogue]``, ``[users]`` and ``[source]``.
        manifest: the manifest of the snapshot in the folder.

    Returns:
        The new manifest, as written; the same if neither a catalogue nor a users file is set.

    Raises:
        InputError: a file cannot be read, changed while it was read, or has no usable row.
    """
    items = pq.read_table(folder / ITEMS)
    written = write_descriptions(connection, folder, root, config, items, manifest.shards)
    if not written:
        return manifest
    after = manifest.model_copy(update={"files": (*manifest.files, *written)})
    after.write(folder / MANIFEST)
    return after


def write_descriptions(
    connection: duckdb.DuckDBPyConnection, folder: Path, root: Path, config: Config, items: pa.Table, shards: int
) -> list[SnapshotFile]:
    """Write ``described_items.parquet`` if a catalogue is set, and ``users-NNNN.parquet`` files if a users file is.

    Args:
        connection: the warehouse; it is only read.
        folder: where to write.
        root: the root of the recommender.
        config: ``[catalogue]``, ``[users]`` and ``[source]``.
        items: the items of the snapshot.
        shards: number of shards of users.

    Raises:
        InputError: see :func:`describe`.
    """
    written = []
    if config.catalogue.path is not None:
        found = _stage(connection, root, "catalogue", config.catalogue.path, config.catalogue.item_id, config.source)
        if found is not None:
            written.append(_write_items(connection, folder, found, items))
    if config.users.path is not None:
        found = _stage(connection, root, "users", config.users.path, config.users.user_id, config.source)
        if found is None:
            raise InputError(
                f"users.path = {config.users.path!r}: no file has a row with an id in the column "
                f"{config.users.user_id!r}. Fill the file, or correct the setting."
            )
        written += _write_users(connection, folder, found, shards)
    return written


def _stage(
    connection: duckdb.DuckDBPyConnection, root: Path, section: str, path: str, id_column: str, source: SourceConfig
) -> _Staged | None:
    """Read all files of a path into the table ``described``: id and numbered columns; None without rows that have ids.

    Raises:
        InputError: see :func:`describe`.
    """
    setting = f"{section}.path"
    files = find_files(path, root, setting, follow_links=source.follow_links, limits=source.limits)
    found, records = _Staged(), 0
    tables: list[str] = []
    for number, file in enumerate(files):
        part = FilePart.of(file)
        reading = part.open([id_column])
        names = reading.columns or _member_names(connection, reading.batches(()))
        unused = {name for name in names if names.count(name) > 1}
        if file.kind == "parquet":
            unused |= {field.name for field in pq.read_schema(file.path) if not _is_kept(field.type)}
        found.left_out |= unused - {id_column}
        wanted = list(dict.fromkeys((id_column, *(name for name in names if name not in unused))))
        tables.append(f"described_{number}")
        stage = _PartStage(connection, tables[-1], number, id_column, source.null_words, found)
        records += read_unchanged(connection, part, wanted, stage)
        if not stage.is_created:
            tables.pop()
    if found.left_out:
        log.warning(
            "%s: columns that are neither text, numbers, dates nor lists of these, or share a name, are left out: %s",
            setting,
            ", ".join(sorted(found.left_out)),
        )
    if found.unusable:
        log.warning(
            "%s: %s without a readable id, left out. %s", setting, counted(found.unusable, "row"), found.example
        )
    if records == found.unusable:
        return None
    union = " UNION ALL BY NAME ".join(f"SELECT * FROM {table}" for table in tables)
    try:
        connection.execute(statement("described/join_parts").replace("SELECT * FROM the_parts", union))
    except duckdb.Error as error:
        raise InputError(
            f"{setting} = {path!r}: the files disagree on the type of a column ({str(error).splitlines()[0]}). Write "
            "the columns with the same types in all files."
        ) from None
    for table in tables:
        connection.execute(statement("described/drop_part").replace("the_part", table))
    return found


def _member_names(connection: duckdb.DuckDBPyConnection, batches: Iterable[pa.RecordBatch]) -> tuple[str, ...]:
    """Names of the members of all JSON records."""
    names: dict[str, None] = {}
    for batch in batches:
        with chunk_of(connection, batch):
            found = connection.execute(statement("described/record_keys")).fetchall()
        names.update(dict.fromkeys(name for (name,) in found))
    return tuple(names)


class _PartStage:
    """Stages the records of one file, batch by batch, into a table of its own."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        table: str,
        number: int,
        id_column: str,
        words: Sequence[str],
        found: _Staged,
    ) -> None:
        self._connection, self._table, self._number = connection, table, number
        self._id_column, self._words, self._found = id_column, words, found
        self.is_created = False

    def __call__(self, picked: Picked) -> None:
        """Stage a batch."""
        key = picked.read(self._id_column, partial(ids, null_words=self._words))
        text = key.texts()
        bad = np.asarray(pc.or_(pc.is_null(text), pc.is_valid(picked.malformed)))
        if bad.any():
            self._found.unusable += int(bad.sum())
            line = picked.lines[int(np.flatnonzero(bad)[0])].as_py()
            self._found.example = self._found.example or f"The first is line {line} of {picked.name}."
        arrays: dict[str, pa.Array] = {
            "file": pa.repeat(self._number, len(picked)),
            "line": picked.lines,
            "id": pc.if_else(pa.array(bad), pa.scalar(None, pa.string()), text),
        }
        for name, column in picked.columns.items():
            if name != self._id_column:
                values = _values(column, self._words)
                if values is None:
                    self._found.left_out.add(name)
                else:
                    arrays[self._found.number(name)] = values
        name = "described/insert_part" if self.is_created else "described/create_part"
        with chunk_of(self._connection, pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))):
            self._connection.execute(statement(name).replace("the_part", self._table))
        self.is_created = True


def _values(column: Column, words: Sequence[str]) -> pa.Array | None:
    """A column as text, whole numbers, numbers, booleans, dates, times in UTC, or lists of text or numbers.

    None for other types.
    """
    if isinstance(column, Members):
        others = column.of_kind("BIGINT", "UBIGINT", "DOUBLE", "BOOLEAN", "OBJECT", "ARRAY")
        return pc.coalesce(trimmed(column.of_kind("VARCHAR"), words), others)
    column = decoded(column)
    kind = column.type
    for fits, convert in _CONVERSIONS:
        if fits(kind):
            return convert(column, words)
    return None


def _is_kept(kind: pa.DataType) -> bool:
    """Whether a type of a Parquet column is one that :func:`_values` converts."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if _is_text(kind) or pa.types.is_string_view(kind):
        return True
    return any(fits(kind) for fits, _ in _CONVERSIONS)


def _times(column: pa.Array, _: Sequence[str]) -> pa.Array:
    if column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit, "UTC")).cast(pa.timestamp(column.type.unit))
    return column.cast(pa.timestamp("us"), safe=False)


def _numbers(column: pa.Array, _: Sequence[str]) -> pa.Array:
    values = column.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)


def _whole(column: pa.Array, _: Sequence[str]) -> pa.Array:
    return column.cast(pa.float64(), safe=False) if pa.types.is_uint64(column.type) else column.cast(pa.int64())


def _is_list_of(fits: Callable[[pa.DataType], bool], kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and fits(kind.value_type)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


_CONVERSIONS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array, Sequence[str]], pa.Array]], ...] = (
    (pa.types.is_string, trimmed),
    (pa.types.is_integer, _whole),
    (pa.types.is_boolean, lambda column, _: column),
    (is_number, _numbers),
    (pa.types.is_date, lambda column, _: column.cast(pa.date32())),
    (pa.types.is_timestamp, _times),
    (pa.types.is_null, lambda column, _: column.cast(pa.string())),
    (is_uuid, lambda column, _: uuids(column)),
    (partial(_is_list_of, _is_text), lambda column, _: column.cast(pa.list_(pa.string()))),
    (partial(_is_list_of, is_number), lambda column, _: column.cast(pa.list_(pa.float64()), safe=False)),
)


def _selected(connection: duckdb.DuckDBPyConnection, found: _Staged, taken: Iterable[str]) -> tuple[str, list[str]]:
    """The SQL of the columns with their types, and their names; names in ``taken`` are left out."""
    connection.execute(statement("described/create_kind_of"))
    staged = {name: str(kind) for name, kind, *_ in connection.execute("DESCRIBE described").fetchall()}
    used = {name.lower() for name in taken}
    kept: dict[str, str] = {}
    for name, number in found.names.items():
        if name.lower() in used:  # DuckDB does not distinguish them
            continue
        used.add(name.lower())
        kept[name] = f"c{number}"
    texts = [column for column in kept.values() if staged[column] == "VARCHAR"]
    kinds: dict[str, list[str] | None] = {}
    if texts:
        each = ", ".join(f"list(DISTINCT kind_of({name})) FILTER ({name} IS NOT NULL) AS {name}" for name in texts)
        query = statement("described/kinds").replace("the_kinds", each)
        row = connection.execute(query).fetchone() or ()
        kinds = dict(zip(texts, row, strict=True))
    selected = []
    for column in kept.values():
        found_kinds = frozenset(kinds.get(column) or ())
        kind = next(iter(found_kinds)) if len(found_kinds) == 1 else _WIDER.get(found_kinds, "VARCHAR")
        selected.append(f"CAST({column} AS {kind}) AS {column}" if column in kinds and kind != "VARCHAR" else column)
    return ", ".join(selected) or "NULL AS none", list(kept)


def _write_items(connection: duckdb.DuckDBPyConnection, folder: Path, found: _Staged, items: pa.Table) -> SnapshotFile:
    columns_sql, names = _selected(connection, found, ITEM_COLUMNS)
    connection.register("snapshot_items", items)
    query = statement("described/of_items").replace("the_columns", columns_sql)
    table = connection.execute(query).to_arrow_table()
    connection.unregister("snapshot_items")
    connection.execute(statement("described/drop"))
    first = len(ITEM_COLUMNS)
    table = table.select(list(range(first)) + list(range(first + 1, first + 1 + len(names))))
    table = table.rename_columns([*ITEM_COLUMNS, *names])
    fields = [items.schema.field(name) for name in ITEM_COLUMNS]
    path = folder / DESCRIBED_ITEMS
    pq.write_table(table.cast(pa.schema([*fields, *list(table.schema)[first:]])), path, compression="zstd")
    return SnapshotFile(**HashedFile.of(path).model_dump(), rows=len(table))


def _write_users(
    connection: duckdb.DuckDBPyConnection, folder: Path, found: _Staged, shards: int
) -> list[SnapshotFile]:
    """One file for each shard, sorted by user; a shard is read and written in batches."""
    if (salt := forgotten_salt(connection)) is not None:
        connection.execute(statement("described/drop_forgotten"), {"salt": salt})
    connection.execute(statement("sequences/create_shard_of"))
    columns_sql, names = _selected(connection, found, (columns.USER_ID,))
    query = statement("described/of_users").replace("the_columns", columns_sql)
    reader = connection.execute(query, {"shards": shards}).to_arrow_reader(_ROWS)
    named = [columns.USER_ID, *names]
    written = write_by_shard(reader, folder, users_name, named, shards)
    connection.execute(statement("described/drop"))
    return written


def write_by_shard(
    reader: pa.RecordBatchReader, folder: Path, name_of: Callable[[int], str], names: Sequence[str], shards: int
) -> list[SnapshotFile]:
    """Write rows that are sorted by shard into one file for each shard, in batches.

    Args:
        reader: the shard, then the columns.
        folder: where to write.
        name_of: name of the file of a shard.
        names: names of the columns in the files.
        shards: number of shards.
    """
    fields = [reader.schema.field(1 + place).with_name(name) for place, name in enumerate(names)]
    schema, written = pa.schema(fields), []
    pieces = _by_shard(reader, schema)
    piece = next(pieces, None)
    for shard in range(shards):
        path, rows = folder / name_of(shard), 0
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            while piece is not None and piece[0] == shard:
                writer.write_table(piece[1])
                rows += len(piece[1])
                piece = next(pieces, None)
        written.append(SnapshotFile(**HashedFile.of(path).model_dump(), rows=rows))
    return written


def _by_shard(reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[tuple[int, pa.Table]]:
    """The users of each batch, one table for each shard. The batches are sorted by shard."""
    for batch in reader:
        shards = batch.column(0).to_numpy()
        users = pa.Table.from_batches([batch]).select(range(1, 1 + len(schema))).rename_columns(schema.names)
        for shard in np.unique(shards).tolist():
            start, end = np.searchsorted(shards, [shard, shard + 1]).tolist()
            yield shard, users.slice(start, end - start)
