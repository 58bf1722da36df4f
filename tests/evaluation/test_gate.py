"""Splits, baselines and the gate's decisions."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from hmamba.config import parse
from hmamba.errors import QualityError
from hmamba.evaluation.baselines import most_bought, popular
from hmamba.evaluation.gate import decide, unseen_from
from hmamba.evaluation.split import Question, Split
from tests.histories import START, histories_of, random_histories

DAY = 86_400_000_000
CONFIG = parse({}, "test")


def test_the_split_counts_whole_days_back_from_the_newest_event():
    histories = histories_of([(0, 1), (5.5, 2), (9.2, 3)])
    split = Split.of(histories, parse({"gate": {"holdout_days": 2}, "train": {"validation_days": 3}}, "test"))
    assert [(cut - START) / DAY for cut in (split.validation, split.holdout, split.end)] == [5, 8, 10]
    assert [str(day) for day in split.holdout_days] == ["2024-01-09", "2024-01-10"]


def test_a_question_knows_the_past_only_and_counts_each_item_once():
    histories = histories_of(
        [(0, 1), (5, 1), (5.1, 2), (5.2, 2)],  # has a past; takes 1 again and 2 twice
        [(5, 3)],  # no past
        [(0, 4)],  # nothing afterwards
    )
    question = Question.ask(histories, START + 5 * DAY, START + 6 * DAY, exclude_seen=False)
    assert question.past.users.to_pylist() == ["u0"]
    assert question.past.items.tolist() == [1]
    assert list(zip(question.rows.tolist(), question.items.tolist(), strict=True)) == [(0, 1), (0, 2)]
    new = Question.ask(histories, START + 5 * DAY, START + 6 * DAY, exclude_seen=True)
    assert new.items.tolist() == [2]


def test_a_sample_of_users_is_always_the_same():
    histories = random_histories(users=100)
    one, two = (Question.ask(histories, START + 20 * DAY, START + 40 * DAY, exclude_seen=False, most=10) for _ in "ab")
    assert len(one.past) == 10
    assert one.past.users == two.past.users
    assert set(np.unique(one.rows)) == set(range(10))


def test_baselines():
    histories = histories_of([(0, 3), (1, 3), (2, 1)], [(0, 2)])
    counts = np.array([0, 5, 9, 2, 0])
    assert popular(histories, counts, 3, exclude_seen=False).tolist() == [[2, 1, 3], [2, 1, 3]]
    assert popular(histories, counts, 3, exclude_seen=True).tolist() == [[2, -1, -1], [1, 3, -1]]
    assert most_bought(histories, counts, 4).tolist() == [[3, 1, 2, -1], [2, 1, 3, -1]]


@pytest.mark.parametrize("k", [1, 7, 60])
def test_baselines_rank_as_one_user_at_a_time_would(k):
    users, size = 300, 44  # more users than a block
    histories = random_histories(users=users, items=40, events=60)
    popularity = np.random.default_rng(1).integers(0, 9, size)
    owned = [histories.items[histories.offsets[u] : histories.offsets[u + 1]].tolist() for u in range(users)]

    def ranked(own, without=()):
        items = [i for i in range(size) if popularity[i] and i not in without]
        best = sorted(items, key=lambda i: (-own.count(i), -popularity[i], i))
        return (best + [-1] * k)[:k]

    assert most_bought(histories, popularity, k).tolist() == [ranked(own) for own in owned]
    assert popular(histories, popularity, k, exclude_seen=False).tolist() == [ranked([])] * users
    assert popular(histories, popularity, k, exclude_seen=True).tolist() == [ranked([], own) for own in owned]


def test_baselines_take_no_table_of_users_times_catalogue():
    histories, popularity = random_histories(users=256), np.ones(200_000, dtype=np.int64)
    tracemalloc.start()
    try:
        most_bought(histories, popularity, 10)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * len(popularity)  # bytes: not even a byte for each pair


@pytest.mark.parametrize(
    ("days", "first", "told"),
    [
        ({}, 8, None),
        ({"a": 5, "b": 8}, 8, None),
        ({"a": 9, "b": 6}, 9, "judged from 2024-01-10 on, because a has been trained on the held-out days before"),
        ({"a": 9, "b": 10}, 10, "b has been trained on all held-out days"),
        ({"a": 12}, 10, "a has been trained on all held-out days"),
    ],
)
def test_nobody_is_judged_on_days_that_anybody_was_trained_on(days, first, told):
    split = Split(*(START + day * DAY for day in (5, 8, 10)))
    start, why = unseen_from(split, {version: START + day * DAY for version, day in days.items()})
    assert ((start - START) / DAY, why) == (first, told)


@pytest.mark.parametrize(
    ("mine", "tolerance", "told"),
    [
        (0.21, 0.02, "ndcg@10 0.2100 against the champion's 0.2000"),
        (0.20, 0.02, "ndcg@10 0.2000 against the champion's 0.2000"),
        (0.197, 0.02, "ndcg@10 0.1970 against the champion's 0.2000: worse, but within the tolerance of 2 %"),
        (0.196, 0.025, "ndcg@10 0.1960 against the champion's 0.2000: worse, but within the tolerance of 2.5 %"),
        (0.19, 0.025, "the challenger's ndcg@10 0.1900 is worse than the champion's 0.2000 by more than 2.5 %"),
    ],
)
def test_the_reason_says_what_was_tolerated(mine, tolerance, told):
    metrics = {"challenger": {"ndcg@10": mine}, "champion": {"ndcg@10": 0.2}, "popularity": {"ndcg@10": 0.1}}
    assert decide("c", "old", metrics, parse({"gate": {"tolerance": tolerance}}, "test")).reason == told


@pytest.mark.parametrize(
    ("challenger", "champion", "scores", "serving", "promoted"),
    [
        ("c", "old", (0.30, 0.20, 0.1), "c", True),
        ("c", "old", (0.197, 0.20, 0.1), "c", True),  # within the tolerance of 2 %
        ("c", "old", (0.195, 0.20, 0.1), "old", False),
        ("c", "old", (0.30, 0.20, 0.4), "old", False),  # worse than popularity
        ("c", None, (0.30, None, 0.1), "c", True),
        (None, "old", (None, 0.20, 0.1), "old", False),
        ("c", "old", None, "old", False),  # nobody to judge on
    ],
)
def test_decisions(challenger, champion, scores, serving, promoted):
    names = ("challenger", "champion", "popularity")
    metrics = {} if scores is None else {n: {"ndcg@10": s} for n, s in zip(names, scores, strict=True) if s is not None}
    decision = decide(challenger, champion, metrics, CONFIG)
    assert (decision.serving, decision.promoted) == (serving, promoted)
    assert decision.reason


@pytest.mark.parametrize(
    ("challenger", "metrics", "message"),
    [
        (None, {}, "run the train step"),
        ("c", {}, "cannot be judged"),
        ("c", {"challenger": {"ndcg@10": 0.1}, "popularity": {"ndcg@10": 0.1}}, "does not beat popularity"),
    ],
)
def test_without_a_champion_nothing_bad_is_published(challenger, metrics, message):
    with pytest.raises(QualityError, match=message):
        decide(challenger, None, metrics, CONFIG)
