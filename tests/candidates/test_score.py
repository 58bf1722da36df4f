"""The index and the candidates against the exact ranking by the model itself."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hmamba.candidates.retrieve import retrieve
from hmamba.candidates.score import ModelScorer, write_candidates
from hmamba.columns import FALLBACK_VERSION
from hmamba.evaluation.ranking import Quota, rank_all, rank_served
from hmamba.index import index as item_index
from hmamba.inference.encode import encode_users
from hmamba.model import lorentz
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import MICROSECONDS_A_DAY
from tests.histories import histories_of, random_histories
from tests.stored import ITEMS, stored_model

KINDS = {
    "squared": {"score": "squared"},
    "linear": {"score": "linear"},
    "paper": {"score": "paper"},
    "half": {"variant": "half"},
    "euclidean": {"variant": "euclidean"},
    "repeats": {"score_terms": ("repeats",)},
    "categories": {"score_terms": ("repeats",), "category_levels": (1, 2)},
    "category vectors": {"category_levels": (1, 2), "category_vectors": True},
    "cooccurrence": {"score_terms": ("cooccurrence",)},
    "attributes": {"score_terms": ("attributes",)},
    "cooccurrence and attributes": {"score_terms": ("cooccurrence", "attributes")},
    "all terms": {"score_terms": ("repeats", "cooccurrence", "attributes")},
    "linear with repeats": {"score": "linear", "score_terms": ("repeats",)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("k", [1, 7, 100])
@pytest.mark.parametrize("way", ["flat", "matmul"])
def test_candidates_equal_the_exact_ranking(kind, exclude_seen, k, way):
    stored = stored_model(eligible=range(1, ITEMS, 2), **KINDS[kind])
    histories = random_histories(items=ITEMS, baskets=False)  # equal scores would have no order
    expected, scores = rank_all(stored.model, histories, stored.candidate_items, k=k, exclude_seen=exclude_seen)
    built = item_index.build(stored, stored.candidate_items, way)
    hidden = encode_users(stored.model, histories)
    ranked = retrieve(stored, built, histories, hidden, k=k, exclude_seen=exclude_seen)
    for user in range(len(histories)):
        mine = ranked.users == user
        wanted = expected[user] >= 0
        assert ranked.items[mine].tolist() == expected[user][wanted].tolist()
        np.testing.assert_allclose(ranked.scores[mine], scores[user][wanted], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("way", ["flat", "matmul"])
def test_the_day_that_is_asked_for_counts_in_the_index_as_in_the_exact_ranking(way):
    stored, histories = stored_model(score_terms=("repeats",)), random_histories(items=ITEMS, baskets=False)
    built, hidden = item_index.build(stored, stored.candidate_items, way), encode_users(stored.model, histories)
    lists = []
    for days in (1, 200):
        later = histories.asked_at(int(histories.times.max()) + days * MICROSECONDS_A_DAY)
        expected, _ = rank_all(stored.model, later, stored.candidate_items, k=7, exclude_seen=False)
        ranked = retrieve(stored, built, later, hidden, k=7, exclude_seen=False)
        assert ranked.items.tolist() == expected.ravel().tolist()
        lists.append(ranked.items.tolist())
    assert lists[0] != lists[1]


@pytest.mark.parametrize("kind", ["squared", "linear", "category vectors", "all terms"])
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize(("k", "share"), [(1, 0.5), (7, 0.0), (7, 0.3), (7, 0.9), (100, 0.3)])
@pytest.mark.parametrize("way", ["flat", "matmul", "float64"])
def test_new_items_fill_their_share_as_in_a_dense_ranking(tmp_path, kind, exclude_seen, k, share, way):
    stored = stored_model(eligible=range(1, ITEMS, 2), **KINDS[kind])
    new = CandidateItems.only(np.arange(2, ITEMS, 4), ITEMS + 1)
    histories = random_histories(items=ITEMS, baskets=False)
    built = item_index.with_new(stored, item_index.build(stored, stored.candidate_items, way), new, share)
    assert built.new.vectors.dtype == built.vectors.dtype
    item_index.save(built, tmp_path / "index")
    built = item_index.load(tmp_path / "index", stored.identity)
    ranked = retrieve(stored, built, histories, encode_users(stored.model, histories), k=k, exclude_seen=exclude_seen)
    quota = Quota.of(k, share)
    expected = rank_served(
        stored.model, histories, stored.candidate_items, new, depth=k, quota=quota, exclude_seen=exclude_seen
    )
    for user in range(len(histories)):
        mine = ranked.users == user
        assert ranked.items[mine].tolist() == [item for item in expected[user] if item >= 0]
        assert (np.diff(ranked.scores[mine]) <= 0).all()
        seen = set(histories.items[histories.offsets[user] : histories.offsets[user + 1]]) if exclude_seen else set()
        left = len(set(new.eligible.tolist()) - seen)
        assert np.isin(ranked.items[mine], new.eligible).sum() >= min(quota.least, left)


def test_a_list_of_new_items_only(tmp_path):
    stored, histories = stored_model(), random_histories(items=ITEMS, baskets=False)
    none = CandidateItems.only(np.zeros(0, np.int64), ITEMS + 1)
    new = CandidateItems.only(np.arange(1, 4), ITEMS + 1)
    built = item_index.with_new(stored, item_index.build(stored, none, "matmul"), new, 0.0)
    ranked = retrieve(stored, built, histories, encode_users(stored.model, histories), k=5, exclude_seen=False)
    expected, _ = rank_all(stored.model, histories, new, k=3, exclude_seen=False)
    assert ranked.items.reshape(-1, 3).tolist() == expected.tolist()


def write(stored, histories, folder, **options):
    settings = {"k": 5, "exclude_seen": False, **options}
    metrics = write_candidates(
        ModelScorer(stored, item_index.build(stored, stored.candidate_items), np.arange(ITEMS + 1), **settings),
        stored.item_ids,
        [histories],
        candidates=folder / "part.parquet",
        vectors=folder / "users.parquet",
    )
    return metrics, pq.read_table(folder / "part.parquet")


def test_the_table_is_sorted_ranked_and_typed(tmp_path):
    stored = stored_model(score_terms=("repeats",))
    histories = random_histories(items=ITEMS)
    metrics, table = write(stored, histories, tmp_path)
    assert metrics.rows == table.num_rows == 5 * len(histories)
    assert table.schema.types == [pa.string(), pa.int32(), pa.string(), pa.float32(), pa.string()]
    frame = table.to_pandas()
    assert frame.groupby("user_id", sort=False)["rank"].agg(list).map(lambda r: r == [1, 2, 3, 4, 5]).all()
    assert frame.groupby("user_id", sort=False)["score"].agg(lambda s: s.is_monotonic_decreasing).all()
    assert not frame.duplicated(["user_id", "item_id"]).any()
    points = torch.tensor(pq.read_table(tmp_path / "users.parquet")["point"].to_pylist())
    K = 1 / stored.model.curvature.detach()
    torch.testing.assert_close(lorentz.inner(points, points), -K.expand(len(points)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_users_make_no_difference(tmp_path, kind):
    stored, histories = stored_model(**KINDS[kind]), random_histories(items=ITEMS + 3, baskets=False)
    whole = tmp_path / "whole"
    whole.mkdir()
    metrics, table = write(stored, histories, whole)
    blocks = [histories.select(users) for users in np.split(np.arange(len(histories)), [1, 2, 17])]
    paths = {"candidates": tmp_path / "part.parquet", "vectors": tmp_path / "users.parquet"}
    built = item_index.build(stored, stored.candidate_items)
    popularity = np.arange(ITEMS + 1)
    scorer = ModelScorer(stored, built, popularity, 5, False)
    assert metrics == write_candidates(scorer, stored.item_ids, iter(blocks), **paths)
    again = pq.read_table(paths["candidates"])
    assert again.drop_columns("score").equals(table.drop_columns("score"))
    np.testing.assert_allclose(again["score"], table["score"], rtol=1e-4, atol=1e-5)
    points = (pq.read_table(folder / "users.parquet") for folder in (tmp_path, whole))
    assert next(points)["user_id"].equals(next(points)["user_id"])


def test_users_of_whom_the_model_knows_nothing_get_popular_items_and_it_is_said(tmp_path):
    stored = stored_model()
    histories = histories_of([(0, ITEMS + 3)], [(0, 1), (1, ITEMS + 2)])
    metrics, table = write(stored, histories, tmp_path)
    assert metrics.fallback_users == 1
    assert table["model_version"].to_pylist() == [FALLBACK_VERSION] * 5 + ["v1"] * 5
    assert table["item_id"].to_pylist()[:5] == [f"item {n}" for n in range(ITEMS, ITEMS - 5, -1)]


def test_a_shard_without_users_gives_an_empty_table_of_the_right_types(tmp_path):
    metrics, table = write(stored_model(score_terms=("repeats",)), histories_of(), tmp_path)
    assert (metrics.users, metrics.rows) == (0, 0)
    assert table.schema.types == [pa.string(), pa.int32(), pa.string(), pa.float32(), pa.string()]


def test_more_is_asked_for_than_there_is(tmp_path):
    metrics, _ = write(stored_model(), histories_of([(0, 1)]), tmp_path, k=1000)
    assert metrics.rows == ITEMS


def test_excluded_items_run_out_before_k_does(tmp_path):
    stored = stored_model(eligible=[1, 2, 3])
    _, table = write(stored, histories_of([(0, 1), (1, 2)]), tmp_path, exclude_seen=True)
    assert table["item_id"].to_pylist() == ["item 3"]
