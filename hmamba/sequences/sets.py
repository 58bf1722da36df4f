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
    of_spans: tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]],
    width: int,
) -> _Bools:
    """Which entries (E,) of a sparse matrix are entries of another one with as many rows.

    Args:
        columns: (E,) of the entries, row by row, in any order within one.
        offsets: (R + 1,) where rows begin and end.
        of_columns: (F,) of the other one's entries.
        of_spans: (R,) where rows begin among those, and (R,) where they end.
        width: columns that there are.
    """
    found = np.empty(len(columns), dtype=bool)
    # A row at a time: what it marks stays in the cache. Its own number marks it, so that nothing need be wiped off.
    marks = np.zeros(width, dtype=np.min_scalar_type(len(offsets)))
    spans = zip(pairwise(offsets.tolist()), *(part.tolist() for part in of_spans), strict=True)
    for row, ((start, end), first, last) in enumerate(spans, start=1):
        marks[of_columns[first:last]] = row
        np.equal(marks[columns[start:end]], row, out=found[start:end])
    return found
