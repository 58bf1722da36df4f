"""The ranker is kept if it helps users that it has not seen, and the index ranks with it as the exact ranking does."""

from __future__ import annotations

import numpy as np
import pytest

from hmamba.candidates.retrieve import retrieve
from hmamba.config import Config, RankConfig, parse, whole
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import metrics_by_query
from hmamba.evaluation.ranking import rank_all
from hmamba.index import index as item_index
from hmamba.inference.encode import encode_users
from hmamba.models import files
from hmamba.storage.layout import Layout
from hmamba.training.rank_fit import Lists, fit_ranker
from tests.histories import random_histories
from tests.stored import ITEMS, stored_model

DEPTH = 12
USERS = 240


def questions(users, answers, seed=0):
    """A query of each user; ``answers`` is a function of the items of the past and a random generator."""
    random = np.random.default_rng(seed)
    past = random_histories(users=users, items=ITEMS, events=12, seed=seed, baskets=False)
    past = past.select(np.flatnonzero(past.lengths > 0))
    rows = np.arange(len(past))
    own = [past.items[past.offsets[row] : past.offsets[row + 1]] for row in rows]
    items = np.array([answers(items, random) for items in own])
    return EvaluationSet(past, past.times[past.offsets[1:] - 1] + 1, rows, items)


def first_of_past(items, random):
    return items[0]


def by_chance(items, random):
    return int(random.integers(1, ITEMS + 1))


def fitted(evaluation_set, *, enough=20, exclude_seen=False, **settings):
    stored = stored_model(**{"score_terms": ("repeats",), **settings})
    config = RankConfig(model="lightgbm", depth=DEPTH)
    stored.model.ranker, record = fit_ranker(
        stored.model,
        evaluation_set,
        stored.candidate_items,
        config,
        enough=enough,
        exclude_seen=exclude_seen,
        seed=0,
    )
    return stored, record


def ndcg(stored, evaluation_set, k=10):
    ranked, _ = rank_all(stored.model, evaluation_set.past, stored.candidate_items, k=k, exclude_seen=False)
    found = metrics_by_query(ranked, evaluation_set.rows, evaluation_set.items, cutoffs=(10,))
    return float(found["ndcg@10"].mean())


@pytest.fixture(scope="module")
def helpful():
    return fitted(questions(USERS, first_of_past))


def test_an_order_that_the_scores_miss_is_learned(helpful):
    """Users take again what they took first, of which the learned term reads the age."""
    stored, record = helpful
    assert record["kept"]
    assert record["ndcg@10"] > 1.05 * record["ndcg@10 without"]
    others = questions(USERS, first_of_past, seed=7)
    with_it, stored_without = ndcg(stored, others), stored_model(score_terms=("repeats",))
    assert with_it > 1.05 * ndcg(stored_without, others)
    assert with_it == pytest.approx(record["ndcg@10"], rel=0.15)


@pytest.mark.parametrize("terms", [(), ("repeats",)])
def test_an_order_of_chance_leaves_the_ranker_out(terms):
    stored, record = fitted(questions(USERS, by_chance), score_terms=terms)
    assert stored.model.ranker is None
    assert not record["kept"]
    assert record["users"] == USERS
    assert abs(record["ndcg@10"] - record["ndcg@10 without"]) < 0.05


def test_seen_items_are_not_in_the_lists_where_they_are_excluded():
    evaluation_set = questions(USERS, lambda items, random: int(random.choice(np.setdiff1d(np.arange(1, 9), items))))
    stored, _ = fitted(evaluation_set, exclude_seen=True, score_terms=())
    lists = Lists.of(stored.model, evaluation_set, stored.candidate_items, DEPTH, exclude_seen=True)
    rows, columns = stored.candidate_items.seen(evaluation_set.past, np.arange(len(evaluation_set)))
    keys = lists.shortlist.rows * ITEMS + lists.shortlist.columns
    assert not np.isin(keys, rows * ITEMS + columns).any()


def test_few_users_get_no_ranker():
    stored, record = fitted(questions(30, first_of_past), enough=31)
    assert stored.model.ranker is None
    assert record == {"kept": False, "ndcg@10": None, "ndcg@10 without": None, "users": 30}


def test_answers_that_no_shortlist_has_leave_the_ranker_out():
    stored, record = fitted(questions(40, lambda items, random: ITEMS), eligible=range(1, ITEMS))
    assert stored.model.ranker is None
    assert record["ndcg@10"] is None


def test_the_same_seed_gives_the_same_trees(helpful):
    again, _ = fitted(questions(USERS, first_of_past))
    assert again.model.ranker.trees.model_to_string() == helpful[0].model.ranker.trees.model_to_string()


@pytest.mark.parametrize("way", ["flat", "matmul"])
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("k", [3, DEPTH, DEPTH + 9])
def test_the_index_ranks_as_the_exact_ranking(helpful, way, exclude_seen, k):
    stored, histories = helpful[0], random_histories(items=ITEMS, baskets=False, seed=3)
    histories = histories.asked_at(int(histories.times.max()))
    expected, scores = rank_all(stored.model, histories, stored.candidate_items, k=k, exclude_seen=exclude_seen)
    built = item_index.build(stored, stored.candidate_items, way)
    hidden = encode_users(stored.model, histories)
    ranked = retrieve(stored, built, histories, hidden, k=k, exclude_seen=exclude_seen)
    plain = stored_model(score_terms=("repeats",))
    before, _ = rank_all(plain.model, histories, plain.candidate_items, k=max(k, DEPTH), exclude_seen=exclude_seen)
    for user in range(len(histories)):
        mine, wanted = ranked.users == user, expected[user] >= 0
        assert ranked.items[mine].tolist() == expected[user][wanted].tolist()
        np.testing.assert_allclose(ranked.scores[mine], scores[user][wanted], rtol=1e-4, atol=1e-4)
        assert (np.diff(scores[user][wanted]) <= 0).all()
        assert set(expected[user][wanted]) <= set(before[user])
        assert expected[user][DEPTH:].tolist() == before[user][DEPTH:k].tolist()  # behind the shortlist nothing moves


def test_a_stored_model_keeps_its_ranker(helpful, tmp_path):
    stored, _ = helpful
    layout = Layout.at(str(tmp_path))
    version = files.save(layout, stored.model, stored.provenance, stored.candidate_items, stored.item_ids)
    loaded = files.load(layout, version, stored.model.tangents.weight.device)
    histories = random_histories(items=ITEMS, baskets=False, seed=3)
    for one, other in zip(
        *(rank_all(each.model, histories, each.candidate_items, k=5, exclude_seen=False) for each in (stored, loaded)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_only_a_ranker_changes_the_identity_of_a_model():
    digests = [
        parse({"rank": rank}, "here").training_digest()
        for rank in ({}, {"depth": 50}, {"model": "lightgbm"}, {"model": "lightgbm", "depth": 50})
    ]
    assert digests[0] == digests[1] == Config().training_digest()
    assert len(set(digests)) == 3


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_by_default_there_is_a_ranker_where_it_can_help(monkeypatch, installed, exclude_seen):
    monkeypatch.setattr(whole, "find_spec", lambda name: object() if installed and name == "lightgbm" else None)
    config = parse({"candidates": {"exclude_seen": exclude_seen}}, "here")
    assert config.has_ranker == (installed and not exclude_seen)
    assert parse({"rank": {"model": "lightgbm"}}, "here").has_ranker
    assert not parse({"rank": {"model": "none"}, "candidates": {"exclude_seen": False}}, "here").has_ranker
