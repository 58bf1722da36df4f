"""Search by IVF lists, compared with the exact search: missed items are measured, bounded, and the only error."""

from __future__ import annotations

import gc
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from hmamba.candidates.retrieve import retrieve
from hmamba.config import CandidatesConfig
from hmamba.errors import InputError
from hmamba.index import choice, tuning
from hmamba.index import index as item_index
from hmamba.index.base import Trial
from hmamba.index.choice import choose
from hmamba.index.ivf import IvfSearcher, build_ivf
from hmamba.index.matmul import MatmulSearcher
from hmamba.index.tuning import SearchParameters, recalls
from hmamba.inference.encode import encode_users
from tests.histories import histories_of, random_histories
from tests.index.test_precision import far_model, write_shards
from tests.stored import stored_model

ITEMS, K = 4_000, 20
WISHES = CandidatesConfig(k=K, approximate_items=1_000, recall=0.95)
EVERYTHING = 10**6, 200


@pytest.fixture(scope="module")
def stored():
    """A model whose vectors have a bias coordinate; every third item is not eligible."""
    return stored_model(items=ITEMS, eligible=[item for item in range(1, ITEMS + 1) if item % 3])


@pytest.fixture(scope="module")
def built(stored):
    return item_index.build(stored, stored.candidate_items, "ivf")


@pytest.fixture(scope="module")
def histories():
    return random_histories(users=60, items=ITEMS, baskets=False)


@pytest.fixture(scope="module")
def queries(stored, histories):
    with torch.inference_mode():
        return stored.model.query_vectors(encode_users(stored.model, histories)).numpy()


def searched(built, *parameters):
    return replace(built, searcher=built.searcher.with_parameters(SearchParameters(*parameters)))


def exact(built, queries, k=K, excluded=None):
    return MatmulSearcher(built.vectors).search(queries, k, excluded)


def test_scanning_all_lists_equals_the_exact_search(built, queries):
    products, columns = searched(built, *EVERYTHING).search(queries, K)
    best, right = exact(built, queries)
    assert np.array_equal(columns, right)
    np.testing.assert_allclose(products, best, rtol=1e-5, atol=1e-5)


def test_found_items_have_exact_products_and_are_distinct_and_sorted(built, queries):
    products, columns = searched(built, 8, 2).search(queries, K)
    assert all(len(set(row)) == K for row in columns.tolist())
    own = np.take_along_axis(queries @ built.vectors.T, columns, axis=1)
    np.testing.assert_allclose(products, own, rtol=1e-5, atol=1e-5)
    assert (np.diff(products, axis=1) <= 0).all()


def test_recall_is_the_share_of_the_exact_ranking(built, queries):
    best, right = exact(built, queries)
    products, columns = searched(built, 8, 2).search(queries, K)
    by_hand = [len(set(mine) & set(true)) / K for mine, true in zip(columns.tolist(), right.tolist(), strict=True)]
    assert 0.2 < np.mean(by_hand) < 1
    np.testing.assert_allclose(recalls(columns, products, right, best), by_hand)
    assert (recalls(right, np.full_like(best, -np.inf), right, best) == 0).all()
    assert (recalls(columns, products, right, np.full_like(best, -np.inf)) == 1).all()


