"""The users for an item equal those of the whole matrix of probabilities; planted users come first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmamba.evaluation.ranking import score_blocks
from hmamba.index import index as item_index
from hmamba.inference.encode import encode_users
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.tables import segments as module
from hmamba.tables.segments import LikeliestUsers
from hmamba.terms.base import WeightedTerm
from hmamba.terms.cooccurrence import Cooccurrence
from tests.histories import planted_histories, random_histories
from tests.stored import ITEMS, stored_model

TARGETS = np.array([5, 1, 39, 21])
NEW = CandidateItems.only(np.arange(31, 41), ITEMS + 1)
KINDS = {
    "base": {},
    "linear": {"score": "linear"},
    "all terms": {"score_terms": ("repeats", "cooccurrence", "attributes")},
}


def model_and_index(settings, way="matmul", known=range(1, 31)):
    stored = stored_model(eligible=known, **settings)
    return stored, item_index.with_new(stored, item_index.build(stored, stored.candidate_items, way), NEW, 0.1)


def by_definition(stored, histories, exclude_seen):
    """(U, size) log-probabilities of all items that may be recommended; -inf for others."""
    scores = np.full((len(histories), ITEMS + 1), -np.inf)
    for items in (stored.candidate_items, NEW):
        for block in score_blocks(stored.model, histories, items):
            own = block.logits.double()
            if exclude_seen:
                own[block.seen] = -torch.inf
            scores[np.ix_(block.users, items.eligible)] = own.numpy()
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def collected(stored, index, histories, k, exclude_seen, blocks=1):
    part = LikeliestUsers(stored, index, TARGETS, k, exclude_seen)
    for users in np.array_split(np.arange(len(histories)), blocks):
        own = histories.select(users)
        part.add(own, np.arange(len(own)), encode_users(stored.model, own))
    return part.table().to_pandas()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("way", ["matmul", "float64"])
def test_the_users_are_those_with_the_largest_probabilities(kind, exclude_seen, way):
    stored, index = model_and_index(KINDS[kind], way)
    histories = random_histories(users=60, items=ITEMS, baskets=False)
    expected = by_definition(stored, histories, exclude_seen)
    found = collected(stored, index, histories, 9, exclude_seen)
    assert found.item_id.unique().tolist() == [f"item {item}" for item in TARGETS]
    for item in TARGETS:
        own, scores = found[found.item_id == f"item {item}"], expected[:, item]
        best = np.argsort(-scores, kind="stable")[:9]
        assert own.user_id.tolist() == histories.users.take(best[np.isfinite(scores[best])]).to_pylist()
        np.testing.assert_allclose(own.score, scores[best][: len(own)], rtol=1e-4, atol=1e-4)
        assert (own.score <= 0).all()


def test_blocks_of_any_size_give_the_same_users(monkeypatch):
    stored, index = model_and_index(KINDS["all terms"])
    histories = random_histories(users=50, items=ITEMS, baskets=False)
    whole = collected(stored, index, histories, 7, True)
    monkeypatch.setattr(module, "block_rows", lambda items: 3)
    parts = collected(stored, index, histories, 7, True, blocks=4)
    assert parts[["item_id", "user_id"]].equals(whole[["item_id", "user_id"]])
    np.testing.assert_allclose(parts.score, whole.score, rtol=1e-4)


def test_users_whose_next_item_is_planted_come_first():
    """Everybody walks through the items in a cycle: item 5 is for those who were at item 4."""
    histories = planted_histories(users=120, items=30, events=8)
    stored, index = model_and_index({}, known=range(1, 31))
    stored.model.counted_terms.append(
        WeightedTerm(Cooccurrence.count(histories, ITEMS + 1), {"new": 50.0, "seen": 0.0})
    )
    found = collected(stored, index, histories, 3, exclude_seen=True)
    last = dict(zip(histories.users.to_pylist(), histories.items[histories.offsets[1:] - 1], strict=True))
    for item in (5, 21):
        assert {last[user] for user in found[found.item_id == f"item {item}"].user_id} == {item - 1}


def test_a_shard_without_users_has_an_empty_part():
    stored, index = model_and_index({})
    assert len(LikeliestUsers(stored, index, TARGETS, 5, True).table()) == 0


def test_a_user_who_has_seen_everything_is_for_no_item():
    stored, index = model_and_index({})
    from tests.histories import histories_of

    histories = histories_of([(float(item), item) for item in range(1, ITEMS + 1)], [(0.0, 1)])
    found = collected(stored, index, histories, 5, True)
    assert set(found.user_id) == {"u1"}
    assert np.isfinite(found.score).all()
