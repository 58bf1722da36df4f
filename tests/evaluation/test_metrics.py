"""Metrics by hand and against a plain implementation of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hmamba.evaluation import metrics
from hmamba.evaluation.metrics import metrics_by_query, ranking_metrics


def test_by_hand():
    ranked = np.array([[3, 1, 2], [4, 5, -1], [9, 8, 7]])
    found = ranking_metrics(ranked, np.array([0, 0, 1, 2]), np.array([1, 2, 4, 6]), cutoffs=(2, 3), catalogue=10)
    assert found["hr@2"] == pytest.approx(2 / 3)
    assert found["mrr@2"] == pytest.approx((1 / 2 + 1) / 3)
    first = (1 / math.log2(3)) / (1 + 1 / math.log2(3))
    assert found["ndcg@2"] == pytest.approx((first + 1) / 3)
    assert found["recall@2"] == pytest.approx((1 / 2 + 1) / 3)
    assert found["recall@3"] == pytest.approx((1 + 1) / 3)
    assert found["coverage@2"] == pytest.approx(6 / 10)
    assert found["coverage@3"] == pytest.approx(8 / 10)


@pytest.mark.parametrize("seed", range(5))
def test_against_plain_loops(seed):
    random = np.random.default_rng(seed)
    users, k, items = 40, 20, 60
    ranked = np.stack([random.permutation(items)[:k] for _ in range(users)])
    truth = [set(random.choice(items, random.integers(1, 30), replace=False).tolist()) for _ in range(users)]
    rows = np.repeat(np.arange(users), [len(t) for t in truth])
    found = ranking_metrics(ranked, rows, np.array([i for t in truth for i in t]), cutoffs=(5, 20), catalogue=items)
    for cut in (5, 20):
        hr = ndcg = mrr = recall = 0.0
        for row, wanted in zip(ranked[:, :cut].tolist(), truth, strict=True):
            places = [place for place, item in enumerate(row, 1) if item in wanted]
            hr += bool(places)
            mrr += 1 / places[0] if places else 0
            recall += len(places) / len(wanted)
            best = sum(1 / math.log2(p + 1) for p in range(1, min(cut, len(wanted)) + 1))
            ndcg += sum(1 / math.log2(p + 1) for p in places) / best
        assert found[f"hr@{cut}"] == pytest.approx(hr / users)
        assert found[f"mrr@{cut}"] == pytest.approx(mrr / users)
        assert found[f"ndcg@{cut}"] == pytest.approx(ndcg / users)
        assert found[f"recall@{cut}"] == pytest.approx(recall / users)


def test_recall_is_measured_alone_at_further_depths():
    ranked, rows, items = np.array([[3, 1, 2]]), np.array([0, 0, 0]), np.array([3, 2, 9])
    found = metrics_by_query(ranked, rows, items, cutoffs=(1,), recall_at={1, 3})
    assert {name: values.tolist() for name, values in found.items()} == {
        "hr@1": [1],
        "ndcg@1": [1],
        "mrr@1": [1],
        "recall@1": [1 / 3],
        "recall@3": [2 / 3],
    }


def test_many_users_are_matched_block_by_block():
    users = 2 * metrics._ROWS + 3
    ranked = np.arange(users)[:, None] % 7 + np.array([1, 2])
    found = metrics.hits(ranked, np.arange(users), ranked[:, 1])
    assert found.tolist() == [[False, True]] * users
