"""An in-memory Arrow table of interactions or items as a part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hmamba.sources.base import Part, Reading, require_columns, with_lines

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
        table = self.table if only is None else self.table.select(list(only))
        return with_lines(table.to_batches(max_chunksize=_ROWS), 0)
