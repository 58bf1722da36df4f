"""Set operations on integers and on sparse entries, by sorting and by marking.

NumPy's own set functions hash integers since version 2.3, which takes 1 us a number for millions of numbers; sorting
takes 0.02 us a number.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_Ints: TypeAlias = npt.NDArray[np.int64]
_Bools: TypeAlias = npt.NDArray[np.bool_]


def distinct(numbers: _Ints) -> _Ints:
    """The distinct numbers, ascending."""
    ordered = np.sort(numbers)
    is_first = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return ordered[is_first]


def contained(numbers: _Ints, ascending: _Ints) -> _Bools:
    """Which of the numbers (of any shape) occur in ``ascending``, a sorted array."""
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
    """Which entries (E,) of a sparse matrix are also entries of another one with the same number of rows.

    Args:
        columns: (E,) columns of the entries, row by row, in any order within a row.
        offsets: (R + 1,) position of each row's first entry; the last one is E.
        of_columns: (F,) columns of the other matrix's entries.
        of_spans: (R,) first positions and (R,) end positions of the other matrix's rows.
        width: number of columns.
    """
    found = np.empty(len(columns), dtype=bool)
    # Row by row, so that the marks stay in the cache. A row marks with its number, so no marks need to be cleared.
    marks = np.zeros(width, dtype=np.min_scalar_type(len(offsets)))
    spans = zip(pairwise(offsets.tolist()), *(part.tolist() for part in of_spans), strict=True)
    for row, ((start, end), first, last) in enumerate(spans, start=1):
        marks[of_columns[first:last]] = row
        np.equal(marks[columns[start:end]], row, out=found[start:end])
    return found
