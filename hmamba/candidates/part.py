"""Parquet format of one part of the candidates, shared by nights and refreshes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.columns import CANDIDATES, SCORE, USER_ID

PLAIN = pa.schema(CANDIDATES)
"""The schema that readers see: text columns as strings."""

CODED = pa.schema(
    [
        field.with_type(pa.dictionary(pa.int32(), pa.string())) if pa.types.is_string(field.type) else field
        for field in PLAIN
    ]
)
"""The same schema with text dictionary-encoded, as in the file: rows are copied without decoding strings."""


def part_writer(path: Path, schema: pa.Schema = PLAIN) -> pq.ParquetWriter:
    """Open a Parquet writer for candidates.

    Scores rarely repeat: dictionary-encoding them would take a third of the writing time and be discarded. Row-group
    statistics are written for user_id only: rows are sorted by user, so they let a reader skip row groups. Every row
    group holds all ranks and most items; statistics of those columns would skip nothing and take a tenth of the
    writing time.
    """
    coded = [field.name for field in PLAIN if field.name != SCORE]
    return pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=coded, write_statistics=[USER_ID], store_schema=False
    )
