"""What every search may rely on: which of the found items are excluded, and the defaults of an exact search."""

from __future__ import annotations

import numpy as np
import pytest

from hmamba.index.base import Searcher, Trial, Tuned, are_excluded

EXCLUDED = np.array([0, 0, 2, 2, 2]), np.array([4, 1, 0, 2, 4])
"""Row 0 excludes items 4 and 1, row 1 none, row 2 items 0, 2 and 4."""


def test_each_row_has_exclusions_of_its_own():
    rows, columns = EXCLUDED
    cuts = np.searchsorted(rows, np.arange(4))
    found = np.array([[0, 1, 2, 3, 4]] * 3)
    excluded = are_excluded(found, columns, (cuts[:-1], cuts[1:]), 5)
    assert [np.flatnonzero(row).tolist() for row in excluded] == [[1, 4], [], [0, 2, 4]]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_nothing_found_is_nothing_excluded(shape):
    none = np.zeros(shape[0], dtype=np.int64)
    assert are_excluded(np.zeros(shape, dtype=np.int64), EXCLUDED[1], (none, none), 5).shape == shape


def test_a_search_is_exact_unless_it_says_otherwise():
    class Other(Searcher):
        name = "other"

    search = Other()
    assert (search.is_exact, search.dtype, search.is_available(), search.describe()) == (True, np.float32, True, {})
    queries = np.zeros((2, 3))
    trial = Trial(queries, 1, None, np.zeros((2, 1)), np.zeros((2, 1), dtype=np.int64), 0.9, 1.0)
    assert search.tuned(trial) == Tuned(1.0, search)
