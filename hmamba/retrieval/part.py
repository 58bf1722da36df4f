"""How a part of the candidates is written: the night's and a refresh's parts are alike."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.columns import CANDIDATES, ITEM_ID, SCORE

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
    Every group of rows holds most items, so bounds of their ids would find nobody anything.
    """
    coded = [field.name for field in PLAIN if field.name != SCORE]
    bounded = [field.name for field in PLAIN if field.name != ITEM_ID]
    return pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=coded, write_statistics=bounded, store_schema=False
    )
