"""Metrics by hand and against a plain implementation of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hmamba.evaluation.metrics import ranking_metrics


def test_by_hand():
    ranked = np.array([[3, 1, 2], [4, 5, -1], [9, 8, 7]])
    metrics = ranking_metrics(ranked, np.array([0, 0, 1, 2]), np.array([1, 2, 4, 6]), cutoffs=(2, 3), catalogue=10)
    assert metrics["hr@2"] == pytest.approx(2 / 3)
    assert metrics["mrr@2"] == pytest.approx((1 / 2 + 1) / 3)
    first = (1 / math.log2(3)) / (1 + 1 / math.log2(3))
    assert metrics["ndcg@2"] == pytest.approx((first + 1) / 3)
    assert metrics["coverage@2"] == pytest.approx(6 / 10)
    assert metrics["coverage@3"] == pytest.approx(8 / 10)


@pytest.mark.parametrize("seed", range(5))
def test_against_plain_loops(seed):
    random = np.random.default_rng(seed)
    users, k, items = 40, 20, 60
    ranked = np.stack([random.permutation(items)[:k] for _ in range(users)])
    truth = [set(random.choice(items, random.integers(1, 30), replace=False).tolist()) for _ in range(users)]
    rows = np.repeat(np.arange(users), [len(t) for t in truth])
    metrics = ranking_metrics(ranked, rows, np.array([i for t in truth for i in t]), cutoffs=(5, 20), catalogue=items)
    for cut in (5, 20):
        hr = ndcg = mrr = 0.0
        for row, wanted in zip(ranked[:, :cut].tolist(), truth, strict=True):
            places = [place for place, item in enumerate(row, 1) if item in wanted]
            hr += bool(places)
            mrr += 1 / places[0] if places else 0
            best = sum(1 / math.log2(p + 1) for p in range(1, min(cut, len(wanted)) + 1))
            ndcg += sum(1 / math.log2(p + 1) for p in places) / best
        assert metrics[f"hr@{cut}"] == pytest.approx(hr / users)
        assert metrics[f"mrr@{cut}"] == pytest.approx(mrr / users)
        assert metrics[f"ndcg@{cut}"] == pytest.approx(ndcg / users)
