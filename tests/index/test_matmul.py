"""Search by matrix products equals sorting all products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmamba.index import matmul
from hmamba.index.flat import FlatSearcher, faiss_module
from hmamba.index.matmul import MatmulSearcher, largest


@pytest.mark.parametrize("items", [5, 31, 3_200, 3_201, 5_000, 10_007])
@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.parametrize("order", ["random", "rising", "falling"])
def test_the_largest_equal_those_of_topk(items, k, order):
    k = min(k, items)
    scores = torch.rand(9, items, generator=torch.Generator().manual_seed(items))
    if order != "random":
        scores = scores.sort(dim=1, descending=order == "falling").values
    values, columns = largest(scores, k)
    right = scores.topk(k, dim=1)
    assert torch.equal(values, right.values)
    assert torch.equal(scores.gather(1, columns), values)
    assert torch.equal(columns.sort(dim=1).values, right.indices.sort(dim=1).values)


def test_equal_scores_are_found_once_each():
    values, columns = largest(torch.zeros(2, 4_000), 100)
    assert (values == 0).all()
    assert all(len(set(row)) == 100 for row in columns.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 3, 256])
def test_products_with_some_items_excluded(dtype, rows, monkeypatch):
    monkeypatch.setattr(matmul, "_ROWS", rows)
    generator = torch.Generator().manual_seed(1)
    items, queries = (torch.randn(n, 6, generator=generator, dtype=dtype) for n in (4_000, 7))
    excluded = torch.rand(7, 4_000, generator=generator) < torch.tensor([0, 0.1, 0.5, 0.9, 0.0, 0.999, 1.0])[:, None]
    found, columns = MatmulSearcher(items.numpy()).search(
        queries.numpy(), 50, tuple(part.numpy() for part in excluded.nonzero(as_tuple=True))
    )
    right = (queries @ items.T).masked_fill(excluded, -torch.inf).topk(50, dim=1)
    np.testing.assert_allclose(found, right.values, rtol=1e-5, atol=1e-5)
    finite = np.isfinite(found)
    assert (finite == right.values.isfinite().numpy()).all()
    assert (columns[finite] == right.indices.numpy()[finite]).all()
    assert found.dtype == queries.numpy().dtype


def test_faiss_multiplies_matrices_at_the_block_size_of_scoring():
    """By default FAISS compares item by item at this size; its own threshold shows where it changes."""
    faiss = faiss_module()
    assert faiss.cvar.distance_compute_blas_threshold <= 66 * 8


def test_no_queries():
    found, columns = MatmulSearcher(torch.randn(50, 4).numpy()).search(np.zeros((0, 4), dtype=np.float32), 5)
    assert found.shape == columns.shape == (0, 5)


@pytest.mark.parametrize("order", ["equal", "rising", "falling", "twice", "popular"])
@pytest.mark.parametrize("excluded", [False, True])
def test_results_equal_those_of_faiss_flat(order, excluded):
    """Up to ties: the same products, distinct items with their own products, none of them excluded."""
    items, count, k = 20_000, 300, 100
    generator = torch.Generator().manual_seed(2)
    vectors = torch.randn(items, 9, generator=generator)
    queries = torch.randn(count, 9, generator=generator)
    queries[:, -1] = 1
    if order == "equal":
        vectors[:] = 1
    elif order == "twice":
        vectors[items // 2 :] = vectors[: items // 2].clone()
    elif order == "popular":  # a bias that outweighs all base score
        vectors[:, -1] = -20 * torch.rand(items, generator=generator).log()
    else:
        vectors[:, -1] = torch.arange(items).float() * (0.01 if order == "rising" else -0.01)
    rows, columns = np.zeros(0, np.int64), np.zeros(0, np.int64)
    if excluded:  # each user's very best, nothing of one, and everything of another
        columns = (queries @ vectors.T).topk(500, dim=1).indices.numpy().copy()
        rows = np.repeat(np.arange(count), 500)
        keep = (rows != 4) & (rows != 299)
        rows = np.r_[rows[keep], np.full(items, 299)]
        columns = np.r_[columns.ravel()[keep], np.arange(items)]
    found, at = MatmulSearcher(vectors.numpy()).search(queries.numpy(), k, (rows, columns))
    flat, flat_at = FlatSearcher.build(vectors.numpy()).search(queries.numpy(), k + 500 * excluded)
    out = np.isin(np.arange(count)[:, None] * items + flat_at, rows * items + columns)
    for row in range(count - excluded):
        np.testing.assert_allclose(found[row], flat[row][~out[row]][:k], rtol=1e-4, atol=1e-4)
        assert len(set(at[row])) == k
    own = np.take_along_axis((queries @ vectors.T).numpy(), at, axis=1)
    finite = np.isfinite(found)
    np.testing.assert_allclose(found[finite], own[finite], rtol=1e-4, atol=1e-4)
    assert not np.isin((np.arange(count)[:, None] * items + at)[finite], rows * items + columns).any()
    assert finite.all(axis=1).sum() == count - excluded
