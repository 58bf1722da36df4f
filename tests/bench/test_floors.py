"""Floors against plain loops over tiny data."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bench import floors
from bench.protocols import MASKED, TEST, UNMASKED, Exam, Experiment, last_day, leave_one_out, measure
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.sequences.candidate_items import CandidateItems
from tests.bench.files import order_data, shop
from tests.histories import histories_of


@pytest.fixture
def experiment(tmp_path):
    return leave_one_out(order_data(tmp_path, repeats=True), 50)


def sets(histories):
    return [histories.items[a:b].tolist() for a, b in zip(histories.offsets[:-1], histories.offsets[1:], strict=True)]


def test_popularity_is_the_same_for_everybody_and_counts_training_events(experiment):
    counts = Counter(experiment.train.items.tolist())
    wanted = sorted(counts, key=lambda item: (-counts[item], item))
    ranked = floors.popularity(experiment, experiment.exams[TEST])
    assert ranked.shape[1] == experiment.exams[TEST].depth
    for row in ranked:
        assert [item for item in row.tolist() if item >= 0] == wanted[: len(row)]


@pytest.mark.parametrize("shrinkage", [0.0, 3.0])
def test_neighbours_against_loops(experiment, shrinkage):
    users = {i: set() for i in range(1, experiment.size)}
    for user, items in enumerate(sets(experiment.train)):
        for item in items:
            users[item].add(user)

    def similarity(a, b):
        scale = np.sqrt(len(users[a]) * len(users[b])) + shrinkage
        return len(users[a] & users[b]) / scale if users[a] and users[b] else 0.0

    found = floors.neighbours(experiment.train, experiment.size, most=5, shrinkage=shrinkage)
    for item in users:
        best = sorted((similarity(item, other) for other in users if other != item), reverse=True)[:5]
        assert found.similarity[item].tolist() == pytest.approx(best)
        for other, value in zip(found.items[item], found.similarity[item], strict=True):
            assert value == pytest.approx(similarity(item, int(other)) if other in users else 0.0)


def test_a_matrix_of_all_neighbours_leaves_the_neighbours_as_they_are(experiment):
    found = floors.neighbours(experiment.train, experiment.size, most=6, shrinkage=1.0)
    assert not found.similarity.all()
    before, first = found.similarity.copy(), found.matrix(6)
    dense = first.toarray()
    found.matrix(6)
    np.testing.assert_array_equal(found.similarity, before)
    np.testing.assert_array_equal(first.toarray(), dense)


def test_ranking_by_neighbours_against_loops(experiment):
    matrix = floors.neighbours(experiment.train, experiment.size, most=6, shrinkage=1.0).matrix(4)
    assert np.diff(matrix.indptr).max() <= 4
    dense, counts = matrix.toarray(), experiment.train.item_events(experiment.size)
    exam = experiment.exams[TEST]
    ranked = floors.rank_by_neighbours(experiment, exam, matrix)
    for row, items in enumerate(sets(exam.evaluation_set.past)):
        score = {
            int(v): sum(dense[i, v] for i in set(items)) + 1e-6 * counts[v] / (counts.max() + 1)
            for v in experiment.candidate_items.eligible
        }
        got = [item for item in ranked[row].tolist() if item >= 0]
        assert len(set(got)) == len(got) == min(len(score), exam.depth)
        best = sorted(score.values(), reverse=True)[: len(got)]
        assert [score[item] for item in got] == pytest.approx(best, abs=1e-7)


@pytest.mark.parametrize("name", ["item-kNN", "V-SKNN"])
@pytest.mark.parametrize("repeats", [False, True])
def test_settings_are_the_best_on_validation_in_the_view_that_is_shown(tmp_path, monkeypatch, name, repeats):
    monkeypatch.setattr(floors, "NEIGHBOURS", (1, 4, 20))
    monkeypatch.setattr(floors, "SHRINKAGE", (0.0, 5.0))
    monkeypatch.setattr(floors, "SIMILAR_USERS", (1, 4, 20))
    monkeypatch.setattr(floors, "SAMPLES", (3, 30))
    experiment = leave_one_out(order_data(tmp_path, users=80, repeats=repeats), 50)
    view = UNMASKED if repeats else MASKED
    values = []
    for settings, rank in floors.TUNED[name](experiment):
        measured = measure(rank(experiment.stop), experiment.stop, len(experiment.candidate_items))
        values.append((measured["all users"][view]["ndcg@10"], settings))
    best = max(value for value, _ in values)
    assert len({value for value, _ in values}) > 2
    assert floors.floor(name, experiment)[0] == next(settings for value, settings in values if value == best)


def trial(train, past, views=(UNMASKED,)):
    """The floors' view of these histories: nine item indices, all of them candidate items; the relevant ones are 1."""
    train, past = histories_of(*train), histories_of(*past)
    rows = np.arange(len(past))
    queries = EvaluationSet(past, np.full(len(past), past.times.max() + 1), rows, np.ones(len(past), dtype=np.int64))
    exam = Exam(queries, past, views, {"all users": rows})
    everything = CandidateItems.of(np.ones(9, dtype=np.int64), 1)
    return Experiment(train, everything, 9, exam, {TEST: exam}, None, None, train), exam


def sessions(*users):
    return [list(enumerate(items)) for items in users]


