"""Candidate items that users have seen."""

from __future__ import annotations

import numpy as np
import pytest

from hmamba.sequences.candidate_items import CandidateItems
from tests.histories import random_histories

ITEMS = 30


@pytest.mark.parametrize("users", [[5, 0, 17, 0], [], list(range(20))])
def test_seen_items_are_those_of_the_histories_that_compete(users):
    histories = random_histories(users=20, items=ITEMS)
    mask = np.arange(ITEMS + 1) % 3
    candidate_items = CandidateItems.of(mask, 1)
    rows, columns = candidate_items.seen(histories, np.array(users, dtype=np.int64))
    expected = [
        (row, candidate_items.column[item])
        for row, user in enumerate(users)
        for item in sorted(set(histories.items[histories.offsets[user] : histories.offsets[user + 1]].tolist()))
        if mask[item]
    ]
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == expected


def test_where_nothing_competes_nothing_is_seen():
    rows, columns = CandidateItems.of(np.zeros(ITEMS + 1, dtype=np.int64), 1).seen(
        random_histories(items=ITEMS), np.arange(3)
    )
    assert len(rows) == len(columns) == 0
