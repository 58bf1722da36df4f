"""The snapshot: all events before the end of a UTC day, as Parquet shards with a manifest of their hashes.

The warehouse may hold later events, but the snapshot does not, so steps that train or score from it cannot see the
future. Equal content gives byte-identical shards and an equal digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba import columns
from hmamba.clock import end_of
from hmamba.config import Config, EventsConfig, EventType
from hmamba.contracts.manifest import SnapshotFile, SnapshotManifest
from hmamba.errors import ConfigError, InputError
from hmamba.progress import Progress
from hmamba.statements import one, rows, statement
from hmamba.storage.local import digest, sha256
from hmamba.storage.run_layout import ITEMS, MANIFEST, shard_name
from hmamba.warehouse.tables import is_empty

ROWS_PER_GROUP = 131_072
USERS_PER_SHARD = 25_000
"""Default unless snapshot.shards is set: starting a score process takes as long as scoring a few thousand users."""

MOST_SHARDS = 1024

EVENT_SCHEMA = pa.schema(
    [
        pa.field(columns.USER_ID, pa.string(), nullable=False),
        pa.field(columns.ITEM_INDEX, pa.int32(), nullable=False),
        pa.field(columns.EVENT_TIME, pa.timestamp("us"), nullable=False),
        pa.field(columns.WEIGHT, pa.float32(), nullable=False),
        pa.field(columns.IS_TARGET, pa.bool_(), nullable=False),
        pa.field(columns.IS_SEEN, pa.bool_(), nullable=False),
    ]
)
ITEM_SCHEMA = pa.schema(
    [
        pa.field(columns.ITEM_INDEX, pa.int32(), nullable=False),
        pa.field(columns.ITEM_ID, pa.string(), nullable=False),
        pa.field(columns.TITLE, pa.string(), nullable=False),
        pa.field(columns.CATEGORY_PATH, pa.list_(pa.string()), nullable=False),
        pa.field(columns.ATTRIBUTES, pa.list_(pa.string()), nullable=False),
        pa.field(columns.FIRST_SEEN, pa.timestamp("us"), nullable=False),
        pa.field(columns.EVENTS, pa.int64(), nullable=False),
    ]
)
"""first_seen is nullable in a snapshot that holds items without events."""


class _ShardWriter:
    """Writes row groups of a fixed size, so that the bytes depend on the content only."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, EVENT_SCHEMA, compression="zstd")
        self._held: list[pa.Table] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        self._held.append(table)
        self._rows += table.num_rows
        while self._rows >= ROWS_PER_GROUP:
            self._flush(ROWS_PER_GROUP)

    def _flush(self, rows: int) -> None:
        whole = pa.concat_tables(self._held).combine_chunks()
        self._writer.write_table(whole.slice(0, rows), row_group_size=ROWS_PER_GROUP)
        rest = whole.slice(rows)
        self._held, self._rows = [rest], rest.num_rows

    def close(self) -> None:
        if self._rows:
            self._flush(self._rows)
        self._writer.close()


def _pieces(reader: pa.RecordBatchReader, progress: Progress) -> Iterator[tuple[int, pa.Table]]:
    """The events of each batch, one table for each shard. The batches are sorted by shard."""
    for batch in reader:
        table = pa.Table.from_batches([batch])
        events = table.drop_columns(["shard"]).cast(EVENT_SCHEMA)
        encoded, start = pc.run_end_encode(batch.column("shard")), 0
        for shard, end in zip(encoded.values.to_pylist(), encoded.run_ends.to_pylist(), strict=True):
            yield shard, events.slice(start, end - start)
            start = end
        progress.update(batch.num_rows)