@pytest.mark.parametrize(("views", "best"), [((MASKED, UNMASKED), "history"), ((UNMASKED,), "other")])
def test_choices_are_made_in_the_first_view(views, best):
    """The answer is item 1. Where seen items are excluded, it is the first one after them, otherwise the fourth."""
    experiment, _ = trial(sessions([1]), sessions([2, 3, 4]), views)
    rankings = {"history": np.array([[2, 3, 4, 1]]), "other": np.array([[5, 1]])}
    choices = [({"name": name}, lambda _, ranked=ranked: ranked) for name, ranked in rankings.items()]
    assert floors._chosen(experiment, choices)[0] == floors._chosen(experiment, choices[::-1])[0] == {"name": best}


def test_markov_by_hand():
    """After 1 came 2 twice, 1 once and 4 once; 5 is the most popular item, then 1."""
    train = sessions([1, 2, 5, 5, 5, 5], [3, 1, 1, 2, 5], [1, 4, 5])
    experiment, exam = trial(train, sessions([5, 1], [8, 2], [8], [5]))
    ranked = floors.markov(experiment, exam)
    assert ranked.shape == (4, 100)
    assert ranked[0, :8].tolist() == [2, 1, 4, 5, 3, 6, 7, 8]
    assert ranked[1, :3].tolist() == [5, 1, 2]
    assert ranked[2, :3].tolist() == [5, 1, 2]  # nothing followed 8
    assert ranked[3, :4].tolist() == [5, 1, 2, 3]  # the first item of another user did not follow 5
    assert (ranked[:, 8:] == -1).all()


SIMILAR = {"users": 9, "sample": 9, "decay": "linear"}


def test_v_sknn_by_hand():
    """The weights of items 1, 2 and 3 are 1/3, 2/3 and 1, so the users' similarities are 1/3, 5/3 and 1."""
    train = [*sessions([1, 4], [2, 3, 5], [3, 6, 6]), [(9, 8)]]
    experiment, exam = trial(train, sessions([1, 2, 3]))
    ranked = floors.rank_by_users(experiment, exam, **SIMILAR)[0]
    # Sums: item 3 is 8/3, 2 and 5 are 5/3, 6 is 1, 1 and 4 are 1/3; nobody similar has 7 or 8, and 8 is more popular.
    assert ranked[:8].tolist() == [3, 2, 5, 6, 1, 4, 8, 7]
    assert (ranked[8:] == -1).all()


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"users": 1}, [2, 3, 5]),  # user 1, the most similar
        ({"sample": 1}, [3, 6]),  # user 2, the most recent
        ({"sample": 2}, [3, 2, 5, 6]),  # not user 0, the least recent
        ({"sample": 2, "users": 1}, [2, 3, 5]),
    ],
)
def test_v_sknn_takes_the_most_similar_users_of_the_most_recent_ones(settings, first):
    train = sessions([1, 4], [2, 3, 5], [3, 6, 6, 6])
    experiment, exam = trial(train, sessions([1, 2, 3]))
    ranked = floors.rank_by_users(experiment, exam, **{**SIMILAR, **settings})[0].tolist()
    assert sorted(ranked[: len(first)]) == sorted(first)
    if len(first) > 3:
        assert ranked[: len(first)] == first


def test_v_sknn_ranks_own_items_by_the_newest_event():
    """Item 1 is repeated last, so that its weight is 1; the user's own training events are a session like others."""
    experiment, exam = trial(sessions([1, 2], [7, 8]), sessions([1, 2, 1]))
    assert floors.rank_by_users(experiment, exam, **SIMILAR)[0, :2].tolist() == [1, 2]
    weights = floors._weighted(exam.evaluation_set.past, 9, "linear").toarray()[0]
    assert weights.tolist() == pytest.approx([0, 1, 2 / 3, 0, 0, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("decay", "weights"),
    [
        ("linear", [0.25, 0.5, 0.75, 1]),
        ("quadratic", [0.0625, 0.25, 0.5625, 1]),
        ("reciprocal", [1 / 4, 1 / 3, 0.5, 1]),
    ],
)
def test_decays_by_hand(decay, weights):
    past = histories_of(*sessions([1, 2, 3, 4]))
    assert floors._weighted(past, 9, decay).toarray()[0, 1:5].tolist() == pytest.approx(weights)


@pytest.mark.parametrize("recent", [False, True])
def test_own_purchases_come_first(tmp_path, recent):
    experiment = last_day(shop(tmp_path), days=7, validation_days=2, min_item_events=2, split="test")
    exam = experiment.exams[TEST]
    past = exam.evaluation_set.past
    ranked = (floors.most_recent if recent else floors.bought_most)(experiment, exam)
    learnt = Counter(experiment.train.items.tolist())
    assert ranked.shape == (len(past), 100)
    for row, items in enumerate(sets(past)):
        often = Counter(items)
        last = dict(zip(items, past.times[past.offsets[row] :].tolist(), strict=False))
        keys = {item: (-last[item] if recent else 0, -often[item], -max(learnt[item], 1)) for item in often}
        got = [item for item in ranked[row].tolist() if item >= 0]
        own, rest = got[: len(often)], got[len(often) :]
        assert [keys[item] for item in own] == sorted(keys.values())[: len(own)]
        others = sorted((-max(count, 1) for item, count in learnt.items() if item not in often))
        assert [-max(learnt[item], 1) for item in rest] == others[: len(rest)]
        assert len(set(got)) == len(got)
