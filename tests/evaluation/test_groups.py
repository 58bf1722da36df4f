"""Groups of the evaluation set: who is in which, and that each is measured as it would be on its own."""

from __future__ import annotations

import numpy as np
import pytest

from hmamba.config import parse
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.gate import group_metrics, measure, measure_baselines
from hmamba.evaluation.groups import HISTORY_BANDS, groups_of, popularity_bands
from tests.histories import histories_of, random_histories

CONFIG = parse({"candidates": {"exclude_seen": False, "k": 12}}, "test")


def whole(histories):
    """Every basket but the first of each user is a query."""
    return EvaluationSet.of(histories, histories.offsets[:-1], histories.offsets[1:], exclude_seen=False)


def named(groups):
    return {(group.kind, group.least, group.most): group for group in groups}


def test_bands_are_thirds_of_all_events():
    assert popularity_bands(np.array([0, 0, 30, 10, 10, 10, 10, 10, 10])) == [0, 1, 10, 30]
    assert popularity_bands(np.array([0, 3, 2, 1])) == [0, 1, 2, 3]
    assert popularity_bands(np.array([0, 1, 1, 1])) == [0, 1]  # equal items are one band
    assert popularity_bands(np.array([0, 90, 1, 1])) == [0, 1, 90]
    assert popularity_bands(np.zeros(3, dtype=np.int64)) == [0]


def test_queries_are_grouped_by_history_newness_and_answers():
    """u0 has one event before its only query; u1 six events and three queries; item 7 is new, item 3 popular."""
    histories = histories_of([(0, 1), (9, 7)], [(0, 1), (0, 2), (1, 3), (2, 3), (2, 7), (3, 3)])
    evaluation_set = whole(histories)
    events = np.array([0, 1, 1, 4, 0, 0, 0, 0])
    is_new = np.array([True, False, False, False])
    found = named(groups_of(evaluation_set, events, is_new))
    assert set(found) == {
        ("history", 1, 4),
        ("history", 5, 19),
        ("users", 0, 0),
        ("users", 1, None),
        ("items", 0, 0),
        ("items", 4, None),
    }
    assert found["history", 1, 4].queries.tolist() == [0, 1, 2]
    assert found["history", 5, 19].queries.tolist() == [3]
    assert found["users", 0, 0].queries.tolist() == [0]
    assert (found["users", 1, None].queries.tolist(), found["users", 1, None].judged) == ([1, 2, 3], 1)
    new_items = found["items", 0, 0]
    assert (new_items.queries.tolist(), new_items.items.tolist(), new_items.judged) == ([0, 2], [7, 7], 2)


def test_a_group_is_measured_as_an_evaluation_set_of_its_own():
    histories = random_histories(items=30)
    evaluation_set = whole(histories)
    random = np.random.default_rng(1)
    ranked = np.stack([random.permutation(30)[:12] for _ in range(len(evaluation_set))])
    events = histories.item_events(31)
    is_new = evaluation_set.users % 3 == 0
    groups = groups_of(evaluation_set, events, is_new)
    assert {group.kind for group in groups} == {"history", "users", "items"}
    for group in groups:
        pairs = {
            "history": np.diff(evaluation_set.past.offsets)[evaluation_set.rows],
            "users": (~is_new)[evaluation_set.rows].astype(int),
            "items": events[evaluation_set.items],
        }[group.kind]
        kept = (pairs >= group.least) & (pairs <= (10**9 if group.most is None else group.most))
        alone = evaluation_set.only(kept)
        direct = measure(ranked[np.unique(evaluation_set.rows[kept])], alone, CONFIG, 30)
        assert group.values(ranked, "ndcg@10") == pytest.approx(direct.deciding)
        assert group.judged == alone.judged


def test_the_groups_of_a_kind_cover_all_relevant_items_once():
    histories = random_histories(items=30)
    evaluation_set = whole(histories)
    groups = groups_of(evaluation_set, histories.item_events(31), np.zeros(len(evaluation_set), dtype=bool))
    for kind in ("history", "users", "items"):
        assert sum(len(group.items) for group in groups if group.kind == kind) == len(evaluation_set.items)
    assert [group.least for group in groups if group.kind == "history"] == [
        least for least in HISTORY_BANDS if least <= np.diff(evaluation_set.past.offsets).max()
    ]


def test_the_serving_model_is_compared_with_the_best_baseline_in_each_group():
    histories = histories_of(*([(0, 1), (1, 2)] for _ in range(8)), *([(0, 1), (1, 1)] for _ in range(8)))
    evaluation_set = whole(histories)
    groups = groups_of(evaluation_set, np.array([0, 9, 1]), np.zeros(16, dtype=bool))
    measured = measure_baselines(np.array([0, 9, 1]), evaluation_set, CONFIG, groups=groups)
    ranked = np.full((16, 12), 2)
    ranked[:, 1:] = -1
    measured = {"challenger": measure(ranked, evaluation_set, CONFIG, 2, groups=groups), **measured}
    found = {(one.kind, one.least_events): one for one in group_metrics(groups, measured, "ndcg@10", "challenger")}
    rare, popular = found["items", 1], found["items", 9]
    assert (rare.users, rare.answers, rare.metrics["challenger"], popular.metrics["challenger"]) == (8, 8, 1.0, 0.0)
    assert rare.comparison is not None
    assert popular.comparison is not None
    assert (rare.comparison.says, popular.comparison.says) == ("better", "worse")
    assert rare.comparison.other == popular.comparison.other
    assert all(one.comparison is None for one in group_metrics(groups, measured, "ndcg@10", None))


def test_an_empty_evaluation_set_has_no_groups():
    histories = histories_of([(0, 1)])
    assert groups_of(whole(histories), np.array([0, 1]), np.zeros(0, dtype=bool)) == []
