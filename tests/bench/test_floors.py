"""Floors against plain loops over tiny data."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bench import floors
from bench.protocols import MASKED, TEST, last_day, leave_one_out, measure
from tests.bench.files import order_data, shop


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


def test_the_setting_is_the_best_on_validation(experiment, monkeypatch):
    monkeypatch.setattr(floors, "NEIGHBOURS", (1, 4, 20))
    monkeypatch.setattr(floors, "SHRINKAGE", (0.0, 5.0))
    values = {}
    for shrinkage in floors.SHRINKAGE:
        found = floors.neighbours(experiment.train, experiment.size, most=20, shrinkage=shrinkage)
        for k in floors.NEIGHBOURS:
            ranked = floors.rank_by_neighbours(experiment, experiment.stop, found.matrix(k))
            measured = measure(ranked, experiment.stop, len(experiment.candidate_items))
            values[k, shrinkage] = measured["all users"][MASKED]["ndcg@10"]
    _, chosen = floors.tuned_neighbours(experiment)
    assert values[chosen["neighbours"], chosen["shrinkage"]] == max(values.values())
    assert len(set(values.values())) > 1


@pytest.mark.parametrize("recent", [False, True])
def test_own_purchases_come_first(tmp_path, recent):
    experiment = last_day(shop(tmp_path), days=7, validation_days=2, min_item_events=2, split="test")
    exam = experiment.exams[TEST]
    past = exam.evaluation_set.past
    ranked = (floors.most_recent if recent else floors.bought_most)(experiment, exam)
    learnt = Counter(experiment.train.items.tolist())
    assert ranked.shape == (len(past), 20)
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
