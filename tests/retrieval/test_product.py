"""The k largest of long rows, against sorting everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmamba.retrieval import product
from hmamba.retrieval.product import Product, largest


@pytest.mark.parametrize("items", [5, 31, 3_200, 3_201, 5_000, 10_007])
@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.parametrize("order", ["random", "rising", "falling"])
def test_the_largest_are_those_of_topk(items, k, order):
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
def test_products_with_some_items_barred(dtype, rows, monkeypatch):
    monkeypatch.setattr(product, "_ROWS", rows)
    generator = torch.Generator().manual_seed(1)
    items, queries = (torch.randn(n, 6, generator=generator, dtype=dtype) for n in (4_000, 7))
    barred = torch.rand(7, 4_000, generator=generator) < torch.tensor([0, 0.1, 0.5, 0.9, 0.0, 0.999, 1.0])[:, None]
    found, columns = Product(items).search(
        queries.numpy(), 50, tuple(part.numpy() for part in barred.nonzero(as_tuple=True))
    )
    right = (queries @ items.T).masked_fill(barred, -torch.inf).topk(50, dim=1)
    np.testing.assert_allclose(found, right.values, rtol=1e-5, atol=1e-5)
    finite = np.isfinite(found)
    assert (finite == right.values.isfinite().numpy()).all()
    assert (columns[finite] == right.indices.numpy()[finite]).all()
    assert found.dtype == queries.numpy().dtype


def test_nobody_asks():
    found, columns = Product(torch.randn(50, 4)).search(np.zeros((0, 4), dtype=np.float32), 5)
    assert found.shape == columns.shape == (0, 5)
