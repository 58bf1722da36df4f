"""Published vectors rank as the base score of the model, for a reader with DuckDB alone."""

from __future__ import annotations

import duckdb
import numpy as np
import pytest
import torch

from hmamba.inference.encode import encode_users
from hmamba.tables.vectors import UserVectors, read_space, vector_space, write_item_vectors
from tests.histories import random_histories
from tests.stored import ITEMS, stored_model

KINDS = {
    "squared": {},
    "linear": {"score": "linear"},
    "paper": {"score": "paper"},
    "half": {"variant": "half"},
    "euclidean": {"variant": "euclidean"},
    "category vectors": {"category_levels": (1, 2), "category_vectors": True},
}


@pytest.fixture(params=KINDS)
def stored(request):
    return stored_model(eligible=range(1, ITEMS, 2), **KINDS[request.param])


def written(stored, folder):
    histories = random_histories(items=ITEMS, baskets=False)
    hidden = encode_users(stored.model, histories)
    with UserVectors.to(stored, folder / "users.parquet") as users:
        for block in np.array_split(np.arange(len(histories)), 3):
            users.add(histories, block, hidden[torch.from_numpy(block)])
    write_item_vectors(stored, stored.candidate_items, folder / "items.parquet")
    return histories, hidden


def test_inner_products_are_the_base_scores(stored, tmp_path):
    histories, hidden = written(stored, tmp_path)
    model = stored.model
    with torch.inference_mode():
        products = model.query_vectors(hidden) @ model.item_vectors(torch.from_numpy(stored.candidate_items.eligible)).T
        logits = model.score().logits(products).numpy()
    query = f"""
        SELECT u.user_id, list(i.item_id ORDER BY list_inner_product(u.vector, i.vector) DESC) AS items,
            list(list_inner_product(u.vector, i.vector) ORDER BY i.item_id) AS products
        FROM '{tmp_path}/users.parquet' AS u, '{tmp_path}/items.parquet' AS i GROUP BY u.user_id ORDER BY u.user_id
    """
    names = stored.item_ids.take(stored.candidate_items.eligible).to_pylist()
    found = {row[0]: row[1:] for row in duckdb.sql(query).fetchall()}
    assert set(found) == set(histories.users.to_pylist())
    space = vector_space(stored)
    by_name = np.argsort(names)
    for user, name in enumerate(histories.users.to_pylist()):
        items, inner = found[name]
        assert items == [names[place] for place in np.argsort(-logits[user])]
        product = np.array(inner)
        if space.score == "squared":  # as docs/candidates.md says
            np.testing.assert_allclose(product + 2 * space.scale * space.K, logits[user][by_name], rtol=1e-4, atol=1e-4)
        elif space.score in ("linear", "paper"):
            factor = space.scale if space.score == "linear" else 2
            distance = np.sqrt(space.K) * np.arccosh(np.maximum(-product / space.K, 1))
            np.testing.assert_allclose(-factor * distance, logits[user][by_name], rtol=1e-3, atol=1e-3)
        else:
            np.testing.assert_allclose(product, logits[user][by_name], rtol=1e-4, atol=1e-4)


def test_points_are_on_the_hyperboloid_that_the_metadata_names(stored, tmp_path):
    written(stored, tmp_path)
    for name in ("users", "items"):
        path = tmp_path / f"{name}.parquet"
        assert read_space(path) == vector_space(stored)
        rows = duckdb.sql(f"SELECT decode(key), decode(value) FROM parquet_kv_metadata('{path}')").fetchall()
        assert ("hmamba.model_version", "v1") in rows
        assert ("hmamba.K", str(vector_space(stored).K)) in rows
        points = np.array(duckdb.sql(f"SELECT point FROM '{path}'").fetchnumpy()["point"].tolist(), dtype=np.float64)
        time, space = points[:, 0], (points[:, 1:] ** 2).sum(1)
        if stored.model.config.variant == "euclidean":
            np.testing.assert_allclose(time, space, rtol=1e-5)
        else:
            np.testing.assert_allclose(space - time**2, -vector_space(stored).K, rtol=1e-3)


def test_items_are_sorted_by_id_and_only_those_that_are_served(stored, tmp_path):
    written(stored, tmp_path)
    found = [row[0] for row in duckdb.sql(f"SELECT item_id FROM '{tmp_path}/items.parquet'").fetchall()]
    assert found == sorted(f"item {number}" for number in range(1, ITEMS, 2))
