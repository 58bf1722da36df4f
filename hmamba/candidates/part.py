"""Parquet format of one part of the candidates, shared by nights and refreshes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.columns import CANDIDATES, GROUP, REASON, SCORE, USER_ID

PLAIN = pa.schema(CANDIDATES)
"""The schema that readers see without optional columns: text columns as strings."""

_OPTIONAL = REASON | GROUP
"""Optional columns and their types, in the order of the table."""


def plain(optional: Iterable[str] = ()) -> pa.Schema:
    """The schema with these optional columns; names of other columns are ignored."""
    names = set(optional)
    return pa.schema({**CANDIDATES, **{name: kind for name, kind in _OPTIONAL.items() if name in names}})


def coded(schema: pa.Schema) -> pa.Schema:
    """The same schema with text dictionary-encoded, as in the file: rows are copied without decoding strings."""
    code = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([field.with_type(code) if pa.types.is_string(field.type) else field for field in schema])


def part_writer(path: Path, schema: pa.Schema = PLAIN) -> pq.ParquetWriter:
    """Open a Parquet writer for candidates.

    Scores rarely repeat: dictionary-encoding them would take a third of the writing time and be discarded. Row-group
    statistics are written for user_id only: rows are sorted by user, so they let a reader skip row groups. Every row
    group holds all ranks and most items; statistics of those columns would skip nothing and take a tenth of the
    writing time.
    """
    names = [name for name in schema.names if name != SCORE]
    return pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=names, write_statistics=[USER_ID], store_schema=False
    )
