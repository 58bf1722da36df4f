"""A narrowed search finds what the whole one finds among the kept items."""

from __future__ import annotations

import numpy as np
import pytest

from hmamba.index import index as item_index
from hmamba.index.matmul import MatmulSearcher
from hmamba.index.narrowed import NarrowedSearcher, narrowed
from hmamba.sequences.candidate_items import CandidateItems
from tests.stored import ITEMS, stored_model


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_equals_a_search_that_excludes_the_others(dtype: type) -> None:
    random = np.random.default_rng(0)
    vectors, queries = random.normal(size=(50, 6)).astype(dtype), random.normal(size=(7, 6)).astype(dtype)
    kept = np.sort(random.permutation(50)[:20])
    others = np.setdiff1d(np.arange(50), kept)
    seen = random.random((7, 50)) < 0.2
    gone = seen.copy()
    gone[:, others] = True
    products, columns = NarrowedSearcher(vectors, kept).search(queries, 10, tuple(np.nonzero(seen)))
    expected, at = MatmulSearcher(vectors).search(queries, 10, tuple(np.nonzero(gone)))
    np.testing.assert_allclose(products, expected, rtol=1e-5)
    assert np.array_equal(columns[np.isfinite(products)], at[np.isfinite(expected)])


def test_fewer_items_than_results_and_none_at_all() -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    for kept in (np.array([3, 5]), np.zeros(0, dtype=np.int64)):
        products, columns = NarrowedSearcher(vectors, kept).search(vectors[:2], 4)
        assert products.shape == columns.shape == (2, 4)
        assert np.isfinite(products).sum(axis=1).tolist() == [len(kept)] * 2


def test_an_index_keeps_its_items_and_vectors() -> None:
    stored = stored_model(range(1, ITEMS - 4))
    new = CandidateItems.only(np.arange(ITEMS - 4, ITEMS + 1), ITEMS + 1)
    whole = item_index.with_new(stored, item_index.build(stored, stored.candidate_items), new, 0.2)
    removed = np.zeros(ITEMS + 1, dtype=bool)
    removed[[1, 2, 3, ITEMS]] = True
    found = narrowed(whole, removed)
    assert found.candidate_items is whole.candidate_items
    assert found.vectors is whole.vectors
    assert found.new is not None
    assert found.new.kind == "narrowed"
    assert narrowed(whole, np.zeros(ITEMS + 1, dtype=bool)).searcher is whole.searcher
    _, columns = found.search(whole.vectors[:3], len(whole.candidate_items) - 3)
    assert not {0, 1, 2} & set(columns.ravel().tolist())
