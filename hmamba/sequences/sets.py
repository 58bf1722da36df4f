"""Sets of numbers and of entries, by sorting and by marking.

NumPy's own have hashed integers since 2.3, which takes 1 us a number where there are millions: sorting them takes 0.02.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Ints: TypeAlias = npt.NDArray[np.int64]
_Bools: TypeAlias = npt.NDArray[np.bool_]


def distinct(numbers: _Ints) -> _Ints:
    """The numbers, ascending, each once."""
    ordered = np.sort(numbers)
    is_first = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return ordered[is_first]


def contained(numbers: _Ints, ascending: _Ints) -> _Bools:
    """Which of the numbers (of any shape) are among the ascending ones."""
    if not len(ascending):
        return np.zeros(numbers.shape, dtype=bool)
    place = np.searchsorted(ascending, numbers)
    found: _Bools = ascending[np.minimum(place, len(ascending) - 1)] == numbers
    return found


def among(
    columns: npt.NDArray[np.integer],
    offsets: npt.NDArray[np.integer],
    of_columns: npt.NDArray[np.integer],
    of_offsets: npt.NDArray[np.integer],
    width: int,
) -> _Bools:
    """Which entries (E,) of a sparse matrix are entries of another one with as many rows.

    Args:
        columns: (E,) of the entries, row by row, in any order within one.
        offsets: (R + 1,) where rows begin and end.
        of_columns: (F,) likewise, of the other one.
        of_offsets: (R + 1,) likewise.
        width: columns that there are.
    """
    found = np.empty(len(columns), dtype=bool)
    marked = np.zeros(width, dtype=bool)
    # A row at a time: what it marks stays in the cache.
    for (start, end), (first, last) in zip(pairwise(offsets.tolist()), pairwise(of_offsets.tolist()), strict=True):
        marks = of_columns[first:last]
        marked[marks] = True
        found[start:end] = marked[columns[start:end]]
        marked[marks] = False
    return found
