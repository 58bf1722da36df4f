"""One pull: what is new in the landing folder, checked, deduplicated and entered, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb

from hmamba.config import Config
from hmamba.errors import ConfigError
from hmamba.layout import Layout
from hmamba.quality.batch import BatchFigures, check_batch, check_rows, end_of
from hmamba.source.discover import SourceFile, find_files
from hmamba.statements import statement
from hmamba.warehouse.catalogue import apply_catalogue
from hmamba.warehouse.ledger import Selection, TakenFile, record, select_catalogue, select_interactions
from hmamba.warehouse.merge import Entry, Merged, merge
from hmamba.warehouse.refused import quarantine, tell_refusals
from hmamba.warehouse.staging import stage
from hmamba.warehouse.tables import Row, create_tables, one, rows

PULLS_COMPARED = 28


@dataclass(frozen=True)
class Found:
    """Files that are there, whether or not they are new."""

    interactions: tuple[SourceFile, ...]
    catalogue: tuple[SourceFile, ...]


@dataclass(frozen=True)
class Pull:
    """What a pull has to know."""

    layout: Layout
    config: Config
    day: date
    run_id: str


@dataclass(frozen=True)
class Outcome:
    """What a pull did. ``batch_id`` is None if there was nothing new."""

    batch_id: int | None
    files_skipped: int


def find(layout: Layout, config: Config) -> Found:
    """Look for files, without reading any.

    Raises:
        InputError: a folder does not exist, or a file has an unknown ending.
    """
    follow_links = config.source.follow_links
    interactions = find_files(config.source.path, layout.root, "source.path", follow_links=follow_links)
    catalogue = []
    if config.catalogue.path is not None:
        catalogue = find_files(config.catalogue.path, layout.root, "catalogue.path", follow_links=follow_links)
    return Found(tuple(interactions), tuple(catalogue))


def pull(connection: duckdb.DuckDBPyConnection, request: Pull, found: Found) -> Outcome:
    """Take in what is new, inside the transaction that the caller has begun and will commit.

    Args:
        connection: the warehouse, with a transaction begun. If this raises, roll it back.
        request: where, which day, which settings.
        found: from :func:`find`.

    Raises:
        InputError: a file is not what it should be, or changed while it was read.
        QualityError: the batch broke a batch rule, or a rule could not be computed.
    """
    started = _now()
    config = request.config
    _set_time_zone(connection, config.source.timezone)
    create_tables(connection)
    files = select_interactions(connection, found.interactions)
    catalogue = select_catalogue(connection, found.catalogue)
    if not files.to_load and not catalogue.to_load:
        return Outcome(None, files.skipped)
    history = one(connection, "ingest/history", {"pulls": PULLS_COMPARED})
    batch_id = history["last_batch"] + 1
    counts = stage(connection, files.to_load, config.source)
    refused = _refuse(connection, request, sum(counts))
    highest = one(connection, "ingest/highest_index")["item_index"]
    entry = Entry(
        batch_id=batch_id,
        loaded_at=_now(),
        late_before=_late_before(config, history),
        new_files=[number for number, taken in enumerate(files.to_load) if taken.is_new_path],
    )
    merged = merge(connection, sum(counts), entry)
    if sum(counts):
        _judge(connection, request, files.to_load, counts, history, refused, merged, entry)
    for name in ("add_items", "first_seen", "index_items"):
        connection.execute(statement(f"ingest/{name}"))
    for row in rows(connection, "ingest/refused_by_file"):
        quarantine(connection, batch_id, "interactions", row["file"], files.to_load[row["file"]])
    connection.execute(statement("ingest/drop_staged"))
    _enter_files(connection, batch_id, files, counts)
    apply_catalogue(connection, config, catalogue, batch_id)
    connection.execute(
        statement("ingest/add_batch"),
        {
            "batch_id": batch_id,
            "day": request.day,
            "run_id": request.run_id,
            "source": f"{config.source.kind}:{config.source.path}",
            "started_at": started,
            "loaded_at": entry.loaded_at,
            "watermark_from": history["watermark"],
            "rows_read": sum(counts),
            "rows_loaded": merged.loaded,
            "rows_duplicate": merged.duplicate,
            "rows_quarantined": refused,
            "rows_late": merged.late,
            "items_new": one(connection, "ingest/new_indices", {"highest_before": highest})["items"],
        },
    )
    _check(connection, batch_id, sum(counts), merged)
    return Outcome(batch_id, files.skipped)


def _now() -> datetime:
    """Naive UTC. It only says when a row was entered; what is processed never depends on it."""
    return datetime.now(UTC).replace(tzinfo=None)


def _set_time_zone(connection: duckdb.DuckDBPyConnection, zone: str) -> None:
    try:
        connection.execute(statement("ingest/set_time_zone"), {"zone": zone})
    except duckdb.Error:
        raise ConfigError(
            f"source.timezone = {zone!r} is not known. Give a name such as UTC or Europe/Paris."
        ) from None


def _refuse(connection: duckdb.DuckDBPyConnection, request: Pull, total: int) -> int:
    """Apply the row rules to the staged batch; leaves the temporary tables ``broken`` and ``refused``.

    Returns:
        How many rows are refused.
    """
    connection.execute(statement("ingest/create_broken"))
    if total:
        check_rows(connection, request.config, request.day, total)
    connection.execute(statement("ingest/create_refused"))
    return int(one(connection, "ingest/refused_count")["rows"])


def _late_before(config: Config, history: Row) -> datetime | None:
    watermark: datetime | None = history["watermark"]
    return None if watermark is None else watermark - timedelta(days=config.warehouse.overlap_days)


def _judge(
    connection: duckdb.DuckDBPyConnection,
    request: Pull,
    files: Sequence[TakenFile],
    counts: Sequence[int],
    history: Row,
    refused: int,
    merged: Merged,
    entry: Entry,
) -> None:
    """Apply the batch rules, some of which need to know what was new. If one is broken, the caller takes all back.

    Raises:
        QualityError: a rule is broken.
    """
    total = sum(counts)
    in_new_files = sum(counts[number] for number in entry.new_files)
    newest = max((time for time in (merged.newest, history["watermark"]) if time is not None), default=None)
    refusals = tell_refusals(connection, files, counts, request.config)
    batch = BatchFigures(
        rows=total,
        quarantined=refused,
        whole_files=refusals.whole_files,
        duplicate_share=merged.known_in_new_files / max(in_new_files, 1),
        volume_ratio=None if history["usual_rows"] is None else total / history["usual_rows"],
        staleness_days=None if newest is None else (end_of(request.day) - newest) / timedelta(days=1),
        broken={row["rule"]: row["rows"] for row in rows(connection, "ingest/broken_counts")},
    )
    run_name = f"{request.day} {request.run_id}, batch {entry.batch_id}"
    check_batch(request.layout.expectations, request.config.quality, batch, run_name, refusals.examples)


def _enter_files(
    connection: duckdb.DuckDBPyConnection, batch_id: int, selection: Selection, counts: Sequence[int]
) -> None:
    of_loaded = iter(counts)
    for taken in selection.taken:
        record(connection, batch_id, "interactions", taken, next(of_loaded) if taken.state == "loaded" else 0)


def _check(connection: duckdb.DuckDBPyConnection, batch_id: int, read: int, merged: Merged) -> None:
    """Count again, in the tables themselves. What does not add up is a fault of this project."""
    found = one(connection, "ingest/check_batch", {"batch_id": batch_id})
    if read != found["loaded"] + merged.duplicate + found["quarantined"]:
        raise AssertionError(f"batch {batch_id}: read {read}, but {found} and {merged.duplicate} duplicates")
    if not found["indexed"] == found["highest_index"] == found["distinct_indices"] or found["repeated_items"]:
        raise AssertionError(f"batch {batch_id}: item_index is not dense and unique: {found}")


def batch_facts(connection: duckdb.DuckDBPyConnection, batch_id: int) -> dict[str, Any]:
    """What the warehouse holds about a batch, for the step's facts."""
    facts = one(connection, "ingest/batch_facts", {"batch_id": batch_id})
    by_rule = rows(connection, "ingest/quarantined_by_rule", {"batch_id": batch_id})
    return {**facts, "quarantined_by_rule": {row["rule"]: row["rows"] for row in by_rule}}


def batch_of_run(connection: duckdb.DuckDBPyConnection, day: date, run_id: str) -> int | None:
    """The last batch that a run entered before, or None."""
    found = one(connection, "ingest/batch_of_run", {"day": day, "run_id": run_id})["batch_id"]
    return None if found is None else int(found)
