"""Splits: what is asked is never learnt from nor read, and what may be read is."""

from __future__ import annotations

import numpy as np
import pytest

from bench.datasets import load
from bench.protocols import (
    MASKED,
    RECALL,
    TEST,
    UNMASKED,
    VALIDATION,
    Exam,
    last_day,
    leave_one_out,
    measure,
    repeat_share,
    views_of,
    without_seen,
)
from hmamba.errors import InputError
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.sequences.histories import MICROSECONDS_A_DAY
from tests.bench.files import order_data, shop, written
from tests.histories import histories_of


def lists(histories):
    cuts = zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
    return {user: histories.items[a:b].tolist() for user, (a, b) in zip(histories.users.to_pylist(), cuts, strict=True)}


@pytest.mark.parametrize("length", [None, 3])
def test_leave_one_out_by_hand(tmp_path, length):
    data = order_data(tmp_path)
    everything, experiment = lists(data.histories), leave_one_out(data, length)
    long = {user for user, items in everything.items() if len(items) >= 3}
    assert 0 < len(long) < len(everything)
    newest = slice(None) if length is None else slice(-length, None)
    assert lists(experiment.train) == {
        user: (items[:-2] if user in long else items)[newest] for user, items in everything.items()
    }
    assert lists(experiment.countable) == {
        user: items[:-1] if user in long else items for user, items in everything.items()
    }
    for name, place in ((VALIDATION, 2), (TEST, 1)):
        evaluation_set = experiment.exams[name].evaluation_set
        assert lists(evaluation_set.past) == {user: everything[user][:-place][newest] for user in long}
        assert lists(experiment.exams[name].seen) == {user: everything[user][:-place] for user in long}
        users = evaluation_set.past.users.to_pylist()
        asked = {users[row]: int(item) for row, item in zip(evaluation_set.rows, evaluation_set.items, strict=True)}
        assert asked == {user: everything[user][-place] for user in long}
        last = evaluation_set.past.times[evaluation_set.past.offsets[1:] - 1]
        assert (last < evaluation_set.as_of).all()
    assert experiment.stop is experiment.exams[VALIDATION]
    assert set(experiment.candidate_items.eligible) == set(data.histories.items)


def test_the_tested_event_is_nowhere_else(tmp_path):
    """Items are taken once here, so that the test item of a user must not appear in what is learnt or read."""
    experiment = leave_one_out(order_data(tmp_path), 50)
    learnt = lists(experiment.train)
    for exam in experiment.exams.values():
        read, users = lists(exam.evaluation_set.past), exam.evaluation_set.past.users.to_pylist()
        for row, item in zip(exam.evaluation_set.rows, exam.evaluation_set.items, strict=True):
            assert item not in read[users[row]]
            assert item not in learnt[users[row]]
    validation, tested = (experiment.exams[name].evaluation_set for name in (VALIDATION, TEST))
    last_read = tested.past.items[tested.past.offsets[1:] - 1]
    assert last_read.tolist() == validation.items.tolist()


def test_leave_one_out_needs_three_events(tmp_path):
    data = load(written(tmp_path / "short.parquet", user_id=[1, 1, 2], item_id=[1, 2, 1], position=[0, 1, 0]))
    with pytest.raises(InputError, match="three events"):
        leave_one_out(data, None)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_last_day_is_honest_in_time(tmp_path, split):
    data = shop(tmp_path)
    days, validation_days = 7, 2
    experiment = last_day(data, days=days, validation_days=validation_days, min_item_events=2, split=split)
    newest = data.histories.times.max() // MICROSECONDS_A_DAY + 1
    end = (newest - (days if split == VALIDATION else 0)) * MICROSECONDS_A_DAY
    cut = end - days * MICROSECONDS_A_DAY
    stop = cut - validation_days * MICROSECONDS_A_DAY
    assert experiment.train.times.max() < stop
    assert experiment.train.times.max() >= stop - 2 * MICROSECONDS_A_DAY
    assert stop <= experiment.countable.times.max() < cut
    early = experiment.stop.evaluation_set
    assert stop <= early.as_of.min() <= early.as_of.max() < cut
    assert (early.past.times[early.past.offsets[1:] - 1] < early.as_of).all()

    known = data.histories.between(None, end)
    evaluation_set, groups = experiment.exams[TEST].evaluation_set, experiment.exams[TEST].groups
    users, late = evaluation_set.past.users.to_pylist(), []
    for row, user in enumerate(known.users.to_pylist()):
        times = known.times[known.offsets[row] : known.offsets[row + 1]]
        items = known.items[known.offsets[row] : known.offsets[row + 1]]
        day = times // MICROSECONDS_A_DAY
        before = items[day < day.max()].tolist() if len(day) else []
        if not before:
            assert user not in users
            continue
        place = users.index(user)
        mine = evaluation_set.past.items[evaluation_set.past.offsets[place] : evaluation_set.past.offsets[place + 1]]
        assert mine.tolist() == before
        assert sorted(evaluation_set.items[evaluation_set.rows == place]) == sorted(
            set(items[day == day.max()].tolist())
        )
        if day.max() * MICROSECONDS_A_DAY >= cut:
            late.append(place)
    (first, rows), (second, everybody) = groups.items()
    assert (first, second) == ("last day within the last 7 days", "all users")
    assert rows.tolist() == late
    assert everybody.tolist() == list(range(len(users)))


