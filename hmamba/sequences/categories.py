"""Category numbers of items, from the category paths of the catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import CATEGORY_PATH, ITEM_INDEX
from hmamba.errors import InputError
from hmamba.sequences.histories import IntArray

_BETWEEN = "\x1f"


def number_categories(paths: pa.ListArray, index: IntArray, size: int, level: int) -> IntArray:
    """Number the categories of items.

    Args:
        paths: (I,) category path of each item, the widest category first; may be null, empty or short.
        index: (I,) item index of each item.
        size: number of item indices, padding included.
        level: number of leading names that define a category, 1 for the widest; shorter paths are used whole.

    Returns:
        (size,) numbers from 0. An item without a path, and an index without an item, has a category of its own.
    """
    names = pc.binary_join(pc.list_slice(paths, 0, level), _BETWEEN)
    named = np.asarray(pc.fill_null(pc.greater(pc.list_value_length(paths), 0), False)) & np.asarray(names.is_valid())
    category = np.arange(size)
    codes = names.filter(pa.array(named)).dictionary_encode().indices.to_numpy().astype(np.int64)
    category[index[named]] = size + codes
    dense: IntArray = np.unique(category, return_inverse=True)[1].astype(np.int64)
    return dense


def read_categories(path: Path, size: int, levels: tuple[int, ...]) -> IntArray | None:
    """Number the categories of a snapshot's items.

    Args:
        path: the snapshot's items.parquet.
        size: number of item indices, padding included.
        levels: the levels to number; see :func:`number_categories`.

    Returns:
        (L, size) numbers, one row for each level; None without levels.

    Raises:
        InputError: no category path is as deep as the deepest level.
    """
    if not levels:
        return None
    table = pq.read_table(path, columns=[ITEM_INDEX, CATEGORY_PATH])
    paths = table[CATEGORY_PATH].combine_chunks()
    deepest = pc.max(pc.list_value_length(paths)).as_py() or 0
    if deepest < max(levels):
        raise InputError(
            f"{path}: model.category_levels = {list(levels)}, but the deepest category path has {deepest} levels. Say "
            "where the categories are in [catalogue], or change model.category_levels ([] for none)."
        )
    index = table[ITEM_INDEX].to_numpy()
    return np.stack([number_categories(paths, index, size, level) for level in levels])
