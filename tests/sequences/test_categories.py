"""Numbers of categories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.sequences.categories import Categories, number_categories, read_categories

PATHS = pa.array(
    [["food", "milk"], ["food", "milk"], ["food", "bread"], ["food"], None, [], ["toys", "milk"], ["food", None]],
    pa.list_(pa.string()),
)
INDEX = np.array([1, 2, 3, 4, 5, 6, 8, 9])  # 7 is a gap


def groups(category: np.ndarray) -> set[frozenset[int]]:
    """Indices that share a category."""
    return {frozenset(np.flatnonzero(category == one).tolist()) for one in np.unique(category)}


def alone(*indices: int) -> set[frozenset[int]]:
    return {frozenset([index]) for index in indices}


def test_items_of_one_path_are_of_one_category_and_others_are_alone() -> None:
    assert groups(number_categories(PATHS, INDEX, 10, 1)) == {frozenset([1, 2, 3, 4, 9])} | alone(0, 5, 6, 7, 8)
    narrow = number_categories(PATHS, INDEX, 10, 2)
    assert groups(narrow) == {frozenset([1, 2])} | alone(0, 3, 4, 5, 6, 7, 8, 9)
    assert sorted(set(narrow.tolist())) == list(range(9))


def test_levels_of_a_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item_index": pa.array(INDEX, pa.int32()), "category_path": PATHS}), path)
    found = read_categories(path, 10)
    assert found.depth == 2
    expected = [number_categories(PATHS, INDEX, 10, level) for level in (1, 2)]
    np.testing.assert_array_equal(found.numbers((1, 2)), expected)
    assert found.numbers(()) is None


@pytest.mark.parametrize("paths", [[], [[], []], [None, None]])
def test_without_paths_the_depth_is_zero(paths: list[list[str] | None]) -> None:
    index = np.arange(len(paths)) + 1
    assert Categories(pa.array(paths, pa.list_(pa.string())), index, len(paths) + 1).depth == 0
