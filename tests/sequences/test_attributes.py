"""Attributes of items as a sparse matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.sequences.attributes import attribute_matrix, read_attributes


def test_an_attribute_that_is_given_twice_counts_once() -> None:
    values = pa.array([["red", "red", None], None, [], ["blue", "red"]], pa.list_(pa.string()))
    matrix = attribute_matrix(np.array([4, 1, 2, 3]), values, 6)
    assert matrix is not None
    dense = matrix.toarray()
    assert dense.shape == (6, 2)
    assert dense.sum(axis=1).tolist() == [0, 0, 0, 2, 1, 0]
    assert dense.max() == 1


def test_without_a_value_there_is_no_matrix() -> None:
    assert attribute_matrix(np.array([1]), pa.array([[]], pa.list_(pa.string())), 2) is None
    assert attribute_matrix(np.array([1]), pa.array([[None]], pa.list_(pa.string())), 2) is None


def test_a_snapshot_from_before_there_were_attributes_has_none(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_index": pa.array([1], pa.int32())}), path)
    assert read_attributes(path, 2) is None
