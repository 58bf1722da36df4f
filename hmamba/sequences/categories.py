"""Category numbers of items, from the category paths of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import CATEGORY_PATH, ITEM_INDEX
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


@dataclass(frozen=True)
class Categories:
    """Category paths of items.

    Attributes:
        paths: (I,) path of each item, the widest category first; may be null, empty or short.
        index: (I,) item index of each item.
        size: number of item indices, padding included.
    """

    paths: pa.ListArray
    index: IntArray
    size: int

    @property
    def depth(self) -> int:
        """Length of the longest path."""
        return pc.max(pc.list_value_length(self.paths)).as_py() or 0

    def numbers(self, levels: tuple[int, ...]) -> IntArray | None:
        """(L, size) numbers of :func:`number_categories`, one row for each level; None without levels."""
        if not levels:
            return None
        return np.stack([number_categories(self.paths, self.index, self.size, level) for level in levels])


def read_categories(path: Path, size: int) -> Categories:
    """The category paths of a snapshot's items.

    Args:
        path: the snapshot's items.parquet.
        size: number of item indices, padding included.
    """
    table = pq.read_table(path, columns=[ITEM_INDEX, CATEGORY_PATH])
    return Categories(table[CATEGORY_PATH].combine_chunks(), table[ITEM_INDEX].to_numpy(), size)
