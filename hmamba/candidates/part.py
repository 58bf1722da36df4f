"""How a part of the candidates is written: the night's and a refresh's parts are alike."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.columns import CANDIDATES, SCORE, USER_ID

PLAIN = pa.schema(CANDIDATES)
"""With text as text, which is how readers find it, whoever wrote the part."""

CODED = pa.schema(
    [
        field.with_type(pa.dictionary(pa.int32(), pa.string())) if pa.types.is_string(field.type) else field
        for field in PLAIN
    ]
)
"""With text as codes of a dictionary, which is how the file holds it: rows move at the cost of numbers."""


def part_writer(path: Path, schema: pa.Schema = PLAIN) -> pq.ParquetWriter:
    """A writer of rows of this schema.

    Scores hardly ever repeat, so a dictionary of them would be built and thrown away: a third of the time of writing.
    Rows are sorted by user, so bounds of their ids find a reader the users wanted. Every group of rows holds all ranks
    and most items; bounds of those would find nobody anything, and take a tenth of the time of writing.
    """
    coded = [field.name for field in PLAIN if field.name != SCORE]
    return pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=coded, write_statistics=[USER_ID], store_schema=False
    )
