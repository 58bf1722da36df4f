"""Numbers of categories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.errors import InputError
from hmamba.sequences.categories import number_categories, read_categories

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
    found = read_categories(path, 10, (1, 2))
    assert found is not None
    np.testing.assert_array_equal(found, [number_categories(PATHS, INDEX, 10, level) for level in (1, 2)])
    assert read_categories(path, 10, ()) is None


@pytest.mark.parametrize(("paths", "deepest"), [([[], []], 0), ([None, None], 0), ([["a"], ["b"]], 1)])
def test_levels_that_no_path_has_are_refused(tmp_path: Path, paths: list[list[str] | None], deepest: int) -> None:
    path = tmp_path / "items.parquet"
    column = pa.array(paths, pa.list_(pa.string()))
    pq.write_table(pa.table({"item_index": pa.array([1, 2], pa.int32()), "category_path": column}), path)
    with pytest.raises(InputError, match=rf"\[1, 2\], but the deepest category path has {deepest} levels"):
        read_categories(path, 3, (1, 2))
