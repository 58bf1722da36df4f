"""Sets of numbers and entries against Python's own."""

from __future__ import annotations

import numpy as np
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


@given(ROWS)
def test_entries_are_compared_within_their_row(rows):
    flat, offsets, of_flat, of_offsets = [], [0], [], [0]
    for mine, others in rows:
        flat, of_flat = flat + mine, of_flat + others
        offsets, of_offsets = [*offsets, len(flat)], [*of_offsets, len(of_flat)]
    arrays = (np.array(part, dtype=np.int64) for part in (flat, offsets, of_flat))
    spans = np.array(of_offsets[:-1], dtype=np.int64), np.array(of_offsets[1:], dtype=np.int64)
    assert among(*arrays, spans, width=10).tolist() == [column in others for mine, others in rows for column in mine]
