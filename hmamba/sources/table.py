"""An in-memory Arrow table of interactions or items as a part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hmamba.sources.base import LINE, MALFORMED, Part, Reading, require_columns

_ROWS = 1 << 16  # rows per batch


@dataclass(frozen=True, kw_only=True)
class TablePart(Part):
    """A table as a part. Its lines are row numbers from 0."""

    table: pa.Table

    @classmethod
    def of(cls, table: pa.Table, name: str) -> TablePart:
        """Make a part of a table; ``name`` is used in messages."""
        return cls(table=table, name=name, size=len(table), digest="")

    def open(self, wanted: Iterable[str]) -> Reading:
        """Check the table's columns."""
        require_columns(self.name, wanted, self.table.column_names)
        return Reading(self.name, tuple(self.table.column_names), self._batches)

    def _batches(self, only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        names = self.table.column_names if only is None else list(only)
        first = 0
        for batch in self.table.select(names).to_batches(max_chunksize=_ROWS):
            lines = pa.array(np.arange(first, first + len(batch)))
            yield pa.RecordBatch.from_arrays(
                [lines, pa.nulls(len(batch), pa.string()), *batch.columns], [LINE, MALFORMED, *names]
            )
            first += len(batch)
