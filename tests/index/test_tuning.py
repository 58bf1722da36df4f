"""The choice among the parameters that reach the floor."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hmamba.index import tuning
from hmamba.index.base import Trial
from hmamba.index.ivf import IvfSearcher
from hmamba.index.tuning import recalls

K = 10


@pytest.fixture(scope="module")
def searcher():
    """Items for which a high recall needs many lists."""
    return IvfSearcher.build(np.random.default_rng(0).standard_normal((6_000, 24)).astype(np.float32))


@pytest.fixture(scope="module")
def queries():
    return np.random.default_rng(1).standard_normal((80, 24)).astype(np.float32)


@pytest.fixture(scope="module")
def exact(searcher, queries):
    return searcher.exact.search(queries, K)


@pytest.fixture
def tried(monkeypatch):
    """The parameters tried, in order."""
    parameters, with_parameters = [], IvfSearcher.with_parameters

    def recorded(searcher, new):
        parameters.append(new)
        return with_parameters(searcher, new)

    monkeypatch.setattr(IvfSearcher, "with_parameters", recorded)
    return parameters


def recall(searcher, queries, exact):
    """Recall of the worse half of the queries."""
    products, found = searcher.search(queries, K)
    shares = recalls(found, products, exact[1], exact[0])
    return min(shares[::2].mean(), shares[1::2].mean())


@pytest.mark.parametrize("floor", [0.8, 0.9, 0.97])
def test_the_least_work_that_reaches_the_floor_is_chosen(searcher, queries, exact, tried, floor):
    chosen = searcher.tuned(Trial(queries, K, None, *exact, floor, seconds=1e9)).searcher
    all_tried = list(tried)
    codes, cost = len(searcher.vectors) / searcher.nlist, tuning._RERANK_COST
    reached = [
        (parameters.nprobe * codes + cost * parameters.k_factor * K, parameters)
        for parameters in all_tried
        if recall(searcher.with_parameters(parameters), queries, exact) >= floor
    ]
    assert len({work for work, _ in reached}) > 1, "there was no choice: the test shows nothing"
    assert chosen.parameters == min(reached, key=lambda pair: pair[0])[1]
    steps = list(dict.fromkeys(parameters.nprobe for parameters in all_tried))
    assert all(after == before + max(1, before // 2) for before, after in pairwise(steps))
    first = min(parameters.nprobe for _, parameters in reached)
    assert steps[-1] == searcher.nlist or len(steps[steps.index(first) :]) == 3


def test_both_halves_of_the_queries_must_reach_the_floor(searcher, queries, exact):
    """One half has no exact results and so a recall of 1; the mean reaches the floor long before the other half."""
    products, columns = exact[0].copy(), exact[1]
    products[::2] = -np.inf
    tuned = searcher.tuned(Trial(queries, K, None, products, columns, 0.9, seconds=1e9))
    found_products, found = tuned.searcher.search(queries, K)
    assert recalls(found, found_products, columns, exact[0])[1::2].mean() >= 0.9


def test_the_recall_of_a_query_depends_on_its_own_results_only():
    """The exact results of the first query are not found; those of the second one are, and have the lowest columns."""
    found, right = np.array([[2, 3], [0, 1]]), np.array([[5, 4], [0, 1]])
    assert recalls(found, np.ones((2, 2)), right, np.ones((2, 2))).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("exact_results", "expected"), [(0, 1.0), (1, 1.0), (2, 0.5), (4, 0.25)])
def test_the_recall_is_a_share_of_the_exact_results_that_exist(exact_results, expected):
    found, right = np.array([[7, 8, 8, 8]]), np.array([[7, 1, 2, 3]])
    products = np.array([[1.0, -np.inf, -np.inf, -np.inf]])
    best = np.where(np.arange(4) < exact_results, 1.0, -np.inf)[None]
    assert recalls(found, products, right, best).tolist() == [expected]


def test_no_queries_have_no_recalls():
    none, products = np.zeros((0, 4), np.int64), np.zeros((0, 4))
    assert recalls(none, products, none, products).shape == (0,)