@pytest.mark.parametrize("floor", [0.8, 0.9, 0.99])
def test_parameters_are_raised_until_the_floor_is_reached(built, queries, floor):
    best, right = exact(built, queries)
    tuned = built.searcher.tuned(Trial(queries, K, None, best, right, floor, seconds=1e9))
    products, columns = tuned.searcher.search(queries, K)
    shares = recalls(columns, products, right, best)
    assert tuned.recall == pytest.approx(shares.mean(), abs=1e-6)
    assert min(shares[::2].mean(), shares[1::2].mean()) >= floor
    low = searched(built, 4 * K * built.searcher.nlist // ITEMS, 2).search(queries, K)
    assert recalls(low[1], low[0], right, best).mean() < floor, "the first parameters would do: this shows nothing"


def test_tuning_stops_when_slower_than_the_exact_search(built, queries):
    tuned = built.searcher.tuned(Trial(queries, K, None, *exact(built, queries), floor=1.0, seconds=0.0))
    assert tuned.searcher is None
    assert 0 < tuned.recall < 1


@pytest.fixture
def slow_exact(monkeypatch):
    """Make exact searches seem slow: with so few items they are always faster, and IVF would never be used."""
    speeds = choice._speeds

    def slowed(indexes, *arguments):
        return {name: speed if name == "ivf" else 1 for name, speed in speeds(indexes, *arguments).items()}

    monkeypatch.setattr(choice, "_speeds", slowed)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_a_night_uses_ivf_if_it_reaches_the_floor(tmp_path, stored, histories, queries, exclude_seen, slow_exact):
    files = write_shards(tmp_path, histories)
    chosen = choose(stored, stored.candidate_items, files, WISHES.model_copy(update={"exclude_seen": exclude_seen}))
    assert chosen.index.kind == "ivf"
    assert set(chosen.queries_per_second) == {"flat", "matmul", "ivf"}
    assert WISHES.recall <= chosen.recall <= 1
    hidden = encode_users(stored.model, histories)
    ask = {"k": K, "exclude_seen": exclude_seen}
    mine = retrieve(stored, chosen.index, histories, hidden, **ask)
    true = retrieve(stored, item_index.build(stored, stored.candidate_items, "matmul"), histories, hidden, **ask)
    pairs = [set(zip(part.users.tolist(), part.items.tolist(), strict=True)) for part in (mine, true)]
    assert len(pairs[0] & pairs[1]) / len(pairs[1]) == pytest.approx(chosen.recall, abs=0.005)
    scores = {(user, item): score for user, item, score in zip(true.users, true.items, true.scores, strict=True)}
    for user, item, score in zip(mine.users, mine.items, mine.scores, strict=True):
        assert scores.get((user, item), score) == pytest.approx(score, rel=1e-6)
    assert set(mine.items.tolist()) <= set(stored.candidate_items.eligible.tolist())


def test_the_search_is_exact_if_the_floor_is_not_reached(tmp_path, stored, histories, monkeypatch, caplog):
    files = write_shards(tmp_path, histories)
    monkeypatch.setattr(tuning, "_K_FACTORS", (1,))  # as many as wanted by codes of 4 bits: never all of the best
    chosen = choose(stored, stored.candidate_items, files, WISHES.model_copy(update={"recall": 1.0}))
    assert chosen.index.kind in ("flat", "matmul")
    assert 0 < chosen.recall < 1
    assert set(chosen.queries_per_second) == {"flat", "matmul"}
    assert "candidates.recall = 1" in caplog.text


def test_a_small_catalogue_and_one_that_needs_float64_are_searched_exactly(tmp_path, stored, histories, slow_exact):
    files = write_shards(tmp_path, histories)
    chosen = choose(stored, stored.candidate_items, files, WISHES.model_copy(update={"approximate_items": ITEMS}))
    assert (chosen.index.kind in ("flat", "matmul"), chosen.recall) == (True, None)
    far = far_model(items=1_200)
    chosen = choose(far, far.candidate_items, write_shards(tmp_path, random_histories(items=1_200)), WISHES)
    assert (chosen.index.kind, chosen.recall) == ("float64", None)


@pytest.mark.parametrize("parameters", [(1, 2), (40, 2), (400, 4)])
def test_excluded_items_are_not_found_and_every_query_gets_k(built, queries, parameters):
    """The excluded items include each query's best; for one query nearly all items, for another none."""
    items = len(built.vectors)
    _, best = exact(built, queries, 500)
    rows = np.repeat(np.arange(len(queries)), 500)
    keep = ~np.isin(rows, [3, 5])
    nearly = np.random.default_rng(0).permutation(items)[: items - K - 3]
    rows, columns = np.r_[rows[keep], np.full(len(nearly), 5)], np.r_[best.ravel()[keep], nearly]
    order = np.argsort(rows, kind="stable")
    excluded = rows[order], columns[order]
    products, found = searched(built, *parameters).search(queries, K, excluded)
    assert np.isfinite(products).all()
    assert not np.isin(np.arange(len(queries))[:, None] * items + found, excluded[0] * items + excluded[1]).any()
    own = np.take_along_axis(queries @ built.vectors.T, found, axis=1)
    np.testing.assert_allclose(products, own, rtol=1e-5, atol=1e-5)
    right = exact(built, queries, K, excluded)[1]
    assert set(found[5]) == set(right[5]), "a query that excludes nearly everything is searched exactly"


def test_users_with_five_thousand_seen_items_still_get_k():
    stored = stored_model(items=9_000)
    random = np.random.default_rng(0)
    histories = histories_of(
        *(
            [(place / 100, int(item)) for place, item in enumerate(random.permutation(9_000)[:5_000] + 1)]
            for _ in "abc"
        ),
        [(0, 1), (1, 2)],
    )
    hidden = encode_users(stored.model, histories)
    built = searched(item_index.build(stored, stored.candidate_items, "ivf"), 100, 4)
    mine = retrieve(stored, built, histories, hidden, k=100, exclude_seen=True)
    assert np.bincount(mine.users).tolist() == [100] * 4
    repeats = set(zip(histories.owner.tolist(), histories.items.tolist(), strict=True))
    assert not repeats & set(zip(mine.users.tolist(), mine.items.tolist(), strict=True))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("parameters", [(4, 2), EVERYTHING])
def test_fewer_than_k_items_are_left(built, queries, parameters):
    """As in the exact search, the items left come first, then products of -inf."""
    items = len(built.vectors)
    excluded = np.repeat([0, 1], items - 5), np.r_[np.arange(5, items), np.arange(items - 5)]
    products, columns = searched(built, *parameters).search(queries[:3], K, excluded)
    assert np.isfinite(products).sum(axis=1).tolist() == [5, 5, K]
    assert set(columns[0, :5]) == set(range(5))
    assert set(columns[1, :5]) == set(range(items - 5, items))


def test_blocks_of_queries_make_no_difference(built, queries):
    index = searched(built, 30, 4)
    whole = index.search(queries, K)[1]
    parts = [index.search(part, K)[1] for part in np.split(queries, [1, 7, 40])]
    assert np.array_equal(np.concatenate(parts), whole)


def test_no_queries(built):
    products, columns = built.searcher.search(np.zeros((0, built.vectors.shape[1]), np.float32), K)
    assert products.shape == columns.shape == (0, K)


def test_an_index_loads_in_another_process_and_a_damaged_one_is_refused(tmp_path, built, queries):
    index = searched(built, 17, 3)
    size = item_index.save(index, tmp_path / "index")
    assert size > built.vectors.nbytes
    again = item_index.load(tmp_path / "index", "v1")
    assert (again.kind, again.searcher.parameters) == ("ivf", SearchParameters(17, 3))
    assert np.array_equal(again.search(queries, K)[1], index.search(queries, K)[1])
    np.save(tmp_path / "queries.npy", queries)
    program = (
        "import sys, numpy as np; from pathlib import Path; from hmamba.index import index\n"
        "folder = Path(sys.argv[1]); found = index.load(folder / 'index', 'v1')\n"
        f"np.save(folder / 'found.npy', found.search(np.load(folder / 'queries.npy'), {K})[1])"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert np.array_equal(np.load(tmp_path / "found.npy"), index.search(queries, K)[1])
    (tmp_path / "index" / "ivf.faiss").write_bytes(b"junk")
    with pytest.raises(InputError, match="index step again"):
        item_index.load(tmp_path / "index", "v1")


def test_the_centroids_belong_to_the_lists():
    """FAISS keeps a plain pointer to the quantizer, so Python must not free it."""
    lists = build_ivf(np.random.default_rng(0).standard_normal((2_000, 6)).astype(np.float32))
    assert lists.own_fields
    assert not lists.quantizer.thisown
    del lists
    gc.collect()


def test_the_same_items_make_the_same_lists(built, queries):
    again = IvfSearcher.build(built.vectors).with_parameters(SearchParameters(5, 2))
    assert np.array_equal(again.search(queries, K)[1], searched(built, 5, 2).search(queries, K)[1])


def test_equal_and_nearly_equal_items_can_be_searched():
    """Untrained items share one vector, so most clusters of the k-means are empty."""
    vectors = np.ones((3_000, 6), dtype=np.float32)
    vectors[:40] = np.random.default_rng(0).standard_normal((40, 6))
    found = IvfSearcher.build(vectors).with_parameters(SearchParameters(10**6, 16)).search(vectors[:3], 10)
    np.testing.assert_allclose(found[0], MatmulSearcher(vectors).search(vectors[:3], 10)[0], rtol=1e-5)
    IvfSearcher.build(np.ones_like(vectors)).search(vectors[:3], 10)


@pytest.mark.parametrize("best", [0, 300])
def test_queries_with_few_and_many_exclusions_are_searched_side_by_side(built, queries, best):
    """All lists are scanned, so only the codes could miss an item; the items are found at any depth."""
    random, items = np.random.default_rng(0), len(built.vectors)
    first = exact(built, queries, max(best, 1))[1][:, :best]
    rows, columns = [], []
    for query in range(len(queries)):
        mine = (
            np.union1d(first[query], random.choice(items, 400)) if query % 2 else random.choice(items, 3, replace=False)
        )
        rows.append(np.full(len(mine), query))
        columns.append(mine)
    excluded = np.concatenate(rows), np.concatenate(columns)
    products, found = searched(built, 10**6, 8).search(queries, K, excluded)
    best_products, right = exact(built, queries, K, excluded)
    assert recalls(found, products, right, best_products).mean() > 0.99
    for query, of_query in enumerate(columns):
        assert not np.isin(found[query], of_query).any()
        assert len(set(found[query].tolist())) == K
