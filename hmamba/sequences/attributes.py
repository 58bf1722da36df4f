"""Item attributes: categories and other values of the catalogue, as a sparse matrix."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import ATTRIBUTES, ITEM_INDEX
from hmamba.sequences.histories import IntArray

if TYPE_CHECKING:
    import scipy.sparse as sp


def attribute_matrix(index: IntArray, values: pa.ListArray, size: int) -> sp.csr_array | None:
    """Number attributes and mark those of each item.

    Args:
        index: (I,) item index of each row.
        values: (I,) attributes of each row, as text; may be null or empty.
        size: number of item indices, padding included.

    Returns:
        (size, A) 1 where an item has an attribute; None if no item has one.
    """
    import scipy.sparse as sp

    names = pc.list_flatten(values).dictionary_encode()
    if not len(names.dictionary):
        return None
    rows = index[pc.list_parent_indices(values).to_numpy()]
    known = names.is_valid().to_numpy(zero_copy_only=False)
    columns = names.indices.fill_null(0).to_numpy().astype(np.int64)
    pairs = np.unique(rows[known] * len(names.dictionary) + columns[known])
    where = (pairs // len(names.dictionary), pairs % len(names.dictionary))
    return sp.csr_array((np.ones(len(pairs), np.float32), where), (size, len(names.dictionary)))


def read_attributes(path: Path, size: int) -> sp.csr_array | None:
    """The attributes of a snapshot's items.

    Args:
        path: the snapshot's items.parquet.
        size: number of item indices, padding included.
    """
    if ATTRIBUTES not in pq.read_schema(path).names:  # a snapshot from before there were attributes
        return None
    table = pq.read_table(path, columns=[ITEM_INDEX, ATTRIBUTES])
    return attribute_matrix(table[ITEM_INDEX].to_numpy(), table[ATTRIBUTES].combine_chunks(), size)
