"""Splits: whole days back from the newest event, wider ones if they hold few users, or each user's last basket."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmamba.config import parse
from hmamba.errors import InputError
from hmamba.evaluation.split import DAYS, LAST, Split, days_of
from tests.histories import START, histories_of, randomly_valued

DAY = 86_400_000_000
LAST_BASKET = ": each user's last basket is held out"


def configured(*, position=False, exclude_seen=False, validation_days=1, **gate):
    return parse(
        {
            "source": {"columns": {"position": "step"} if position else {}},
            "train": {"validation_days": validation_days},
            "gate": {"min_users": 1, **gate},
            "candidates": {"exclude_seen": exclude_seen},
        },
        "test",
    )


def by_user(histories, cuts):
    """How many events of each user lie before the cuts."""
    return (cuts - histories.offsets[:-1]).tolist()


def shop(users=100, early=800):
    """One user comes on each of 100 days and buys twice; before, a busy one has ``early`` events in 30 days."""
    return histories_of(
        [(day * 30 / early - 40, 1 + day % 9) for day in range(early)],
        *([(day, 1), (day + 0.5, 2)] for day in range(100 - users, 100)),
    )


def test_the_days_are_counted_back_from_the_newest_event():
    users = [(0, 1), (5.5, 2), (6, 3), (8.5, 1), (9.2, 3)], [(1, 1), (4.9, 2), (5, 1), (9.9, 1)]
    histories = histories_of(*users, busy())
    split = Split.of(histories, configured(holdout_days=2, validation_days=3))
    assert split.mode == DAYS
    assert split.why == "2 held-out days and 3 validation days, as configured"
    assert by_user(histories, split.validation) == [1, 2, 20]
    assert by_user(histories, split.holdout) == [3, 3, 20]
    assert by_user(histories, split.ends) == [5, 4, 20]
    assert split.trained_until == START + 5 * DAY
    assert split.learnt(histories).lengths.tolist() == [1, 2, 20]
    assert split.before_holdout(histories).lengths.tolist() == [3, 3, 20]
    assert split.validation_set(histories, configured()).judged == 2
    queries = split.holdout_set(histories, configured())
    assert queries.judged == 2
    assert [str(day) for day in days_of(queries)] == ["2024-01-09", "2024-01-10"]


def busy():
    """Enough early events for training."""
    return [(day / 20, 1) for day in range(20)]


@pytest.mark.parametrize(("least", "validation", "holdout"), [(1, 98, 99), (2, 96, 98), (20, 60, 80), (50, 0, 50)])
def test_days_widen_until_they_hold_enough_users(least, validation, holdout):
    """One user comes on each of the last days, so that as many days as users are needed."""
    histories = shop()
    split = Split.of(histories, configured(min_users=least))
    assert split.mode == DAYS
    assert split.trained_until == START + validation * DAY
    assert histories.times[split.learnt(histories).events :].min() == START + validation * DAY
    queries = split.holdout_set(histories, configured())
    assert queries.as_of.min() == START + (holdout + 0.5) * DAY
    assert (split.validation_set(histories, configured()).judged, queries.judged) == (least, least)
    if least == 1:
        assert split.why == "1 held-out day and 1 validation day, as configured"
    else:
        assert split.why == (
            f"1 validation day and 1 held-out day have 1 user and 1 user to judge on, gate.min_users = {least}: "
            f"widened to {least} and {least} days"
        )


def test_only_the_days_that_hold_too_few_are_widened():
    histories = histories_of(busy(), *([(10, 1), (11 + user / 50, 2)] for user in range(50)), *few_a_day())
    split = Split.of(histories, configured(min_users=20))
    assert split.why.endswith("have 2 users and 50 users to judge on, gate.min_users = 20: widened to 2 and 1 days")
    assert split.trained_until == START + 9 * DAY


def few_a_day():
    """Two users on the 11th day, thirty on the 10th, and events enough before."""
    return [
        *([(0, 1), (10, 2)] for _ in range(2)),
        *([(0, 1), (9.5, 2)] for _ in range(30)),
        *([(user / 200, 1)] for user in range(600)),
    ]


@pytest.mark.parametrize(("events", "mode"), [(800, DAYS), (799, LAST)])
def test_widened_days_hold_a_fifth_of_all_events_at_most(events, mode):
    """A hundred users with two events each are a fifth of a thousand events."""
    histories = shop(early=events)
    split = Split.of(histories, configured(min_users=50))
    assert split.mode == mode
    if mode == LAST:
        assert split.why == (
            "1 validation day and 1 held-out day have 1 user and 1 user to judge on, gate.min_users = 50, and a fifth "
            f"of all events has too few{LAST_BASKET}"
        )


def test_with_too_few_users_the_last_baskets_are_held_out():
    assert Split.of(shop(), configured(min_users=51)).mode == LAST


def test_short_data_holds_out_last_baskets():
    histories = histories_of(*([(0, 1), (0.5, 2), (1, 3), (1.5, 1)] for _ in range(9)))
    split = Split.of(histories, configured())
    why = "1 held-out day and 1 validation day would leave less than half of all events for training"
    assert (split.mode, split.why) == (LAST, why + LAST_BASKET)
    assert by_user(histories, split.validation) == [2] * 9
    assert by_user(histories, split.holdout) == [3] * 9
    assert split.trained_until == START + 0.5 * DAY + 1


@pytest.mark.parametrize(("learnt", "mode"), [(4, DAYS), (3, LAST)])
def test_days_leave_half_of_all_events_for_training(learnt, mode):
    """Four events lie on the two days that would be held out."""
    histories = histories_of([(day, 1) for day in range(-learnt, 0)] + [(1, 2), (1.5, 3), (2, 1), (2.5, 2)])
    assert Split.of(histories, configured()).mode == mode


def test_data_without_times_holds_out_last_baskets():
    histories = shop()
    split = Split.of(histories, configured(position=True))
    assert (split.mode, split.why) == (LAST, "events have an order and no times" + LAST_BASKET)


def test_the_last_baskets_are_those_that_can_be_queries():
    histories = histories_of(
        [(0, 1)],  # has no past
        [(0, 1), (1, 2), (1, 3)],  # one query: nothing for validation
        [(0, 1), (1, 2), (2, 3), (3, 4)],
        [(0, 1), (1, 2), (2, 3), (3, 1)],  # the last basket holds what was seen before
        [],
    )
    split = Split.of(histories, configured(position=True, exclude_seen=True))
    assert by_user(histories, split.validation) == [1, 1, 2, 1, 0]
    assert by_user(histories, split.holdout) == [1, 1, 3, 2, 0]
    assert split.trained_until == START + 1 * DAY + 1
    config = configured(exclude_seen=True)
    validation, holdout = split.validation_set(histories, config), split.holdout_set(histories, config)
    assert (validation.items.tolist(), holdout.items.tolist()) == ([3, 2], [2, 3, 4, 3])


def test_no_events_cannot_be_split():
    with pytest.raises(InputError, match="no events"):
        Split.of(histories_of(), configured())


@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 3, 12]),
    st.sampled_from([1, 4]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 300]),
)
def test_held_out_events_are_neither_trained_on_nor_counted(seed, least, days, exclude_seen, position, early):
    """Whatever the data: what a user is queries comes after all that is learnt, and after what may be counted."""
    random = np.random.default_rng(seed)
    users = [
        [(float(random.integers(0, 40)), int(random.integers(1, 20))) for _ in range(random.integers(0, 12))]
        for _ in range(random.integers(1, 25))
    ]
    busy_one = [(-1 - day / 99, 1 + day % 20) for day in range(early)] or [(0, 1)]
    histories = randomly_valued(histories_of(*users, busy_one), seed)
    config = configured(
        min_users=least, holdout_days=days, validation_days=days, exclude_seen=exclude_seen, position=position
    )
    split = Split.of(histories, config)
    assert ((histories.offsets[:-1] <= split.validation) & (split.validation <= split.holdout)).all()
    assert ((split.holdout <= split.ends) & (split.ends == histories.offsets[1:])).all()
    learnt, counted = split.learnt(histories), split.before_holdout(histories)
    assert learnt.times.max(initial=0) < split.trained_until
    queries = [split.validation_set(histories, config), split.holdout_set(histories, config)]
    for evaluation_set, known in zip(queries, (learnt, counted), strict=True):
        newest = dict(zip(known.users.to_pylist(), newest_of(known), strict=True))
        for user, moment in zip(evaluation_set.past.users.to_pylist(), evaluation_set.as_of, strict=True):
            assert newest[user] < moment
    if split.mode == DAYS:
        cut = min(evaluation_set.as_of.min(initial=np.iinfo(np.int64).max) for evaluation_set in queries)
        assert learnt.times.max(initial=0) < cut
        assert counted.times.max(initial=0) < queries[1].as_of.min(initial=np.iinfo(np.int64).max)
        assert learnt.events >= histories.events / 2
        assert min(evaluation_set.judged for evaluation_set in queries) >= least


def newest_of(histories):
    """(U,) of each user, -1 where there is none."""
    bounds = zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
    return [int(histories.times[start:end].max(initial=-1)) for start, end in bounds]