def test_nobody_learns_from_a_held_out_day(tmp_path):
    experiment = last_day(shop(tmp_path), days=7, validation_days=2, min_item_events=1, split="test")
    past = experiment.exams[TEST].evaluation_set.past
    last_read = dict(zip(past.users.to_pylist(), past.times[past.offsets[1:] - 1], strict=True))
    for row, user in enumerate(experiment.train.users.to_pylist()):
        times = experiment.train.times[experiment.train.offsets[row] : experiment.train.offsets[row + 1]]
        assert not len(times) or times.max() <= last_read[user]


def test_last_day_needs_times_and_enough_of_them(tmp_path):
    with pytest.raises(InputError, match="has no times"):
        last_day(order_data(tmp_path), days=7, validation_days=1, min_item_events=1, split="test")
    with pytest.raises(InputError, match="too short"):
        last_day(shop(tmp_path), days=29, validation_days=2, min_item_events=1, split="test")


def small_exam(views=(MASKED, UNMASKED)):
    seen = histories_of([(0, 1), (1, 2), (2, 2)], [(0, 5)])
    evaluation_set = EvaluationSet(seen, np.full(2, seen.times.max() + 1), np.array([0, 1]), np.array([2, 6]))
    return Exam(evaluation_set, seen, views, {"all users": np.arange(2), "second": np.array([1])})


def test_masking_takes_out_what_was_had_but_never_the_answer():
    ranked = np.array([[1, 2, 3, 4], [5, 6, 1, -1]])
    assert without_seen(ranked, small_exam(), 3).tolist() == [[2, 3, 4], [6, 1, -1]]


def test_rankings_are_deep_enough_to_be_masked():
    assert small_exam().depth == 100 + 2
    assert small_exam((UNMASKED,)).depth == 100


def test_repeats_by_hand():
    """The answers of user 0 are 2, which is seen, and 6; user 1 has seen 5 but not 2; user 2 has seen 7."""
    seen = histories_of([(0, 1), (1, 2), (2, 2)], [(0, 5)], [(0, 7)])
    as_of = np.full(3, seen.times.max() + 1)
    evaluation_set = EvaluationSet(seen, as_of, np.array([0, 0, 1, 2]), np.array([2, 6, 2, 7]))
    assert repeat_share(evaluation_set, seen) == 0.5


@pytest.mark.parametrize(("repeats", "views"), [(0, (MASKED, UNMASKED)), (1, (MASKED, UNMASKED)), (2, (UNMASKED,))])
def test_masked_is_shown_below_two_in_a_hundred_repeats(repeats, views):
    seen = histories_of(*[[(0, 1)]] * 100)
    answers = np.where(np.arange(100) < repeats, 1, 2)
    assert views_of(EvaluationSet(seen, seen.times + 1, np.arange(100), answers), seen) == views


def test_all_exams_of_an_experiment_have_the_views_of_the_test(tmp_path):
    once, again = (leave_one_out(order_data(tmp_path, repeats=repeats), 50) for repeats in (False, True))
    assert once.stop.views == once.exams[TEST].views == (MASKED, UNMASKED)
    assert again.stop.views == again.exams[TEST].views == (UNMASKED,)
    days = last_day(shop(tmp_path), days=7, validation_days=2, min_item_events=2, split="test")
    assert days.stop.views == days.exams[TEST].views == (UNMASKED,)


def test_recall_is_the_share_of_the_relevant_items_among_the_first_hundred():
    seen = histories_of([(0, 1)], [(0, 1)])
    ranked = np.stack([np.arange(2, 122), np.arange(2, 122)])
    # Ranks 1, 100 and 101 of user 0; rank 99 of user 1.
    relevant = np.array([0, 0, 0, 1]), np.array([2, 101, 102, 100])
    exam = Exam(EvaluationSet(seen, seen.times + 1, *relevant), seen, (UNMASKED,), {"all users": np.arange(2)})
    assert measure(ranked, exam, 200)["all users"][UNMASKED][RECALL] == pytest.approx((2 / 3 + 1) / 2)


def test_measures_by_group_and_view():
    measured = measure(np.array([[1, 2, 3, 4], [5, 6, 1, -1]]), small_exam(), 10)
    assert set(measured) == {"all users", "second"}
    assert measured["all users"][MASKED]["mrr@5"] == 1.0
    assert measured["all users"][UNMASKED]["mrr@5"] == 0.5
    assert measured["second"][UNMASKED]["hr@5"] == 1.0
