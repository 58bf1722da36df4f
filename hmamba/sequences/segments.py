"""What is popular in each segment of users: the values of columns of the users file (``[users] segments``).

The snapshot step counts the events of items by the values of each column. A user without usable history gets the items
that are popular in their segment, shrunk towards the next column and finally towards all users:

    p = (n q + m p') / (n + m)

with q the shares of the items in the events of the n users with the value, p' the same mixture of the columns that
follow, and m = ``users.min_users``. Values with fewer than m users are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import EVENTS, ITEM_INDEX, USER_ID
from hmamba.errors import InputError
from hmamba.sequences.histories import IntArray, run_starts
from hmamba.statements import statement
from hmamba.storage.run_layout import MANIFEST, SEGMENTS, shard_name, users_name

if TYPE_CHECKING:  # scoring, which reads segments, also runs where neither is installed
    import duckdb

    from hmamba.config import UsersConfig
    from hmamba.contracts.manifest import SnapshotFile, SnapshotManifest

DoubleArray = npt.NDArray[np.float64]

_COLUMN, _VALUE, _USERS = "segment_column", "segment", "users"
_SETTINGS = b"hmamba.segments"


def segment(
    connection: duckdb.DuckDBPyConnection, folder: Path, config: UsersConfig, manifest: SnapshotManifest
) -> SnapshotManifest:
    """Count the events of items by segment, and enter into a snapshot's manifest who gets candidates.

    Args:
        connection: a DuckDB connection; temporary tables are made in it.
        folder: the folder of the snapshot, with its users.
        config: ``[users]``.
        manifest: the manifest in the folder.

    Returns:
        The new manifest, as written; the same if there is neither a segment nor a user without events to include.

    Raises:
        InputError: the users file has no such column.
    """
    if not config.segments and not config.include_without_events:
        return manifest
    files = manifest.files
    if config.segments:
        files = (*files, _write(connection, folder, config, manifest.shards))
    after = manifest.model_copy(update={"files": files, "without_events": config.include_without_events})
    after.write(folder / MANIFEST)
    return after


def _write(connection: duckdb.DuckDBPyConnection, folder: Path, config: UsersConfig, shards: int) -> SnapshotFile:
    connection.execute(statement("segments/create_items"))
    connection.execute(statement("segments/create_users"))
    for shard in range(shards):
        users = pq.ParquetFile(folder / users_name(shard))
        for column in config.segments:
            _check_column(column, users.schema_arrow.names)
            values = users.read(columns=[USER_ID, column])
            connection.register("members", pa.table({USER_ID: values[USER_ID], _VALUE: _texts(values[column])}))
            bound = {_COLUMN: column, "shard": str(folder / shard_name(shard))}
            connection.execute(statement("segments/count_items"), bound)
            connection.execute(statement("segments/count_users"), bound)
            connection.unregister("members")
    table = connection.execute(statement("segments/large"), {"min_users": config.min_users}).to_arrow_table()
    settings = {"columns": config.segments, "min_users": config.min_users}
    path = folder / SEGMENTS
    table = table.replace_schema_metadata({_SETTINGS: json.dumps(settings).encode()})
    pq.write_table(table, path, compression="zstd")
    from hmamba.contracts.contents import HashedFile
    from hmamba.contracts.manifest import SnapshotFile

    return SnapshotFile(**HashedFile.of(path).model_dump(), rows=len(table))


def _check_column(column: str, names: list[str]) -> None:
    if column in names and column != USER_ID:
        return
    others = [name for name in names if name != USER_ID]
    close = get_close_matches(column, others, 1)
    like = f"Is {close[0]!r} meant?" if close else f"It has {', '.join(map(repr, others)) or 'no other columns'}."
    raise InputError(f"users.segments names the column {column!r}, which the users file does not have. {like}")


def _texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values as text; lists, which are no segment, as null."""
    if pa.types.is_list(values.type):
        return pa.chunked_array([pa.nulls(len(values), pa.string())])
    return values.cast(pa.string())


@dataclass(frozen=True)
class Group:
    """The events of the users with one value: item indices (N,), their events (N,), and the number of users."""

    items: IntArray
    events: IntArray
    users: int


@dataclass(frozen=True)
class Segments:
    """The segments of a snapshot.

    Attributes:
        columns: the columns, the narrowest first.
        min_users: users of a group that counts as much as the groups that follow.
        groups: the groups by column and value.
    """

    columns: tuple[str, ...]
    min_users: int
    groups: Mapping[tuple[str, str], Group]

    @classmethod
    def read(cls, path: Path) -> Segments:
        """Read the file of a snapshot."""
        table = pq.read_table(path)
        settings = json.loads(table.schema.metadata[_SETTINGS])
        columns, values, users = (table[name].to_numpy(zero_copy_only=False) for name in (_COLUMN, _VALUE, _USERS))
        items, events = (table[name].to_numpy().astype(np.int64) for name in (ITEM_INDEX, EVENTS))
        starts = run_starts(columns, values)
        groups = {
            (columns[start], values[start]): Group(items[start:end], events[start:end], int(users[start]))
            for start, end in zip(starts, np.append(starts, len(table))[1:], strict=True)
        }
        return cls(tuple(settings["columns"]), settings["min_users"], groups)

    def of_users(self, ids: pa.Array, users: Path | None) -> tuple[IntArray, list[tuple[Group, ...]]]:
        """The groups of users.

        Args:
            ids: (U,) user ids.
            users: the described users of their shard; None without any.

        Returns:
            The number (U,) of each user's list of groups, and these lists, the narrowest group first.
        """
        texts = [pa.nulls(len(ids), pa.string()) for _ in self.columns]
        if users is not None:
            table = pq.read_table(users, columns=[USER_ID, *self.columns])
            place = pc.index_in(ids.cast(pa.string()), value_set=table[USER_ID].combine_chunks().cast(pa.string()))
            texts = [_texts(table[name]).combine_chunks().take(place) for name in self.columns]
        codes = np.zeros(len(ids), dtype=np.int64)
        lists: dict[tuple[str | None, ...], int] = {}
        for number, values in enumerate(zip(*(text.to_pylist() for text in texts), strict=True)):
            known = tuple(
                value if (column, value) in self.groups else None
                for column, value in zip(self.columns, values, strict=True)
            )
            codes[number] = lists.setdefault(known, len(lists))
        groups = [
            tuple(self.groups[column, value] for column, value in zip(self.columns, known, strict=True) if value)
            for known in lists
        ]
        return codes, groups

    def shares(self, groups: tuple[Group, ...], counts: IntArray) -> DoubleArray:
        """The share (size,) of each item for a user of some groups.

        Args:
            groups: the groups, the narrowest first.
            counts: (size,) events of each item that may be recommended, 0 for others.
        """
        shares: DoubleArray = counts / counts.sum()
        for group in reversed(groups):
            inside = group.items[group.items < len(counts)]
            own = np.zeros(len(counts))
            own[inside] = group.events[: len(inside)] * (counts[inside] > 0)
            if own.any():
                shares = (group.users * own / own.sum() + self.min_users * shares) / (group.users + self.min_users)
        return shares
