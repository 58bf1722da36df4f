"""A table in memory is read in batches, by column, with its row numbers."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hmamba.errors import InputError
from hmamba.sources import table as table_module
from hmamba.sources.base import LINE, MALFORMED
from hmamba.sources.table import TablePart

TABLE = pa.table({"user": ["a", "b", "c", "d", "e"], "item": [1, 2, 3, 4, 5]})


@pytest.mark.parametrize("chunks", [[TABLE], [TABLE.slice(0, 3), TABLE.slice(3)]])
def test_lines_number_the_rows_over_all_batches(monkeypatch: pytest.MonkeyPatch, chunks: list[pa.Table]) -> None:
    monkeypatch.setattr(table_module, "_ROWS", 2)
    part = TablePart.of(pa.concat_tables(chunks), "interactions")
    batches = list(part.open(["user"]).batches(None))
    assert max(len(batch) for batch in batches) == 2
    read = pa.Table.from_batches(batches)
    assert read.column_names == [LINE, MALFORMED, "user", "item"]
    assert read[LINE].to_pylist() == [0, 1, 2, 3, 4]
    assert read[MALFORMED].null_count == 5
    assert read.select(["user", "item"]).to_pydict() == TABLE.to_pydict()


def test_columns_come_in_the_order_asked_for() -> None:
    part = TablePart.of(TABLE, "interactions")
    (batch,) = part.open(["user", "item"]).batches(["item", "user"])
    assert batch.schema.names == [LINE, MALFORMED, "item", "user"]
    assert part.size == 5


def test_a_missing_column_is_named_with_the_table() -> None:
    with pytest.raises(InputError, match=r"^interactions.*'when'"):
        TablePart.of(TABLE, "interactions").open(["user", "when"])
