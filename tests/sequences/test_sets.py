"""Sets of numbers and entries against Python's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmamba.sequences.sets import among, contained, distinct

NUMBERS = st.lists(st.integers(0, 12), max_size=30)
ROWS = st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=8), st.lists(st.integers(0, 9), max_size=8)), max_size=6)


@given(NUMBERS)
def test_distinct_numbers_ascend(numbers):
    assert distinct(np.array(numbers, dtype=np.int64)).tolist() == sorted(set(numbers))


@given(NUMBERS, NUMBERS)
def test_contained_numbers_are_told(numbers, others):
    found = contained(np.array(numbers, dtype=np.int64), distinct(np.array(others, dtype=np.int64)))
    assert found.tolist() == [number in others for number in numbers]


@pytest.mark.parametrize("rows", [1, 254, 255, 256, 65_535, 65_536])
def test_rows_are_told_apart_however_many_there_are(rows):
    """Each row holds the columns 0 and 1, and row i of the other matrix holds i % 2."""
    numbers = np.arange(rows)
    mine = np.tile([0, 1], rows)
    found = among(mine, np.arange(rows + 1) * 2, numbers % 2, (numbers, numbers + 1), width=2)
    assert (found.reshape(rows, 2) == (np.arange(2) == numbers[:, None] % 2)).all()


def test_nothing_is_among_nothing():
    nothing = np.zeros(0, dtype=np.int64)
    assert among(nothing, np.zeros(4, dtype=np.int64), nothing, (np.zeros(3, int), np.zeros(3, int)), 0).tolist() == []


@given(ROWS)
def test_entries_are_compared_within_their_row(rows):
    flat, offsets, of_flat, of_offsets = [], [0], [], [0]
    for mine, others in rows:
        flat, of_flat = flat + mine, of_flat + others
        offsets, of_offsets = [*offsets, len(flat)], [*of_offsets, len(of_flat)]
    arrays = (np.array(part, dtype=np.int64) for part in (flat, offsets, of_flat))
    spans = np.array(of_offsets[:-1], dtype=np.int64), np.array(of_offsets[1:], dtype=np.int64)
    assert among(*arrays, spans, width=10).tolist() == [column in others for mine, others in rows for column in mine]
