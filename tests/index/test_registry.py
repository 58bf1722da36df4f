"""A new search is one class and one entry in the registry."""

from __future__ import annotations

import numpy as np
import pytest

from hmamba.candidates.retrieve import retrieve
from hmamba.config import CandidatesConfig
from hmamba.index import index as item_index
from hmamba.index.base import Searcher
from hmamba.index.choice import choose
from hmamba.index.registry import SEARCHERS
from hmamba.inference.encode import encode_users
from tests.histories import random_histories
from tests.index.test_precision import write_shards
from tests.stored import stored_model


class BruteForce(Searcher):
    """Sorts all products."""

    name = "brute force"

    def __init__(self, vectors):
        self.vectors = vectors

    @classmethod
    def build(cls, vectors, device=None):
        return cls(vectors)

    def search(self, queries, k, excluded=None):
        products = queries @ self.vectors.T
        if excluded is not None:
            products[excluded] = -np.inf
        columns = np.argsort(-products, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(products, columns, axis=1), columns

    def save(self, folder):
        np.save(folder / "toy.npy", self.vectors)

    @classmethod
    def load(cls, folder, device=None):
        return cls(np.load(folder / "toy.npy"))


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(SEARCHERS, BruteForce.name, BruteForce)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_a_registered_search_is_built_saved_loaded_and_ranks(tmp_path, exclude_seen):
    stored, histories = stored_model(items=300), random_histories(items=300, baskets=False)
    hidden = encode_users(stored.model, histories)
    built = item_index.build(stored, stored.candidate_items, BruteForce.name)
    assert item_index.save(built, tmp_path / "index") > built.vectors.nbytes
    again = item_index.load(tmp_path / "index", stored.identity)
    assert (again.kind, type(again.searcher)) == ("brute force", BruteForce)
    ask = {"k": 7, "exclude_seen": exclude_seen}
    mine = retrieve(stored, again, histories, hidden, **ask)
    right = retrieve(stored, item_index.build(stored, stored.candidate_items), histories, hidden, **ask)
    assert np.array_equal(mine.items, right.items)
    np.testing.assert_allclose(mine.scores, right.scores, rtol=1e-5)


@pytest.mark.usefixtures("registered")
def test_a_registered_search_is_timed_and_can_be_chosen(tmp_path, monkeypatch):
    stored, histories = stored_model(items=300), random_histories(items=300)
    files, wishes = write_shards(tmp_path, histories), CandidatesConfig(k=20)
    timed = choose(stored, stored.candidate_items, files, wishes).queries_per_second
    assert list(timed) == ["flat", "matmul", "brute force"]
    monkeypatch.setattr(
        "hmamba.index.choice._speeds",
        lambda indexes, *_: {kind: 1 + (kind == BruteForce.name) for kind in indexes},
    )
    assert choose(stored, stored.candidate_items, files, wishes).index.kind == BruteForce.name


def exclusions(random, items, queries):
    """Excluded items: none for the first query, all but three for the second, some for the others."""
    columns = [random.choice(items, 40, replace=False) for _ in range(queries)]
    columns[0], columns[1] = columns[0][:0], np.arange(items - 3)
    return np.repeat(np.arange(queries), [len(of_query) for of_query in columns]), np.concatenate(columns)


@pytest.mark.parametrize("name", SEARCHERS)
def test_every_search_implements_the_interface(tmp_path, name):
    """k columns per query, best first, without excluded items, -inf if too few are left; the same after a load."""
    searcher, random, k = SEARCHERS[name], np.random.default_rng(0), 10
    vectors, queries = (random.standard_normal((rows, 12)).astype(searcher.dtype) for rows in (2_000, 9))
    excluded = exclusions(random, len(vectors), len(queries))
    built = searcher.build(vectors)
    built.save(tmp_path)
    loaded = searcher.load(tmp_path)
    assert np.array_equal(loaded.vectors, vectors)
    assert loaded.vectors.dtype == searcher.dtype
    for search in (built, loaded):
        products, columns = search.search(queries, k, excluded)
        assert products.shape == columns.shape == (len(queries), k)
        is_there = np.isfinite(products)
        assert is_there.sum(axis=1).tolist() == [k, 3, *[k] * (len(queries) - 2)]
        assert (products[:, :-1] >= products[:, 1:]).all()
        own = np.take_along_axis(queries @ vectors.T, columns, axis=1)
        np.testing.assert_allclose(products[is_there], own[is_there], rtol=1e-4, atol=1e-5)
        found = (np.arange(len(queries))[:, None] * len(vectors) + columns)[is_there]
        assert not np.isin(found, excluded[0] * len(vectors) + excluded[1]).any()
        assert len(np.unique(found)) == len(found)
