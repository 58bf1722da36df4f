"""The exact search with FAISS against a sort of all products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmamba.index import flat
from hmamba.index.flat import FlatSearcher, faiss_module

ITEMS, K = 50, 6


@pytest.fixture(scope="module")
def searcher():
    return FlatSearcher.build(np.random.default_rng(0).standard_normal((ITEMS, 5)).astype(np.float32))


@pytest.fixture(scope="module")
def queries():
    return np.random.default_rng(1).standard_normal((9, 5)).astype(np.float32)


def expected(searcher, queries, excluded):
    products = queries @ searcher.vectors.T
    if excluded is not None:
        products[excluded] = -np.inf
    order = np.argsort(-products, axis=1)[:, :K]
    return np.take_along_axis(products, order, axis=1), order


@pytest.mark.parametrize("excluded", [None, "the best", "many of one", "no entries"])
def test_the_largest_products_are_found_without_excluded_items(searcher, queries, excluded):
    entries = {
        None: None,
        "the best": (np.arange(9), np.argmax(queries @ searcher.vectors.T, axis=1)),
        "many of one": (np.full(ITEMS - K, 4), np.arange(ITEMS - K)),
        "no entries": (np.zeros(0, np.int64), np.zeros(0, np.int64)),
    }[excluded]
    products, columns = searcher.search(queries, K, entries)
    right = expected(searcher, queries, entries)
    assert np.array_equal(columns, right[1])
    np.testing.assert_allclose(products, right[0], rtol=1e-5)


def test_places_without_an_item_have_no_product(searcher, queries):
    excluded = np.zeros(ITEMS - 2, np.int64), np.arange(ITEMS - 2)
    products, columns = searcher.search(queries[:1], K, excluded)
    assert set(columns[0, :2]) == {ITEMS - 2, ITEMS - 1}
    assert np.isfinite(products[0, :2]).all()
    assert np.isneginf(products[0, 2:]).all()


def test_a_stored_search_finds_the_same(searcher, queries, tmp_path):
    searcher.save(tmp_path)
    again = FlatSearcher.load(tmp_path, torch.device("cpu"))
    assert np.array_equal(again.vectors, searcher.vectors)
    assert np.array_equal(again.search(queries, K)[1], searcher.search(queries, K)[1])


def test_faiss_multiplies_matrices_for_a_few_queries():
    assert faiss_module().cvar.distance_compute_blas_threshold == 256


def test_without_faiss_the_search_is_not_available(monkeypatch):
    assert FlatSearcher.is_available()
    monkeypatch.setattr(flat, "find_spec", lambda name: None)
    assert not FlatSearcher.is_available()
