"""A pull: select, check, deduplicate and load new source parts, in the caller's transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import duckdb

from hmamba import clock
from hmamba.clock import end_of, start_of
from hmamba.config import Config
from hmamba.errors import ConfigError, InputError
from hmamba.quality.batch import BatchFigures, check_batch, stale_warning
from hmamba.sources.base import Part, Selection, Source
from hmamba.sources.discover import SourceFile
from hmamba.sources.files import select_catalogue
from hmamba.statements import Row, one, rows, statement
from hmamba.storage.layout import Layout
from hmamba.warehouse.days import Considered, check_gap, consider, everything, staleness
from hmamba.warehouse.forgotten import drop_forgotten
from hmamba.warehouse.ledger import entries, record
from hmamba.warehouse.merge import Entry, Merged, merge
from hmamba.warehouse.metadata import apply_catalogue, read_as
from hmamba.warehouse.refused import ReadPart, doubtful_ids, first_refused, quarantine, refuse_rows, tell_refusals
from hmamba.warehouse.staging import stage
from hmamba.warehouse.tables import create_tables

log = logging.getLogger("hmamba")

PULLS_COMPARED = 28


@dataclass(frozen=True)
class Pull:
    """Parameters of a pull.

    Attributes:
        layout: the root.
        config: the settings.
        day: the day that is processed; rows of later days stay in their parts.
        run_id: id of the run.
        source: the source of interactions.
        catalogue: all catalogue files, new or not.
        any_day: skip the check of quality.max_day_gap.
    """

    layout: Layout
    config: Config
    day: date
    run_id: str
    source: Source
    catalogue: Sequence[SourceFile] = ()
    any_day: bool = False


@dataclass(frozen=True)
class Outcome:
    """Result of a pull.

    Attributes:
        batch_id: number of the batch; None if there was nothing new.
        files_skipped: number of parts that were not read because nothing in them is new.
        staleness_days: age of the newest event at the end of the day; None without events or times.
        warnings: sentences for the user.
    """

    batch_id: int | None
    files_skipped: int
    staleness_days: float | None
    warnings: tuple[str, ...]


def pull(connection: duckdb.DuckDBPyConnection, request: Pull) -> Outcome:
    """Load new data inside the transaction that the caller has begun and will commit.

    Args:
        connection: the warehouse, with an open transaction; the caller rolls it back if this raises.
        request: parameters of the pull.

    Raises:
        ConfigError: the time zone is unknown, or the order (times or positions) differs from that of the warehouse.
        InputError: a part is invalid or changed while it was read; a first pull finds no rows; or the day is more than
            quality.max_day_gap days after the newest event.
        QualityError: the batch, or its absence, broke a rule, or a rule could not be computed.
    """
    _set_time_zone(connection, request.config.source.timezone)
    create_tables(connection)
    _check_order(connection, request)
    selection = request.source.select(entries(connection, "interactions"), request.day)
    catalogue = select_catalogue(entries(connection, "catalogue"), request.catalogue, read_as(request.config))
    history = one(
        connection, "ledger/history", {"pulls": PULLS_COMPARED, "day": request.day, "past": end_of(request.day)}
    )
    if history["watermark"] is None and request.source.is_empty:
        raise request.source.nothing(())
    if selection.to_load or catalogue.to_load:
        batch_id, newest, warnings = _enter(connection, request, selection, catalogue, history)
    else:
        batch_id, newest, warnings = None, history["newest"], []
        _judge(request, history, BatchFigures(rows=0, staleness_days=_age(request, newest)), "")
    if not request.any_day:
        check_gap(request.config, request.day, _later(newest, history["watermark"]))
    age = _age(request, newest)
    stale = stale_warning(request.config.quality, age)
    return Outcome(batch_id, selection.skipped, age, (*warnings, *([] if stale is None else [stale])))


def _enter(
    connection: duckdb.DuckDBPyConnection, request: Pull, selection: Selection, catalogue: Selection, history: Row
) -> tuple[int, datetime | None, list[str]]:
    """Load a batch from at least one new part.

    Returns:
        The batch number, the time of the newest event up to the end of the day in the warehouse, and warnings.
    """
    started, config = clock.now(), request.config
    refused_from = first_refused(config)
    batch_id, parts = history["last_batch"] + 1, selection.to_load
    read = _stage(connection, request, parts, refused_from)
    total, wanted = sum(read.rows), config.source.columns.wanted
    forgotten = drop_forgotten(connection) if total else 0
    refused = refuse_rows(connection, config, refused_from, read.positions if total else 0)
    if read.first_left is not None and total == refused and history["newest"] is None:
        raise _all_later(request.day, read)
    if not total and parts and history["watermark"] is None:
        raise request.source.nothing(parts)
    entry = Entry(
        batch_id=batch_id,
        loaded_at=clock.now(),
        late_before=_late_before(config, history),
        new_files=[number for number, part in enumerate(parts) if part.is_new],
    )
    merged = merge(connection, total, entry)
    newest = _later(merged.newest, history["newest"])
    warnings = doubtful_ids(connection)
    each = [ReadPart(*counted) for counted in zip(parts, read.rows, read.left, strict=True)]
    refusals = tell_refusals(connection, each, wanted, config)
    in_new_files = sum(read.rows[number] for number in entry.new_files)
    figures = BatchFigures(
        rows=total,
        quarantined_share=refusals.share,
        whole_files=refusals.whole_files,
        duplicate_share=merged.known_in_new_files / max(in_new_files, 1),
        staleness_days=_age(request, newest),
        broken={row["rule"]: row["rows"] for row in rows(connection, "ingest/broken_counts")},
    )
    _judge(request, history, figures, refusals.examples)
    connection.execute(statement("merge/add_items"))
    items_new = one(connection, "merge/count_new")["items"]
    for name in ("merge/first_seen", "merge/index_items"):
        connection.execute(statement(name))
    quarantine(connection, batch_id, "interactions", parts, wanted)
    connection.execute(statement("ingest/drop_staged"))
    _enter_parts(connection, batch_id, selection, read)
    apply_catalogue(connection, config, catalogue, batch_id)
    connection.execute(statement("catalogue/index_items"))
    connection.execute(
        statement("ledger/add_batch"),
        {
            "batch_id": batch_id,
            "day": request.day,
            "run_id": request.run_id,
            "source": f"{config.source.kind}:{config.source.path}",
            "started_at": started,
            "loaded_at": entry.loaded_at,
            "watermark_from": history["watermark"],
            "rows_read": total,
            "rows_loaded": merged.loaded,
            "rows_duplicate": merged.duplicate,
            "rows_quarantined": refused,
            "rows_forgotten": forgotten,
            "rows_late": merged.late,
            "items_new": items_new,
            "rows_left": sum(read.left),
            "by_position": request.config.source.columns.by_position,
        },
    )
    _check(connection, batch_id, total - forgotten, merged)
    return batch_id, newest, warnings


def _later(*times: datetime | None) -> datetime | None:
    return max((time for time in times if time is not None), default=None)


def _stage(
    connection: duckdb.DuckDBPyConnection, request: Pull, parts: Sequence[Part], refused_from: datetime
) -> Considered:
    """Read the parts into ``staged`` and keep only the rows of the day or earlier days."""
    try:
        counts = stage(connection, parts, request.config.source)
    except InputError as error:
        raise request.source.explained(error, parts) from None
    if request.config.source.columns.by_position:
        return everything(counts)
    read = consider(connection, parts, counts, request.day, refused_from)
    if sum(read.left):
        log.info("%d rows of days after %s are left in their files, for a later --day", sum(read.left), request.day)
    return read


def _all_later(day: date, read: Considered) -> InputError:
    first, last = (str(time) for time in (read.first_left, read.last_left))
    return InputError(
        f"--day {day}: all {sum(read.left)} events that could be read lie after it, from {first} to {last} (UTC), and "
        f"the warehouse holds none up to it. Give --day {last[:10]}, or a day from {first[:10]} on."
    )


def _set_time_zone(connection: duckdb.DuckDBPyConnection, zone: str) -> None:
    try:
        connection.execute(statement("ingest/set_time_zone"), {"zone": zone})
    except duckdb.Error:
        raise ConfigError(
            f"source.timezone = {zone!r} is not known. Give a name such as UTC or Europe/Paris."
        ) from None


def _check_order(connection: duckdb.DuckDBPyConnection, request: Pull) -> None:
    """Refuse to mix positions and times in one warehouse: the events of every user would be in a wrong order."""
    by_position = request.config.source.columns.by_position
    if one(connection, "ledger/ordered_otherwise", {"by_position": by_position})["batches"]:
        now, before = ("positions", "times") if by_position else ("times", "positions")
        raise ConfigError(
            f"The warehouse's events are ordered by {before}, and source.columns says that new ones are ordered by "
            f"{now}. Set source.columns as it was, or begin a new root."
        )


def _late_before(config: Config, history: Row) -> datetime | None:
    watermark: datetime | None = history["watermark"]
    if watermark is None:
        return None
    overlap = timedelta(days=config.warehouse.overlap_days)
    return watermark - min(overlap, watermark - datetime.min)


def _age(request: Pull, newest: datetime | None) -> float | None:
    """Age in days of the newest event at the end of the day; None without events or times."""
    return None if request.config.source.columns.by_position else staleness(request.day, newest)


def _judge(request: Pull, history: Row, figures: BatchFigures, examples: str) -> None:
    """Apply the batch rules, also to an empty pull.

    The volume is judged only with a history, and not if the absence of rows is expected.

    Raises:
        QualityError: a rule is broken; the caller rolls back.
    """
    usual = history["usual_rows"]
    if usual is not None and (figures.rows or _is_silent(request, history)):
        figures = replace(figures, volume_ratio=figures.rows / usual, usual_rows=usual)
    run_name = f"{request.day} {request.run_id}, batch {history['last_batch'] + 1}"
    check_batch(request.layout.checks, request.config.quality, figures, run_name, examples)


def _is_silent(request: Pull, history: Row) -> bool:
    """Whether a pull without new rows means that data for the day is missing.

    It does not if the day is not over (hourly pulls), if an earlier pull of the day found rows, or if the warehouse
    already holds events of the day or of later days (an old day is processed again).
    """
    start, past = start_of(request.day), end_of(request.day)
    is_held = history["watermark"] is not None and history["watermark"] >= start
    return not (request.config.source.columns.by_position or history["is_entered"] or is_held or clock.now() < past)


def _enter_parts(connection: duckdb.DuckDBPyConnection, batch_id: int, selection: Selection, read: Considered) -> None:
    counts = iter(zip(read.rows, read.left, read.rests, strict=True))
    for part in selection.taken:
        record(connection, batch_id, "interactions", part, *(next(counts) if part.state == "loaded" else (0,)))


def _check(connection: duckdb.DuckDBPyConnection, batch_id: int, read: int, merged: Merged) -> None:
    """Check the batch's counts against the tables; a mismatch is a bug of this project."""
    found = one(connection, "ledger/check_batch", {"batch_id": batch_id})
    if read != found["loaded"] + merged.duplicate + found["quarantined"]:
        raise AssertionError(f"batch {batch_id}: read {read}, but {found} and {merged.duplicate} duplicates")
    if not found["indexed"] == found["highest_index"] == found["distinct_indices"] or found["repeated_items"]:
        raise AssertionError(f"batch {batch_id}: item_index is not dense and unique: {found}")


def batch_metrics(connection: duckdb.DuckDBPyConnection, batch_id: int) -> Row:
    """Metrics of a batch, with the field names of :class:`hmamba.contracts.IngestMetrics`."""
    batch = one(connection, "ledger/batch_facts", {"batch_id": batch_id})
    by_rule = rows(connection, "ledger/quarantined_by_rule", {"batch_id": batch_id})
    return {**batch, "quarantined_by_rule": {row["rule"]: row["rows"] for row in by_rule}}


def batch_of_run(connection: duckdb.DuckDBPyConnection, day: date, run_id: str) -> int | None:
    """The last batch that a run has loaded, or None."""
    found = one(connection, "ledger/batch_of_run", {"day": day, "run_id": run_id})["batch_id"]
    return None if found is None else int(found)
