"""Evaluation sets: which baskets are queries, and which items are relevant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmamba.evaluation.evaluation_set import MOST_OF_A_USER, EvaluationSet
from tests.histories import START, histories_of, random_histories, randomly_valued, valued

DAY = 86_400_000_000
MINUTE = 1 / 1440


def from_day(histories, day):
    """(U,) flat positions of the first events from this day on."""
    return histories.offsets[:-1] + np.bincount(
        histories.owner[histories.times < START + day * DAY], minlength=len(histories)
    )


def queries_from(histories, day, *, exclude_seen=False, most=None):
    """The queries from a day on."""
    return EvaluationSet.of(
        histories, from_day(histories, day), histories.offsets[1:], exclude_seen=exclude_seen, most=most
    )


def entries(evaluation_set):
    """(user, items of the past, relevant items) of each query."""
    past, names = evaluation_set.past, evaluation_set.past.users.to_pylist()
    return [
        (
            names[number],
            past.items[past.offsets[number] : past.offsets[number + 1]].tolist(),
            sorted(evaluation_set.items[evaluation_set.rows == number].tolist()),
        )
        for number in range(len(evaluation_set))
    ]


def test_a_query_holds_only_the_past_and_each_relevant_item_once():
    histories = histories_of(
        [(0, 1), (5, 1), (5, 2), (5, 2)],  # takes 1 again, and 2 twice in one basket
        [(0, 4)],  # nothing afterwards
    )
    assert entries(queries_from(histories, 5)) == [("u0", [1], [1, 2])]
    assert entries(queries_from(histories, 5, exclude_seen=True)) == [("u0", [1], [2])]


def test_a_query_recommends_for_its_own_time():
    histories = histories_of([(0, 1), (5, 2), (8.5, 3)], [(1, 1), (7.25, 4)])
    queries = queries_from(histories, 5)
    assert ((queries.past.asked - START) / DAY).tolist() == [5, 8.5, 7.25]
    some = queries.only(queries.items != 3)
    assert ((some.past.asked - START) / DAY).tolist() == [5, 7.25]


def test_users_who_first_appear_in_the_held_out_days_have_queries_from_their_second_basket():
    histories = histories_of([(5, 3), (5, 4), (6, 1), (7, 2)], [(6, 1)])
    assert entries(queries_from(histories, 5)) == [("u0", [3, 4], [1]), ("u0", [3, 4, 1], [2])]


def test_a_session_of_minutes_has_queries():
    histories = histories_of([(5 + minute * MINUTE, 1 + minute) for minute in range(3)])
    assert entries(queries_from(histories, 5)) == [("u0", [1], [2]), ("u0", [1, 2], [3])]


def test_the_time_of_a_query_is_that_of_its_basket():
    assert queries_from(histories_of([(0, 1), (5.5, 2)]), 5).as_of.tolist() == [START + 5.5 * DAY]


def test_items_seen_within_the_window_are_not_relevant():
    histories = histories_of([(0, 9), (5, 1), (6, 1), (7, 1), (7, 2)])
    assert entries(queries_from(histories, 5, exclude_seen=True)) == [("u0", [9], [1]), ("u0", [9, 1, 1], [2])]


def test_items_of_events_that_do_not_count_as_seen_stay_relevant():
    """A view in the morning, a purchase at night: the purchase is still to be found, and after it no more."""
    histories = histories_of([(0, 1), (5, 1), (6, 1)])
    viewed = valued(histories, targets=[False, True, True], seen=[False, True, True])
    assert entries(queries_from(viewed, 5, exclude_seen=True)) == [("u0", [1], [1])]
    assert entries(queries_from(histories, 5, exclude_seen=True)) == []


def test_only_targets_are_relevant_and_only_read_events_are_a_past():
    histories = histories_of([(0, 1), (5, 2), (5, 3)], [(0, 1), (5, 2)])
    evaluation_set = queries_from(
        valued(histories, weights=[1, 0, 1, 1, 1], targets=[True, True, True, True, False]), 5
    )
    assert entries(evaluation_set) == [("u0", [1], [3])]
    assert entries(queries_from(valued(histories, weights=[0, 1, 1, 1, 1]), 5)) == [("u1", [1], [2])]


def test_no_events_give_no_queries():
    for histories in (histories_of(), histories_of([]), histories_of([(5, 1)], [])):
        evaluation_set = queries_from(histories, 0)
        assert (len(evaluation_set), evaluation_set.judged) == (0, 0)
        assert evaluation_set.by_user(np.zeros(0)).tolist() == []


@pytest.mark.parametrize("baskets", [9, 10, 11, 25, 100, 1_003])
def test_queries_of_one_user_are_limited_and_evenly_spread(baskets):
    histories = histories_of([(day, 1) for day in range(baskets + 1)], [(0, 1), (1, 2)])
    evaluation_set = queries_from(histories, 0)
    days = (evaluation_set.as_of[evaluation_set.users == 0] - START) // DAY
    assert len(days) == min(baskets, MOST_OF_A_USER)
    assert days[-1] == baskets
    gaps = np.diff(days, prepend=0)
    assert gaps.max() - gaps.min() <= 1
    assert (evaluation_set.users == 1).sum() == 1


def test_queries_of_one_user_count_as_one_user():
    histories = histories_of([(day, 1) for day in range(5)], [(0, 1), (1, 2)], [(0, 3)])
    evaluation_set = queries_from(histories, 0)
    assert (len(evaluation_set), evaluation_set.judged) == (5, 2)
    assert evaluation_set.by_user(np.array([1.0, 0, 0, 0, 0.5])).tolist() == [0.25, 0.5]


def test_a_sample_of_users_is_always_the_same():
    histories = random_histories(users=100)
    one, two, all_users = (queries_from(histories, 20, most=most) for most in (10, 10, None))
    assert one.judged == 10 < all_users.judged
    assert entries(one) == entries(two)
    whole = entries(all_users)
    names = {user for user, _, _ in entries(one)}
    assert entries(one) == [entry for entry in whole if entry[0] in names]  # with all queries of a sampled user
    assert np.unique(one.users).tolist() == list(range(10))


def test_since_keeps_later_queries_and_renumbers_users():
    histories = histories_of([(0, 1), (5, 2)], [(0, 1), (5, 3), (8, 4)], [(0, 1), (9, 5), (9, 6)])
    evaluation_set = queries_from(histories, 5)
    assert evaluation_set.since(START + 5 * DAY) is evaluation_set
    later = evaluation_set.since(START + 8 * DAY)
    assert entries(later) == [("u1", [1, 3], [4]), ("u2", [1], [5, 6])]
    assert later.users.tolist() == [0, 1]
    assert later.as_of.tolist() == [START + 8 * DAY, START + 9 * DAY]
    assert len(evaluation_set.since(START + 10 * DAY)) == 0


def test_only_some_relevant_items_keep_their_queries():
    histories = histories_of([(0, 1), (5, 2), (6, 4)], [(0, 1), (5, 3)], [(0, 1), (9, 5), (9, 6)])
    evaluation_set = queries_from(histories, 5)
    kept = evaluation_set.only(evaluation_set.items % 2 == 0)
    assert entries(kept) == [("u0", [1], [2]), ("u0", [1, 2], [4]), ("u2", [1], [6])]
    assert kept.users.tolist() == [0, 0, 1]
    assert kept.as_of.tolist() == [START + day * DAY for day in (5, 6, 9)]
    assert len(evaluation_set.only(evaluation_set.items > 6)) == 0


def by_definition(histories, starts, ends, exclude_seen):
    """(user, past, relevant items) of every query, from loops."""
    found = []
    for user in range(len(histories)):
        own = range(histories.offsets[user], ends[user])
        for moment in sorted({histories.times[event] for event in own if event >= starts[user]}):
            past = [event for event in own if histories.times[event] < moment]
            seen = {histories.items[event] for event in past if histories.seen[event]} if exclude_seen else set()
            basket = [event for event in own if histories.times[event] == moment and histories.wanted[event]]
            answers = {int(histories.items[event]) for event in basket} - seen
            if answers and any(histories.weights[event] > 0 for event in past):
                found.append((f"u{user}", histories.items[past].tolist(), sorted(answers)))
    return found


@given(st.integers(0, 10_000), st.booleans(), st.integers(0, 9), st.integers(0, 9))
def test_queries_equal_those_of_a_plain_loop(seed, exclude_seen, first, second):
    """Few baskets, so that no user has more than the limit."""
    random = np.random.default_rng(seed)
    users = [
        [(float(random.integers(0, 10)), int(random.integers(1, 6))) for _ in range(random.integers(0, 12))]
        for _ in range(5)
    ]
    histories = randomly_valued(histories_of(*users), seed)
    starts, ends = (from_day(histories, day) for day in sorted((first, second)))
    evaluation_set = EvaluationSet.of(histories, starts, ends, exclude_seen=exclude_seen)
    assert entries(evaluation_set) == by_definition(histories, starts, ends, exclude_seen)
