"""Attribute similarity equals its definition, computed densely."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from hmamba.sequences.candidate_items import CandidateItems
from hmamba.terms import attributes as module
from hmamba.terms.attributes import Attributes
from tests.histories import histories_of, random_histories, randomly_valued, valued

ITEMS, NAMES = 60, 12


def some_attributes(size, seed=0):
    """Up to three of ``NAMES`` attributes per item; a third of the items has none."""
    random = np.random.default_rng(seed)
    dense = random.random((size, NAMES)) < np.linspace(0.02, 0.12, NAMES)
    dense[random.random(size) < 0.33] = False
    dense[0] = False
    return sp.csr_array(dense.astype(np.float32))


def vectors_by_definition(histories, attributes):
    dense = attributes.toarray()
    known = histories.item_events(len(dense)) > 0
    items = dense[known].sum(axis=0)
    kept = (items > 1) & (items <= 0.1 * known.sum())
    vectors = dense[:, kept] * np.log(known.sum() / items[kept])
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def features_by_definition(vectors, histories, user):
    """(items, 2) of all items."""
    own = slice(histories.offsets[user], histories.offsets[user + 1])
    weights = np.ones(own.stop - own.start) if histories.weights is None else histories.weights[own].astype(float)
    items, times = histories.items[own][weights > 0][-50:], histories.times[own][weights > 0][-50:]
    weights = weights[weights > 0][-50:]
    if not len(items):
        return np.zeros((len(vectors), 2))
    ago = len(np.unique(times)) - 1 - np.unique(times, return_inverse=True)[1]
    similar = vectors @ vectors[items].T
    return np.stack([similar @ (w / w.sum()) for w in (weights * 0.8**ago, weights * (ago == 0))], axis=1)


@pytest.mark.parametrize("block", [1 << 21, 20, 1])
@pytest.mark.parametrize("most", [1_000, 5, 1])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("values", [lambda histories: histories, randomly_valued])
def test_entries_equal_their_definition(values, seed, most, block, monkeypatch):
    monkeypatch.setattr(module, "_ENTRIES", most)
    monkeypatch.setattr(module, "_BLOCK", block)
    histories = values(random_histories(items=ITEMS, seed=seed))
    attributes = some_attributes(ITEMS + 1, seed)
    counted = Attributes.count(histories, ITEMS + 1, attributes)
    vectors = vectors_by_definition(histories, attributes)
    np.testing.assert_allclose(counted.vectors.toarray(), vectors, rtol=1e-5, atol=1e-7)
    mask = np.ones(ITEMS + 1, dtype=np.int64)
    mask[[0, 3, 7]] = 0
    candidate_items = CandidateItems.of(mask, 1)
    users = np.array([4, 0, 9, 4, 17])
    part = histories.select(users)
    entries = counted.entries(part, candidate_items)
    assert (np.diff(entries.rows) >= 0).all()
    assert len(np.unique(entries.rows * len(candidate_items) + entries.columns)) == len(entries.rows)
    seen_rows, seen_columns = candidate_items.seen(part, np.arange(len(users)))
    found = 0
    for row, user in enumerate(users):
        expected = features_by_definition(vectors, histories, user)[candidate_items.eligible]
        expected[seen_columns[seen_rows == row]] = 0
        columns = entries.columns[entries.rows == row]
        total = expected.sum(axis=1)
        assert len(columns) == min((total > 1e-9).sum(), most)
        np.testing.assert_allclose(entries.features[entries.rows == row], expected[columns], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(np.sort(total)[::-1][: len(columns)], np.sort(total[columns])[::-1], rtol=1e-4)
        found += len(columns)
    assert found > 0


def test_a_users_entries_do_not_depend_on_the_other_users(monkeypatch):
    monkeypatch.setattr(module, "_ENTRIES", 4)
    histories = random_histories(items=ITEMS)
    counted = Attributes.count(histories, ITEMS + 1, some_attributes(ITEMS + 1))
    candidate_items = CandidateItems.of(np.r_[0, np.ones(ITEMS, dtype=np.int64)], 1)
    together = counted.entries(histories, candidate_items)
    for user in range(len(histories)):
        alone = counted.entries(histories.select(np.array([user])), candidate_items)
        own = together.rows == user
        assert alone.columns.tolist() == together.columns[own].tolist()
        np.testing.assert_array_equal(alone.features, together.features[own])


def test_new_items_are_raised_and_those_seen_are_not():
    """Item 5 has no event; items 1 to 3 share an attribute with it, and 4 another one."""
    attributes = sp.csr_array(np.array([[0, 0], [1, 0], [1, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32))
    padded = sp.vstack([attributes, sp.csr_array((40, 2), dtype=np.float32)]).tocsr()
    everyone = histories_of(*([(0, item)] for item in [1, 2, 3, 4, *range(6, 46)]))
    counted = Attributes.count(everyone, 46, sp.csr_array(padded))
    candidate_items = CandidateItems.of(np.r_[0, np.ones(45, dtype=np.int64)], 1)

    def raised(history):
        return sorted(candidate_items.eligible[counted.entries(history, candidate_items).columns].tolist())

    history = histories_of([(0, 1), (1, 2)])
    assert raised(history) == [3, 5]
    assert raised(valued(history, seen=[False, True])) == [1, 3, 5]
    assert raised(valued(history, weights=[0, 0])) == []
    assert raised(histories_of([(0, 4)])) == []  # its attribute belongs to one item
    assert raised(histories_of()) == raised(histories_of([])) == []


def test_without_attributes_that_tell_items_apart_there_is_no_term():
    histories = random_histories(items=ITEMS)
    assert Attributes.count(histories, ITEMS + 1, None) is None
    everything = sp.csr_array(np.ones((ITEMS + 1, 1), dtype=np.float32))
    assert Attributes.count(histories, ITEMS + 1, everything) is None
    one_each = sp.csr_array(np.eye(ITEMS + 1, dtype=np.float32))
    assert Attributes.count(histories, ITEMS + 1, one_each) is None
    assert Attributes.count(histories_of(), ITEMS + 1, some_attributes(ITEMS + 1)) is None
    assert Attributes.count(histories_of([(0, 1)]), 2, some_attributes(2)) is None


def test_saved_vectors_are_loaded_unchanged_and_resized(tmp_path):
    histories = random_histories(items=ITEMS)
    counted = Attributes.count(histories, ITEMS + 1, some_attributes(ITEMS + 1))
    counted.save(tmp_path)
    again = Attributes.load(tmp_path, ITEMS + 1)
    candidate_items = CandidateItems.of(np.r_[0, np.ones(ITEMS, dtype=np.int64)], 1)
    before, after = (term.entries(histories, candidate_items) for term in (counted, again))
    np.testing.assert_array_equal(before.columns, after.columns)
    np.testing.assert_array_equal(before.features, after.features)
    early = histories_of([(0, 1), (1, 3)], [(0, 20)])
    fewer = counted.resized(21)
    assert fewer.vectors.shape[0] == 21
    candidate_items = CandidateItems.of(np.r_[0, np.ones(20, dtype=np.int64), np.zeros(ITEMS - 20, dtype=np.int64)], 1)
    whole = counted.entries(early, candidate_items)
    part = fewer.entries(early, replace(candidate_items, column=candidate_items.column[:21]))
    assert dict(zip(zip(whole.rows, whole.columns, strict=True), whole.features.tolist(), strict=True)) == dict(
        zip(zip(part.rows, part.columns, strict=True), part.features.tolist(), strict=True)
    )


def test_items_that_are_no_candidates_cost_no_similarities(monkeypatch):
    """Of a catalogue of 3,000 items, ten compete: similarities are those to their sets only."""
    size = 3_001
    random = np.random.default_rng(0)
    pairs = np.repeat(np.arange(1, size), 3), random.integers(0, 200, 3 * (size - 1))
    matrix = sp.csr_array((np.ones(len(pairs[0]), np.float32), pairs), (size, 200)).sign()
    histories = histories_of(*([(day, 1 + (user * 7 + day) % (size - 1)) for day in range(5)] for user in range(900)))
    counted = Attributes.count(histories, size, matrix)
    asked = []
    whole = module._similarities

    def noted(recent, last, set_vectors):
        asked.append(set_vectors.shape[0])
        return whole(recent, last, set_vectors)

    monkeypatch.setattr(module, "_similarities", noted)
    some = CandidateItems.only(np.arange(5, 15), size)
    few = counted.entries(histories.select(np.arange(3)), some)
    assert max(asked) <= 10
    everything = counted.entries(histories.select(np.arange(3)), CandidateItems.only(np.arange(1, size), size))

    def of_items(entries, eligible):
        items = eligible[entries.columns].tolist()
        return dict(zip(zip(entries.rows.tolist(), items, strict=True), entries.features.tolist(), strict=True))

    kept, of_all = of_items(few, some.eligible), of_items(everything, np.arange(1, size))
    common = kept.keys() & of_all.keys()
    assert common
    assert all(kept[key] == pytest.approx(of_all[key]) for key in common)


@pytest.mark.parametrize("values", [lambda histories: histories, randomly_valued])
def test_what_is_behind_the_evidence_adds_up_to_what_is_added(values, monkeypatch):
    monkeypatch.setattr(module, "_PAIRS", 7)
    histories = values(random_histories(items=ITEMS))
    counted = Attributes.count(histories, ITEMS + 1, some_attributes(ITEMS + 1))
    everything = CandidateItems.of(np.r_[0, np.ones(ITEMS, dtype=np.int64)], 1)
    entries = counted.entries(histories, everything)
    weights = {"recent": 3.0, "last": 0.5}
    parts = counted.behind(weights, histories, entries.rows, everything.eligible[entries.columns])
    np.testing.assert_allclose(parts.sum(axis=1), entries.features @ [3.0, 0.5], rtol=1e-4, atol=1e-6)
    read = histories.read
    for row, found in zip(entries.rows[::11], parts[::11].toarray(), strict=True):
        assert set(np.flatnonzero(found)) <= set(read.items[read.offsets[row] : read.offsets[row + 1]][-50:])
