"""Writing the Parquet files of tables, and what is recorded of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.columns import SCORE, TABLES
from hmamba.contracts.tables import WrittenTable
from hmamba.storage.local import sha256


def writer(path: Path, name: str, metadata: Mapping[str, str] | None = None) -> pq.ParquetWriter:
    """Open a Parquet writer for the table ``name``, with key-value metadata for readers."""
    schema = pa.schema(TABLES[name], metadata=dict(metadata or {}))
    # Scores and coordinates rarely repeat; a dictionary of them would be written and discarded.
    coded = [field.name for field in schema if field.name != SCORE and not pa.types.is_list(field.type)]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=coded)


def write(path: Path, name: str, tables: Iterable[pa.Table | pa.RecordBatch]) -> None:
    """Write the rows of the table ``name``."""
    with writer(path, name) as parquet:
        for table in tables:
            batch = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
            parquet.write_table(batch.cast(pa.schema(TABLES[name])))


def described(path: Path, name: str, made_with: str) -> WrittenTable:
    """What is recorded of a file that is complete.

    Args:
        path: a local file.
        name: its name in the run's folder of tables.
        made_with: as :attr:`WrittenTable.made_with`.
    """
    rows = pq.read_metadata(path).num_rows
    return WrittenTable(name=name, bytes=path.stat().st_size, sha256=sha256(path), rows=rows, made_with=made_with)
