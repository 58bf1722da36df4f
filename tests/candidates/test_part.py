"""The files of candidates: their schema, and what a reader can skip."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.candidates.part import PLAIN, coded, part_writer

ROWS = pa.table(
    {
        "user_id": ["a", "a", "b"],
        "rank": pa.array([1, 2, 1], pa.int32()),
        "item_id": ["x", "y", "x"],
        "score": pa.array([0.5, 0.25, 0.75], pa.float32()),
        "model_version": ["v1"] * 3,
    }
)


@pytest.mark.parametrize("schema", [PLAIN, coded(PLAIN)])
def test_readers_see_strings_whichever_way_a_part_was_written(tmp_path, schema):
    with part_writer(tmp_path / "part.parquet", schema) as writer:
        writer.write_table(ROWS.cast(schema))
    table = pq.read_table(tmp_path / "part.parquet")
    assert table.schema.equals(PLAIN, check_metadata=True)
    assert table.to_pydict() == ROWS.to_pydict()


def test_groups_of_rows_have_bounds_of_users_only(tmp_path):
    with part_writer(tmp_path / "part.parquet") as writer:
        writer.write_table(ROWS)
    group = pq.ParquetFile(tmp_path / "part.parquet").metadata.row_group(0)
    columns = {group.column(number).path_in_schema: group.column(number) for number in range(group.num_columns)}
    bounds = {name: column.statistics for name, column in columns.items() if column.is_stats_set}
    assert {name: (found.min, found.max) for name, found in bounds.items()} == {"user_id": ("a", "b")}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert not columns["score"].has_dictionary_page
    assert columns["item_id"].has_dictionary_page
