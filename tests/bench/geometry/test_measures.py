"""Measures on planted cases whose values are known."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from bench.geometry.measures import (
    Difference,
    audience_entropy,
    by_query,
    diversity,
    exposure,
    gini,
    name_matrix,
    paired,
    popularity_groups,
    spearman,
)
from hmamba.evaluation.metrics import metrics_by_query
from hmamba.sequences.categories import Categories
from hmamba.sequences.histories import Histories

NAN = float("nan")


def test_metrics_of_ranks_are_those_of_rankings():
    random = np.random.default_rng(0)
    ranked = np.stack([random.permutation(300) + 1 for _ in range(40)])
    rows = np.sort(np.concatenate([np.arange(40), random.integers(0, 40, 60)]))
    pairs = np.unique(rows * 1000 + random.integers(1, 301, len(rows)))
    rows, items = pairs // 1000, pairs % 1000
    ranks = np.array([1 + int(np.flatnonzero(ranked[row] == item)[0]) for row, item in zip(rows, items, strict=True)])
    expected = metrics_by_query(ranked, rows, items, cutoffs=[10], recall_at=[100])
    found = by_query(ranks, rows, 40)
    for name, other in (("NDCG@10", "ndcg@10"), ("HR@10", "hr@10"), ("R@100", "recall@100")):
        np.testing.assert_allclose(found[name], expected[other])
    first = [1 / ranks[rows == row].min() for row in range(40)]
    np.testing.assert_allclose(found["reciprocal rank"], first)


def test_only_chosen_answers_count_and_items_without_a_rank_are_misses():
    ranks, rows = np.array([1, 3, 0, 11]), np.array([0, 0, 1, 2])
    found = by_query(ranks, rows, 4, np.array([False, True, True, True]))
    np.testing.assert_allclose(found["NDCG@10"], [0.5, 0, 0, NAN])
    np.testing.assert_allclose(found["HR@10"], [1, 0, 0, NAN])
    np.testing.assert_allclose(found["R@100"], [1, 0, 1, NAN])
    np.testing.assert_allclose(found["reciprocal rank"], [1 / 3, 0, 1 / 11, NAN])


def test_groups_are_tenths_of_the_answers_from_the_least_popular():
    events = np.random.default_rng(0).permutation(1000)
    assert popularity_groups(events).tolist() == (events // 100).tolist()


def test_answers_with_the_same_number_of_events_are_in_one_group():
    """Half of the answers have one event: their middle is a quarter of the way, so that they are the third tenth."""
    events = np.array([1] * 50 + list(range(10, 60)))
    groups = popularity_groups(events)
    assert set(groups[:50]) == {2}
    assert groups[50:].tolist() == [5 + n // 10 for n in range(50)]


@pytest.mark.parametrize(
    ("counts", "value"),
    [([3, 3, 3, 3], 0.0), ([0, 0, 0, 8], 0.75), ([1, 3], 0.25), ([3, 1], 0.25), ([0, 1, 2, 3], 10 / 24)],
)
def test_gini(counts, value):
    assert gini(np.array(counts)) == pytest.approx(value)


def test_gini_of_nothing_shown_is_undefined():
    assert math.isnan(gini(np.zeros(3, dtype=int)))


def test_exposure_counts_candidate_items_that_nobody_is_shown():
    top = np.array([[1, 4, -1], [4, 5, 1]])
    assert exposure(top, np.array([1, 3, 4, 5, 9])).tolist() == [2, 0, 2, 1, 0]


def categories(*paths):
    """Items 1, 2, ... with these paths; None: an item without a path."""
    return Categories(pa.array(paths, pa.list_(pa.string())), np.arange(1, len(paths) + 1), len(paths) + 1)


PATHS = categories(["food", "fruit"], ["food", "fruit"], ["food", "bread"], ["drink"], None, [])


def test_diversity_is_the_mean_jaccard_distance_of_all_pairs_with_names():
    names = name_matrix(PATHS)
    assert names.shape == (7, 4)
    lists = np.array([[1, 2, -1], [1, 3, -1], [1, 2, 3], [1, 4, 5], [5, 6, 1], [-1, -1, -1]])
    expected = [0, 1 - 1 / 3, (0 + 2 / 3 + 2 / 3) / 3, 1, NAN, NAN]
    np.testing.assert_allclose(diversity(lists, names), expected)


def histories(*items):
    lengths = [len(each) for each in items]
    flat = np.concatenate([np.array(each, dtype=np.int64) for each in items])
    users = pa.array([f"u{n}" for n in range(len(items))])
    return Histories(users, np.concatenate([[0], np.cumsum(lengths)]), flat, np.arange(len(flat)))


@pytest.mark.parametrize("block", [2, 1024])
def test_entropy_of_an_audience_counts_what_its_users_take_besides(monkeypatch, block):
    monkeypatch.setattr("bench.geometry.measures._ITEMS", block)
    names = name_matrix(categories(["a"], ["b"], ["c"], ["c"], None, ["a"]))
    train = histories([1, 1, 2, 3], [1, 4, 4], [5, 2], [6], [])
    found = audience_entropy(train, names)

    def entropy(*counts):
        share = np.array(counts) / sum(counts)
        return float(-(share * np.log(share)).sum())

    # Item 1: user 0 takes b and c besides, user 1 takes c twice. Item 2: a twice and c; names are all that counts.
    expected = [NAN, entropy(1, 3), entropy(2, 1), entropy(2, 1), entropy(1), entropy(1), NAN]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_spearman_and_its_interval():
    random = np.random.default_rng(0)
    x = random.normal(size=400)
    y = x + random.normal(size=400)
    found = spearman(x, np.exp(y))
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.low < found.rho < found.high
    assert math.atanh(found.high) - math.atanh(found.rho) == pytest.approx(1.959964 * math.sqrt(1.06 / 397))
    with_gaps = spearman(np.append(x, [NAN, 1.0]), np.append(y, [2.0, NAN]))
    assert with_gaps == spearman(x, y)


def test_a_correlation_that_a_third_variable_explains_vanishes_given_it():
    random = np.random.default_rng(1)
    z = random.normal(size=3000)
    x, y = z + 0.5 * random.normal(size=3000), z + 0.5 * random.normal(size=3000)
    assert spearman(x, y).rho > 0.7
    partial = spearman(x, y, z)
    assert partial.low < 0 < partial.high or abs(partial.rho) < 0.06
    ranks = [stats.rankdata(values) for values in (x, y, z)]
    left = [each - np.polyval(np.polyfit(ranks[2], each, 1), ranks[2]) for each in ranks[:2]]
    assert partial.rho == pytest.approx(np.corrcoef(*left)[0, 1])


def test_two_variables_together_explain_what_neither_does_alone():
    random = np.random.default_rng(3)
    a, b, x, y = random.normal(size=(4, 3000))
    x, y = a + b + x, a + b + y
    assert spearman(x, y, a).rho > 0.4
    assert spearman(x, y, b).rho > 0.4
    assert abs(spearman(x, y, a, b).rho) < 0.1


def test_a_correlation_given_the_same_variable_is_undefined():
    x = np.random.default_rng(2).normal(size=50)
    assert math.isnan(spearman(x, np.arange(50), np.arange(50)).rho)
    assert math.isnan(spearman(x, np.ones(50)).rho)
    assert math.isnan(spearman(x, np.full(50, NAN)).rho)


def test_differences_and_their_standard_errors():
    ours = np.array([[1.0, 3.0, NAN, 2.0], [3.0, 5.0, NAN, 4.0], [2.0, 1.0, NAN, 3.0]])
    theirs = np.array([[0.0, 1.0, NAN, 0.0], [0.0, 1.0, NAN, 0.0], [0.0, 1.0, NAN, 0.0]])
    found = paired(ours, theirs)
    of_users, of_seeds = np.array([2.0, 2.0, 3.0]), np.array([5 / 3, 11 / 3, 5 / 3])
    assert found.mean == pytest.approx(of_seeds.mean())
    assert found.users == pytest.approx(of_users.std(ddof=1) / math.sqrt(3))
    assert found.seeds == pytest.approx(of_seeds.std(ddof=1) / math.sqrt(3))
    assert found.count == 3


def test_figures_that_no_user_has_differ_over_seeds_only():
    found = paired(np.array([[0.5], [0.7]]), np.array([[0.4], [0.4]]))
    assert (found.mean, found.seeds) == (pytest.approx(0.2), pytest.approx(0.1))
    assert math.isnan(found.users)
    assert paired(np.full((2, 3), NAN), np.full((2, 3), NAN)).count == 0


@pytest.mark.parametrize(
    ("found", "clear"),
    [
        (Difference(1.0, 0.5, 0.2, 3), True),
        (Difference(-1.0, 0.5, 0.2, 3), True),
        (Difference(1.0, 0.52, 0.2, 3), False),  # 1.96 * 0.52 > 1
        (Difference(1.0, 0.5, 0.24, 3), False),  # Student's t of 2 degrees of freedom: 4.30 * 0.24 > 1
        (Difference(1.0, NAN, 0.2, 3), True),
        (Difference(1.0, 0.1, NAN, 1), False),
    ],
)
def test_a_difference_is_clear_over_users_and_over_seeds(found, clear):
    assert found.clear is clear