def _write_events(
    connection: duckdb.DuckDBPyConnection, folder: Path, end: datetime, shards: int, events: int
) -> list[int]:
    """Stream the events before ``end`` of the users in ``counted`` into one file for each shard; returns their rows."""
    folder.mkdir(parents=True, exist_ok=True)
    connection.execute(statement("sequences/number_users"), {"shards": shards})
    reader = connection.execute(statement("sequences/events"), {"end_time": end}).to_arrow_reader(ROWS_PER_GROUP)
    rows = [0] * shards
    with Progress("snapshot", events, "events") as progress:
        pieces = _pieces(reader, progress)
        piece = next(pieces, None)
        for shard in range(shards):
            with closing(_ShardWriter(folder / shard_name(shard))) as writer:
                while piece is not None and piece[0] == shard:
                    writer.write(piece[1])
                    rows[shard] += piece[1].num_rows
                    piece = next(pieces, None)
    return rows


def _schema_of(items: pa.Table) -> pa.Schema:
    """``ITEM_SCHEMA``, with a nullable first_seen if there are items without events."""
    if not items[columns.FIRST_SEEN].null_count:
        return ITEM_SCHEMA
    place = ITEM_SCHEMA.get_field_index(columns.FIRST_SEEN)
    return ITEM_SCHEMA.set(place, ITEM_SCHEMA.field(place).with_nullable(True))


