"""Repeat features equal those of a plain count, at a cost near the size of the result."""

from __future__ import annotations

import tracemalloc
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

from hmamba.model.repeats import Repeats
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import MICROSECONDS_A_DAY
from hmamba.terms.repeats import FEATURES, TIME_SCALES, RepeatFeatures
from tests.histories import START, histories_of, random_histories, valued


def counted(histories, candidate_items, users, ends):
    """(row, column) -> shares, by a loop over every event of every row."""
    found = {}
    for row, (user, end) in enumerate(zip(users, ends, strict=True)):
        sums = defaultdict(lambda: np.zeros(len(TIME_SCALES)))
        for event in range(histories.offsets[user], end):
            age = (histories.times[end - 1] - histories.times[event]) / MICROSECONDS_A_DAY
            weight = 1 if histories.weights is None else histories.weights[event]
            sums[histories.items[event]] += weight * np.exp(-age / np.array(TIME_SCALES))
        whole = sum(sums.values())
        found |= {(row, int(candidate_items.column[item])): value / whole for item, value in sums.items()}
    return {key: value for key, value in found.items() if key[1] >= 0}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_shares_equal_those_of_a_plain_count(seed, weighted):
    histories = random_histories(users=10, items=8, events=40, seed=seed)
    if weighted:
        histories = valued(histories, np.random.default_rng(seed).choice([0.25, 1, 4], histories.events))
    candidate_items = CandidateItems.of(histories.item_events(9), 12)
    starts = histories.basket_starts
    random = np.random.default_rng(seed)
    ends = random.permutation(np.concatenate([starts[1:], starts[1:4]]))  # in no order, some twice
    users = histories.owner[ends - 1]
    repeats = RepeatFeatures.before(histories, candidate_items, users, ends)
    expected = counted(histories, candidate_items, users, ends)
    assert (np.diff(repeats.rows) >= 0).all()
    assert sorted(zip(repeats.rows.tolist(), repeats.columns.tolist(), strict=True)) == sorted(expected)
    for row, column, shares in zip(repeats.rows.tolist(), repeats.columns.tolist(), repeats.shares, strict=True):
        np.testing.assert_allclose(shares, expected[row, column], rtol=1e-5)


def test_features_equal_their_definition():
    histories = histories_of([(0, 9)], [(0, 1), (4, 1), (5, 2), (10, 1), (12, 2), (13, 3), (13, 4)])
    candidate_items = CandidateItems.of(np.array([0, 1, 1, 1, 0, 0, 0, 0, 0, 0]), 1)
    repeats = RepeatFeatures.before(histories, candidate_items, np.ones(2, dtype=np.int64), np.array([4, 8]))
    found = {(row, column): tuple(np.exp(features)) for row, column, features in zip(*keyed(repeats), strict=True)}
    assert found == {
        (0, 0): pytest.approx((1 + 1, 1 + 1, 2, 1 + 4, 3, 1), rel=1e-5),
        (0, 1): pytest.approx((1 + 0, 1 + 0, 1, 1 + 0, 3, 1), rel=1e-5),
        (1, 0): pytest.approx((1 + 3, 1 + 2, 3, 1 + 5, 6, 1), rel=1e-5),
        (1, 1): pytest.approx((1 + 1, 1 + 1, 2, 1 + 7, 6, 1), rel=1e-5),
        (1, 2): pytest.approx((1 + 0, 1 + 0, 1, 1 + 0, 6, 1), rel=1e-5),
    }


def test_days_count_back_from_the_start_of_the_day_that_is_asked_for():
    histories = histories_of([(0.5, 1), (4, 2)])
    candidate_items = CandidateItems.of(np.array([0, 1, 1]), 1)
    rows = np.zeros(3, dtype=np.int64), np.full(3, 2)
    asked = START + np.array([10.7, 4.2, 0]) * MICROSECONDS_A_DAY  # days later, on the newest day, before it
    repeats = RepeatFeatures.before(histories, candidate_items, *rows, asked=asked.astype(np.int64))
    plain = RepeatFeatures.before(histories, candidate_items, *rows)
    np.testing.assert_allclose(np.expm1(repeats.features[:, 0]), [9.5, 6, 3.5, 0, 3.5, 0], rtol=1e-5)
    np.testing.assert_allclose(np.expm1(repeats.features[:, 5]), [6, 6, 0, 0, 0, 0], rtol=1e-5)
    np.testing.assert_array_equal(repeats.features[:, 1:5], plain.features[:, 1:5])
    np.testing.assert_array_equal(repeats.shares, plain.shares)


