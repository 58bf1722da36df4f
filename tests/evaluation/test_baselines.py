"""Baselines against one user at a time."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from hmamba.evaluation.baselines import most_bought, popular
from tests.histories import histories_of, random_histories, randomly_valued, valued


def test_by_hand():
    histories = histories_of([(0, 3), (1, 3), (2, 1)], [(0, 2)])
    counts = np.array([0, 5, 9, 2, 0])
    assert popular(histories, counts, 3, exclude_seen=False).tolist() == [[2, 1, 3], [2, 1, 3]]
    assert popular(histories, counts, 3, exclude_seen=True).tolist() == [[2, -1, -1], [1, 3, -1]]
    assert most_bought(histories, counts, 4).tolist() == [[3, 1, 2, -1], [2, 1, 3, -1]]


def test_events_of_weight_zero_are_seen_and_not_counted():
    histories = valued(histories_of([(0, 1), (1, 2), (2, 2)]), weights=[1, 0, 0], seen=[False, True, True])
    counts = np.array([0, 5, 9, 2])
    assert popular(histories, counts, 3, exclude_seen=True).tolist() == [[1, 3, -1]]
    assert most_bought(histories, counts, 3).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("k", [1, 7, 60])
def test_ranking_in_blocks_equals_ranking_one_user_at_a_time(k):
    users, size = 300, 44  # more users than a block
    histories = randomly_valued(random_histories(users=users, items=40, events=60))
    popularity = np.random.default_rng(1).integers(0, 9, size)

    def of_users(which):
        kept = histories.keep(which)
        return [kept.items[kept.offsets[u] : kept.offsets[u + 1]].tolist() for u in range(users)]

    def ranked(own, without=()):
        items = [i for i in range(size) if popularity[i] and i not in without]
        best = sorted(items, key=lambda i: (-own.count(i), -popularity[i], i))
        return (best + [-1] * k)[:k]

    assert most_bought(histories, popularity, k).tolist() == [ranked(own) for own in of_users(histories.weights > 0)]
    assert popular(histories, popularity, k, exclude_seen=False).tolist() == [ranked([])] * users
    assert popular(histories, popularity, k, exclude_seen=True).tolist() == [
        ranked([], seen) for seen in of_users(histories.seen)
    ]


def test_memory_does_not_grow_with_users_times_items():
    histories, popularity = random_histories(users=256), np.ones(200_000, dtype=np.int64)
    tracemalloc.start()
    try:
        most_bought(histories, popularity, 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * len(popularity)  # bytes: not even a byte for each pair
