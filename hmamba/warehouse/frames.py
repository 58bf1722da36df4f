"""Load Arrow tables into an in-memory warehouse: row rules and merge as in a pull, without ledger and quarantine."""

from __future__ import annotations

import logging
from datetime import date

import duckdb
import pyarrow as pa

from hmamba import clock
from hmamba.config import Config
from hmamba.errors import InputError
from hmamba.sources.base import Selection
from hmamba.sources.table import TablePart
from hmamba.statements import statement
from hmamba.warehouse.merge import Entry, merge
from hmamba.warehouse.metadata import apply_catalogue, catalogue_warning
from hmamba.warehouse.refused import ReadPart, doubtful_ids, first_refused, refuse_rows, tell_refusals
from hmamba.warehouse.staging import stage
from hmamba.warehouse.tables import create_tables

log = logging.getLogger("hmamba")


def load_frames(
    connection: duckdb.DuckDBPyConnection, config: Config, interactions: pa.Table, items: pa.Table | None
) -> date:
    """Load interactions and item metadata into an empty warehouse.

    Args:
        connection: an in-memory database; the tables are created.
        config: column names and formats.
        interactions: one row per event, with the columns of ``source.columns``.
        items: one row per item, with the columns of ``catalogue``; None if there is no metadata.

    Returns:
        The day of the newest event.

    Raises:
        InputError: a column is missing or has an unsupported type, a row breaks a rule, or there are no rows.
        QualityError: no row of ``items`` can be read.
    """
    create_tables(connection)
    part = TablePart.of(interactions, "interactions")
    (count,) = stage(connection, [part], config.source)
    if not count:
        raise InputError("interactions has no rows.")
    if refused := refuse_rows(connection, config, first_refused(config), count):
        refusals = tell_refusals(connection, [ReadPart(part, count)], config.source.columns.wanted, config)
        raise InputError(f"{refused} of {count} rows of interactions cannot be used. {refusals.examples}".strip())
    merged = merge(connection, count, Entry(1, clock.now(), None, [0]))
    if merged.duplicate:
        log.info("interactions: %d of %d rows are copies of another row, and count once", merged.duplicate, count)
    warnings = doubtful_ids(connection)
    assert merged.newest is not None  # rows that are not refused have a time
    for name in ("merge/add_items", "merge/first_seen", "merge/index_items", "ingest/drop_staged"):
        connection.execute(statement(name))
    if items is not None:
        apply_catalogue(connection, config, Selection((TablePart.of(items, "items"),), 0), 1)
        connection.execute(statement("catalogue/index_items"))
        warnings += [warning for warning in [catalogue_warning(connection, "items")] if warning is not None]
    for warning in warnings:
        log.warning("%s", warning)
    return merged.newest.date()
