"""The item catalogue: titles and category paths from the user's own file, laid over the items."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import duckdb
import numpy as np
import pyarrow as pa

from hmamba.config import CatalogueConfig
from hmamba.source.read import Reading
from hmamba.source.text import LINE, MALFORMED
from hmamba.statements import statement
from hmamba.warehouse.ledger import Selection, record
from hmamba.warehouse.staging import chunk_of, pointer, quarantine, read_unchanged
from hmamba.warehouse.tables import rows


def _levels(batch: pa.RecordBatch, names: Sequence[str]) -> pa.Array:
    """The category path of each row, as a list of strings; a single column may hold the list already."""
    columns = [batch.column(name) for name in names]
    if len(columns) == 1 and pa.types.is_list(columns[0].type):
        return columns[0].cast(pa.list_(pa.string()))
    count, depth = batch.num_rows, len(columns)
    offsets = pa.array(np.arange(count + 1) * depth, pa.int32())
    if not columns:
        return pa.ListArray.from_arrays(offsets, pa.array([], pa.string()))
    by_row = np.arange(count * depth).reshape(depth, count).T.ravel()
    values = pa.concat_arrays([column.cast(pa.string()) for column in columns])
    return pa.ListArray.from_arrays(offsets, values.take(pa.array(by_row)))


def _stage(
    connection: duckdb.DuckDBPyConnection,
    config: CatalogueConfig,
    number: int,
    reading: Reading,
    batch: pa.RecordBatch,
    _: int,
) -> None:
    if reading.columns is None:
        values = {
            "file": number,
            "item_id": pointer(config.item_id),
            "titled": config.title is not None,
            "title": pointer(config.title or config.item_id),
            "levels": [pointer(level) for level in config.category_path],
        }
        connection.execute(statement("ingest/stage_catalogue_records"), values)
        return
    count = batch.num_rows
    titles = pa.nulls(count, pa.string()) if config.title is None else batch.column(config.title)
    picked = [
        batch.column(LINE),
        batch.column(MALFORMED),
        batch.column(config.item_id),
        titles,
        _levels(batch, config.category_path),
    ]
    with chunk_of(connection, pa.RecordBatch.from_arrays(picked, [LINE, MALFORMED, "item_id", "title", "levels"])):
        connection.execute(statement("ingest/stage_catalogue_columns"), {"file": number})


def apply_catalogue(
    connection: duckdb.DuckDBPyConnection,
    config: CatalogueConfig,
    max_id_length: int,
    selection: Selection,
    batch_id: int,
) -> None:
    """Lay the catalogue's files over the items, later files and rows over earlier ones. The caller commits.

    Rows without a usable id go to quarantine; they are not part of the batch's counts, which are of interactions.

    Raises:
        InputError: a file is not what its name says, lacks a column, or changed while it was read.
    """
    files = selection.to_load
    if not files:
        return
    wanted = [config.item_id, *([] if config.title is None else [config.title]), *config.category_path]
    connection.execute(statement("ingest/create_catalogue"))
    for number, taken in enumerate(files):
        lists = config.category_path if len(config.category_path) == 1 else ()
        count = read_unchanged(connection, taken, wanted, partial(_stage, connection, config, number), lists)
        record(connection, batch_id, "catalogue", taken, count)
    connection.execute(statement("ingest/refuse_catalogue"), {"max_id_length": max_id_length})
    for row in rows(connection, "ingest/refused_by_file"):
        quarantine(connection, batch_id, "catalogue", row["file"], files[row["file"]])
    for name in ("add_catalogue_items", "describe_items"):
        connection.execute(statement(f"ingest/{name}"))