def test_features_of_a_category_are_those_of_its_merged_items():
    histories = random_histories(users=10, items=8, events=40, seed=3)
    candidate_items = CandidateItems.of(histories.item_events(9), 12)
    starts = histories.basket_starts
    ends, users = starts[1:], histories.owner[starts[1:] - 1]
    category = np.array([[0, 1, 1, 1, 2, 2, 3, 3, 4], [0, 1, 1, 1, 1, 1, 1, 1, 1]])
    repeats = RepeatFeatures.before(histories, candidate_items, users, ends, category)
    alone = RepeatFeatures.before(histories, candidate_items, users, ends)
    np.testing.assert_array_equal(repeats.columns, alone.columns)
    np.testing.assert_array_equal(repeats.features[:, :FEATURES], alone.features)
    all_of = CandidateItems(np.arange(5), np.arange(5))
    for level, start in enumerate((FEATURES, FEATURES + 8)):
        groups = replace(histories, items=category[level][histories.items])
        merged = RepeatFeatures.before(groups, all_of, users, ends)
        of_category = {(row, column): place for place, (row, column) in enumerate(zip(*keyed(merged)[:2], strict=True))}
        for place, (row, column) in enumerate(zip(*keyed(repeats)[:2], strict=True)):
            whole = of_category[row, category[level][candidate_items.eligible[column]]]
            np.testing.assert_array_equal(repeats.features[place, start : start + 4], merged.features[whole, :4])
            times = merged.shares[whole] / repeats.shares[place]
            np.testing.assert_allclose(
                repeats.features[place, start + 4 : start + 8], np.log(times), rtol=1e-2, atol=1e-3
            )
            assert (times > 1 - 1e-5).all()


def keyed(repeats):
    return repeats.rows.tolist(), repeats.columns.tolist(), repeats.features


def test_repeats_start_as_decayed_counts_and_learn_which_items_are_consumed_again():
    torch.manual_seed(0)
    term, hidden, rows = Repeats(dim=4, items=2), torch.zeros(1, 4), np.zeros(2, dtype=np.int64)
    shares = np.array([[0.2] * len(TIME_SCALES), [0.4] * len(TIME_SCALES)], dtype=np.float32)
    entries = RepeatFeatures(rows, np.array([0, 1]), np.array([1, 2]), shares, np.ones((2, FEATURES), dtype=np.float32))
    term.recount(torch.tensor([0, 40, 40]), torch.tensor([0, 2, 40]))
    torch.testing.assert_close(term.log_rates(hidden, entries).exp(), torch.tensor([0.2, 0.4]))
    optimizer = torch.optim.Adam(term.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(term.log_rates(hidden, entries)[None], torch.tensor([0])).backward()
        optimizer.step()
    rates = term.log_rates(hidden, entries)
    assert rates[0] > rates[1] + 1


def test_a_row_without_earlier_events_has_no_entries():
    histories = histories_of([(0, 1), (1, 2)], [(0, 2)], [(0, 1)])
    candidate_items = CandidateItems.of(np.array([0, 1, 1]), 1)
    users, ends = np.array([1, 0, 2]), np.array([2, 2, 4])
    repeats = RepeatFeatures.before(histories, candidate_items, users, ends)
    assert repeats.rows.tolist() == [1, 1, 2]
    assert repeats.columns.tolist() == [0, 1, 0]
    assert repeats.items.tolist() == [1, 2, 1]
    for rows in (slice(0, 1), slice(0, 0)):
        for category in (None, np.array([[0, 1, 1]])):
            part = RepeatFeatures.before(histories, candidate_items, users[rows], ends[rows], category)
            assert len(part.rows) == len(part.items) == 0


def test_many_years_neither_overflow_nor_vanish():
    histories = histories_of([(day * 400.0, 1 + day % 2) for day in range(100)])
    candidate_items = CandidateItems.of(np.array([0, 1, 1]), 1)
    ends = np.arange(1, 101)
    repeats = RepeatFeatures.before(histories, candidate_items, np.zeros(100, dtype=np.int64), ends)
    assert np.isfinite(repeats.shares).all()
    np.testing.assert_allclose(
        np.add.reduceat(repeats.shares, np.searchsorted(repeats.rows, np.arange(100))), 1, rtol=1e-5
    )


def test_memory_grows_with_the_result_and_not_the_square_of_the_history():
    """2,000 baskets of ten out of 50 items: 20 million (row, event) pairs, 100,000 entries."""
    histories = histories_of([(event // 10, 1 + (event * 7 + event // 10) % 50) for event in range(20_000)])
    candidate_items = CandidateItems.of(histories.item_events(51), 1)
    ends = histories.basket_starts[1:]
    tracemalloc.start()
    repeats = RepeatFeatures.before(histories, candidate_items, np.zeros(len(ends), dtype=np.int64), ends)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 90_000 < len(repeats.rows) <= 100_000
    assert peak < 40e6


def test_the_cost_of_categories_does_not_depend_on_users_without_rows():
    histories = histories_of(*([(day, 1 + (user + day) % 50) for day in range(50)] for user in range(4_000)))
    candidate_items, category = CandidateItems.of(histories.item_events(51), 1), np.arange(51)[None] // 7
    _ = histories.owner, histories.lengths, histories.basket_starts  # the same for both, and kept
    peaks = []
    for levels in (None, category):
        tracemalloc.start()
        RepeatFeatures.before(histories, candidate_items, np.array([7]), histories.offsets[8:9], levels)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000  # one array over all events has 1.6 MB