def shards_for(users: int) -> int:
    """Number of shards for a number of users; does not depend on the machine."""
    return min(MOST_SHARDS, max(1, -(-users // USERS_PER_SHARD)))


@dataclass(frozen=True)
class Meaning:
    """How a snapshot interprets the warehouse's events.

    Attributes:
        events: weights, targets and which events count as seen.
        by_position: whether events have an order and no times. A user's events are then a day apart, and the snapshot
            of any day holds all events.
    """

    events: EventsConfig = field(default_factory=EventsConfig)
    by_position: bool = False

    @classmethod
    def of(cls, config: Config) -> Meaning:
        """The interpretation that the settings define."""
        return cls(config.events, config.source.columns.by_position)

    def end_of(self, day: date) -> datetime:
        """End of the snapshot of ``day``, exclusive, naive UTC."""
        return datetime.max if self.by_position else end_of(day)

    def table(self) -> pa.Table:
        """One row for each event type, as sql/sequences.sql reads it."""
        types = self.events.types or {"": EventType()}
        return pa.table(
            {
                "event_type": pa.array(types, pa.string()),
                "factor": pa.array([kind.weight for kind in types.values()], pa.float64()),
                columns.IS_TARGET: pa.array([kind.target for kind in types.values()], pa.bool_()),
                columns.IS_SEEN: pa.array([kind.seen for kind in types.values()], pa.bool_()),
                "linear": pa.array([self.events.weight_scale == "linear"] * len(types), pa.bool_()),
                "least_target": pa.array([self.events.min_weight_as_target] * len(types), pa.float64()),
            }
        )


def _give_meaning(connection: duckdb.DuckDBPyConnection, meaning: Meaning, end: datetime) -> None:
    """Create the macros ``valued`` and ``shard_of`` in this connection.

    Raises:
        ConfigError: there are events of a type that is missing in [events].
    """
    connection.register("meanings", meaning.table())
    unnamed = [row["event_type"] for row in rows(connection, "sequences/unnamed_types", {"end_time": end})]
    if unnamed:
        shown = ", ".join(f"of type {name!r}" if name else "without a type" for name in unnamed)
        raise ConfigError(
            f"The warehouse holds events {shown}, of which [events] says nothing. Say what they mean by a table, such "
            f'as [events."{unnamed[-1]}"] with weight = 1.0.'
        )
    connection.execute(statement("sequences/create_taken_back"), {"end_time": end})
    connection.execute(statement("sequences/create_meant"))
    connection.execute(statement("sequences/create_shard_of"))
    name = "sequences/create_valued_by_position" if meaning.by_position else "sequences/create_valued"
    connection.execute(statement(name))


def write_snapshot(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    day: date,
    shards: int | None,
    meaning: Meaning | None = None,
) -> SnapshotManifest:
    """Write the snapshot of ``day`` into a folder.

    Args:
        connection: the warehouse; it is only read.
        folder: an empty folder, created if missing; ``Storage.write_folder`` makes it replace an older one atomically.
        day: the last UTC day of the snapshot.
        shards: number of shards; users are assigned by a hash of their id. None: see :func:`shards_for`.
        meaning: how to interpret the events; None: each is a target and has its own weight.

    Returns:
        The manifest, as written to manifest.json.

    Raises:
        ConfigError: there are events of a type that is missing in [events].
        InputError: the warehouse has no event before the end of ``day``, or none that is a target.
    """
    meaning = meaning or Meaning()
    end = meaning.end_of(day)
    if is_empty(connection):
        raise InputError("The warehouse is empty. Put files into the landing folder and run ingest first.")
    _give_meaning(connection, meaning, end)
    connection.execute(statement("sequences/count_events"), {"end_time": end})
    totals = one(connection, "sequences/totals", {"end_time": end})
    events = int(totals["events"])
    if totals["newest_event"] is None:
        raise InputError(
            f"The warehouse has no event before the end of {day}. Check --day, or run ingest with that day's files."
        )
    if not totals["targets"]:
        raise InputError(
            f"No event before the end of {day} is a target, so that there is nothing to learn: each is a return, or "
            "taken back by one, or of weight 0, or below events.min_weight_as_target, or of a type that [events] says "
            "is no target. Check source.columns.weight, where a negative number is a return, and [events]."
        )
    shards = shards or shards_for(totals["users"])
    rows_of = _write_events(connection, folder, end, shards, events)
    catalogue = connection.execute(statement("sequences/items"), {"end_time": end}).to_arrow_table()
    pq.write_table(catalogue.cast(_schema_of(catalogue)), folder / ITEMS, compression="zstd")
    names = [shard_name(shard) for shard in range(shards)] + [ITEMS]
    files = [
        SnapshotFile(name=name, rows=count, bytes=(folder / name).stat().st_size, sha256=sha256(folder / name))
        for name, count in zip(names, [*rows_of, catalogue.num_rows], strict=True)
    ]
    manifest = SnapshotManifest(
        day=day,
        end=end,
        by_position=meaning.by_position,
        shards=shards,
        users=totals["users"],
        events=events,
        items=catalogue.num_rows,
        newest_event=None if meaning.by_position else totals["newest_event"],
        batch=totals["batch"],
        files=tuple(files),
        digest=digest([[file.name, file.sha256] for file in files]),
    )
    if sum(rows_of) != events:
        raise AssertionError(f"wrote {sum(rows_of)} of {events} events")
    manifest.write(folder / MANIFEST)
    return manifest


@dataclass(frozen=True)
class Changes:
    """Changes since a snapshot: number of new events, of their users, and of all events of these users."""

    new_events: int
    users: int
    events: int


def write_changes(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    day: date,
    held: SnapshotManifest,
    meaning: Meaning,
) -> Changes:
    """Write the whole histories of users with events that a snapshot lacks, in the same shards.

    Args:
        connection: the warehouse; it is only read.
        folder: as for :func:`write_snapshot`; nothing is written if there are no new events.
        day: the last UTC day to include.
        held: the snapshot's manifest.
        meaning: how the snapshot interprets events.

    Raises:
        ConfigError: there are events of a type that is missing in [events].
    """
    until = {"end_time": meaning.end_of(day)}
    _give_meaning(connection, meaning, until["end_time"])
    since = {"held_time": held.end, "held_batch": held.batch}
    connection.execute(statement("sequences/changed_users"), {**until, **since})
    changed = one(connection, "sequences/changed_totals")
    if changed["users"]:
        _write_events(connection, folder, until["end_time"], held.shards, changed["events"])
    return Changes(changed["new_events"], changed["users"], changed["events"])
