"""Reasons against the scores that they explain, and against planted histories."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hmamba.candidates.because import Attribution
from hmamba.candidates.fallback import Fallback
from hmamba.candidates.retrieve import retrieve
from hmamba.candidates.score import ModelScorer
from hmamba.columns import PADDING_INDEX
from hmamba.index import index as item_index
from hmamba.inference.encode import encode_users
from hmamba.models.files import StoredModel
from hmamba.score_terms import NEW, POPULAR, SCORE_TERMS, TASTE, reason_names
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.terms.base import WeightedTerm
from tests.candidates.test_score import KINDS
from tests.histories import histories_of, random_histories, randomly_valued
from tests.stored import ITEMS, stored_model

POPULARITY = np.arange(ITEMS + 1)


def index_of(stored: StoredModel, way: str = "flat", new: np.ndarray | None = None):
    built = item_index.build(stored, stored.candidate_items, way)
    return built if new is None else item_index.with_new(stored, built, CandidateItems.only(new, ITEMS + 1), 0.3)


def explained(stored, index, histories, k=20):
    """The candidates of the histories, their parts, and their reasons."""
    hidden = encode_users(stored.model, histories)
    ranked = retrieve(stored, index, histories, hidden, k=k, exclude_seen=False)
    attribution = Attribution(stored, index, POPULARITY)
    known = np.ones(len(histories), dtype=bool)
    parts = attribution.parts(histories, hidden, ranked.users, ranked.items)
    fallback = Fallback(index.served_items.counts(POPULARITY))
    return ranked, parts, attribution.reasons(histories, hidden, known, ranked.users, ranked.items, fallback)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["flat", "float64"])
def test_parts_add_up_to_the_published_score(kind, way):
    stored = stored_model(eligible=range(1, ITEMS, 2), **KINDS[kind])
    histories = randomly_valued(random_histories(items=ITEMS))
    index = index_of(stored, way, np.arange(2, ITEMS, 4))
    ranked, parts, _ = explained(stored, index, histories)
    assert parts.is_new.tolist() == np.isin(ranked.items, index.new.candidate_items.eligible).tolist()
    assert parts.is_new.any()
    np.testing.assert_allclose(parts.scores, ranked.scores, rtol=1e-4, atol=1e-4)
    assert (parts.values[:, 2:] >= 0).all()


@pytest.mark.parametrize("kind", ["squared", "linear", "paper", "half", "euclidean"])
def test_a_blindly_drawn_event_adds_nothing_on_average(kind):
    stored, histories = stored_model(**KINDS[kind]), random_histories(items=ITEMS)
    _, parts, _ = explained(stored, index_of(stored), histories, k=ITEMS)
    values = parts.values.reshape(len(histories), ITEMS, 2)
    ranked, _, _ = explained(stored, index_of(stored), histories, k=ITEMS)
    share = POPULARITY[ranked.items].reshape(len(histories), ITEMS, 1) / POPULARITY.sum()
    np.testing.assert_allclose((values * share).sum(axis=1), 0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reason_is_the_largest_part(kind):
    stored, histories = stored_model(**KINDS[kind]), random_histories(items=ITEMS)
    _, parts, reasons = explained(stored, index_of(stored), histories)
    values = np.where((parts.values > 0) | (np.arange(parts.values.shape[1]) < 2), parts.values, -np.inf)
    assert reasons.names.to_pylist() == [parts.names[best] for best in values.argmax(axis=1)]
    counted = [SCORE_TERMS[weighted.term.name].because for weighted in stored.model.counted_terms]
    has_item = np.isin(reasons.names.to_pylist(), counted)
    assert (reasons.items != PADDING_INDEX).tolist() == has_item.tolist()
    assert has_item.any() == bool(counted)


def test_the_item_behind_is_of_the_users_history_and_has_the_largest_part():
    stored, histories = stored_model(score_terms=("cooccurrence",)), random_histories(items=ITEMS)
    ranked, _, reasons = explained(stored, index_of(stored), histories)
    (weighted,) = stored.model.counted_terms
    found = np.flatnonzero(reasons.items)
    assert len(found) > 20
    for row in found:
        user = ranked.users[row]
        own = slice(histories.offsets[user], histories.offsets[user + 1])
        items, times = histories.items[own][-50:], histories.times[own][-50:]
        ago = len(np.unique(times)) - 1 - np.unique(times, return_inverse=True)[1]
        table = weighted.term.table.toarray()
        parts = np.zeros(ITEMS + 1)
        np.add.at(parts, items, 0.8**ago * table[items, ranked.items[row]])
        assert parts[reasons.items[row]] == pytest.approx(parts.max(), rel=1e-5)


def test_planted_reasons():
    """Items 1 and 2 are always taken together; the user has taken 1 and, once, 9."""
    pairs = histories_of(*[[(day, 1), (day, 2)] for day in range(30)], [(0, 9), (1, 9)])
    term = SCORE_TERMS["cooccurrence"].load().count(pairs, ITEMS + 1)
    stored = stored_model(score_terms=())
    with torch.no_grad():
        stored.model.tangents.weight.zero_()
        stored.model.bias.zero_()
        stored.model.bias[7] = 1.0
        stored.model.bias[2] = 0.5
    stored.model.counted_terms = [WeightedTerm(term, {"new": 2.0, "seen": 0.0})]
    ranked, _, reasons = explained(stored, index_of(stored), histories_of([(0, 9), (1, 1)]))
    place = {int(item): number for number, item in enumerate(ranked.items)}
    assert (reasons.names[place[2]].as_py(), reasons.items[place[2]]) == ("together", 1)
    assert (reasons.names[place[7]].as_py(), reasons.items[place[7]]) == (POPULAR, PADDING_INDEX)


def test_new_items_that_no_term_raises_are_new():
    stored = stored_model(eligible=range(1, ITEMS, 2), score_terms=("cooccurrence",))
    histories = random_histories(items=ITEMS)
    _, parts, reasons = explained(stored, index_of(stored, new=np.arange(2, ITEMS, 4)), histories)
    names = np.array(reasons.names.to_pylist())
    assert set(names[parts.is_new]) == {NEW, "together"}
    assert NEW not in names[~parts.is_new]
    assert set(names) <= set(reason_names())
    assert TASTE in names


def test_users_without_usable_history_have_popular_items():
    stored = stored_model(score_terms=("cooccurrence",))
    histories = histories_of([(0, ITEMS + 3)], [(0, 1), (1, 2)])
    index = index_of(stored)
    attribution = Attribution(stored, index, POPULARITY)
    block = ModelScorer(stored, index, POPULARITY, 5, False, attribution=attribution)(histories)
    names = block.reasons.names.to_pylist()
    assert names[:5] == [POPULAR] * 5
    assert names[5:] != [POPULAR] * 5
    assert not block.reasons.items[:5].any()


def test_blocks_of_users_make_no_difference(monkeypatch):
    stored, histories = stored_model(**KINDS["all terms"]), random_histories(items=ITEMS)
    index = index_of(stored)
    _, parts, reasons = explained(stored, index, histories)
    monkeypatch.setattr("hmamba.candidates.because.ROWS", 7)
    monkeypatch.setattr("hmamba.candidates.because._VECTORS", 5)
    monkeypatch.setattr("hmamba.candidates.because._PAIRS", 11)
    monkeypatch.setattr("hmamba.candidates.because._LOGITS", 50)
    _, again, others = explained(stored, index, histories)
    np.testing.assert_allclose(again.values, parts.values, rtol=1e-4, atol=1e-5)
    assert others.names.to_pylist() == reasons.names.to_pylist()
    assert others.items.tolist() == reasons.items.tolist()


def test_the_order_of_a_list_changes_no_part():
    """A ranker and rules change the order, which is no evidence."""
    stored, histories = stored_model(**KINDS["all terms"]), random_histories(items=ITEMS)
    ranked, parts, _ = explained(stored, index_of(stored), histories)
    hidden = encode_users(stored.model, histories)
    back = replace(ranked, items=ranked.items[::-1].copy(), users=ranked.users[::-1].copy())
    order = np.lexsort((back.items, back.users))
    attribution = Attribution(stored, index_of(stored), POPULARITY)
    again = attribution.parts(histories, hidden, back.users[order], back.items[order])
    place = np.lexsort((ranked.items, ranked.users))
    np.testing.assert_allclose(again.values, parts.values[place], rtol=1e-5, atol=1e-6)
