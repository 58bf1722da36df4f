"""Comparisons: planted differences are found, noise is not, and the interval has its level."""

from __future__ import annotations

import numpy as np
import pytest

from hmamba.evaluation.comparison import compare, interval_of

NAMES = ("challenger", "champion")


def scores(users, seed=0):
    return np.random.default_rng(seed).random(users)


def compared(one, other):
    return compare(NAMES, "ndcg@10", one, other)


@pytest.mark.parametrize(("planted", "says"), [(0.05, "better"), (-0.05, "worse"), (0.0, "cannot be told")])
def test_a_planted_difference_is_found_although_users_differ_by_more(planted, says):
    """Users differ by up to 1 among each other, and by 0.05 from one ranking to the other."""
    champion = scores(400)
    found = compared(champion + planted + 0.1 * (scores(400, 1) - 0.5), champion)
    assert found.says == says
    assert found.low < found.difference < found.high
    assert found.difference == pytest.approx(planted, abs=0.01)
    assert found.relative == pytest.approx(planted / champion.mean(), abs=0.02)
    assert (found.one, found.other, found.metric, found.users) == (*NAMES, "ndcg@10", 400)
    assert str(found) == f"{found.difference:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"


def test_noise_is_rarely_significant():
    found = [compared(scores(50, seed), scores(50, seed + 1_000)).says for seed in range(100)]
    assert found.count("cannot be told") >= 85


def test_the_interval_covers_the_truth_at_about_its_level():
    random = np.random.default_rng(5)
    truth, covered = 0.03, 0
    for _ in range(200):
        found = compared(random.normal(truth, 0.2, 60), np.zeros(60))
        covered += found.low <= truth <= found.high
    assert 0.9 <= covered / 200 <= 0.99


def test_equal_rankings_cannot_be_told_apart():
    found = compared(scores(30), scores(30))
    assert (found.says, found.difference, found.low, found.high) == ("cannot be told", 0, 0, 0)


@pytest.mark.parametrize("users", [1, 2, 5])
def test_fewer_than_six_users_are_never_significant(users):
    """Every resample of one is the same; of five, all on one side are one case in sixteen."""
    for one in (0.0, 1.0):
        found = compared(np.full(users, one), np.full(users, 0.5))
        assert found.says == "cannot be told"
        assert found.low == found.high == found.difference


def test_six_users_who_agree_are_significant():
    assert compared(np.full(6, 1.0), np.full(6, 0.5)).says == "better"
    # ... also among many whom both serve alike, and not where one fewer differs.
    differing = np.append(np.full(6, 0.5), np.zeros(6))
    assert compared(differing, np.zeros(12)).says == "better"
    differing[0] = 0
    assert compared(differing, np.zeros(12)).says == "cannot be told"


@pytest.mark.parametrize("users", [2, 5, 10, 20])
def test_equal_rankings_differ_significantly_at_most_at_the_level(users):
    random = np.random.default_rng(users)
    wrong, covered = 0, 0
    for _ in range(400):
        found = compared(random.normal(0, 0.2, users), np.zeros(users))
        wrong += found.says != "cannot be told"
        covered += found.low <= 0 <= found.high
    assert wrong <= 0.08 * 400
    assert covered >= (0.85 if users == 2 else 0.91) * 400


def test_users_with_several_entries_are_drawn_whole():
    """Each of 20 users has the same difference on each of 30 nights: they are 20 observations and not 600."""
    random = np.random.default_rng(3)
    user = np.tile(np.arange(20), 30)
    gain = random.normal(0.0, 0.2, 20)
    whole, once = compare(NAMES, "ndcg@10", gain[user], np.zeros(600), user), compared(gain, np.zeros(20))
    assert (whole.users, whole.difference) == (20, once.difference)
    assert (whole.low, whole.high) == pytest.approx((once.low, once.high), abs=1e-5)
    assert compared(gain[user], np.zeros(600)).high - whole.difference < (whole.high - whole.difference) / 4


def test_a_mean_of_nothing_has_no_relative_difference():
    assert compared(np.ones(3), np.zeros(3)).relative is None


def test_the_result_is_deterministic():
    assert compared(scores(70), scores(70, 1)) == compared(scores(70), scores(70, 1))
    assert compared(scores(70), scores(70, 1)).says == "cannot be told"


def test_many_users_are_drawn_in_blocks(monkeypatch):
    from hmamba.evaluation import comparison

    whole = compared(scores(300), scores(300, 1))
    monkeypatch.setattr(comparison, "_AT_ONCE", 1)
    again = compared(scores(300), scores(300, 1))
    assert again.low == pytest.approx(whole.low, abs=1e-6)
    assert again.high == pytest.approx(whole.high, abs=1e-6)


def test_the_interval_of_a_mean_is_that_of_the_difference_from_zero():
    values = scores(60)
    found, against_zero = interval_of(values), compared(values, np.zeros(60))
    assert (found.low, found.high) == (against_zero.low, against_zero.high)
    assert found.low < values.mean() < found.high
    assert interval_of(np.array([0.3])).low == interval_of(np.array([0.3])).high == 0.3
