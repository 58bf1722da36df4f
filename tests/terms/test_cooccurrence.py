"""The co-occurrence table equals its definition, computed in loops."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import ranking_metrics
from hmamba.evaluation.ranking import rank_all
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories
from hmamba.terms import cooccurrence as module
from hmamba.terms.cooccurrence import Cooccurrence
from hmamba.training.term_weights import weigh
from tests.histories import histories_of, random_histories, randomly_valued, valued
from tests.stored import stored_model

ITEMS = 20


def baskets_of(histories, user):
    """Items and the basket number of each."""
    own = slice(histories.offsets[user], histories.offsets[user + 1])
    return histories.items[own], np.unique(histories.times[own], return_inverse=True)[1]


def weights_of(histories, user):
    own = slice(histories.offsets[user], histories.offsets[user + 1])
    return np.ones(histories.lengths[user]) if histories.weights is None else histories.weights[own].astype(float)


def by_definition(histories):
    histories = histories.read
    events = np.maximum(np.bincount(histories.items, minlength=ITEMS + 1), 1)
    table = np.zeros((ITEMS + 1, ITEMS + 1))
    for user in range(len(histories)):
        items, baskets = baskets_of(histories, user)
        weights = weights_of(histories, user)
        for i, a in enumerate(items):
            for j in range(i + 1, min(i + 16, len(items))):
                b, apart, both = items[j], baskets[j] - baskets[i], weights[i] * weights[j]
                if a != b:
                    table[a, b] += both * 0.8 ** max(apart - 1, 0)
                    table[b, a] += both * 0.25 * 0.8 ** (apart - 1) if apart else both
    return table / events[:, None] ** 0.5 / events[None] ** 0.2


def shares_by_definition(table, histories, user, competing):
    read = histories.read
    items, baskets = baskets_of(read, user)
    ages = baskets.max(initial=0) - baskets
    events = list(zip(items, ages, weights_of(read, user), strict=True))[-50:]
    reached = sum((weight * 0.8**age * table[item] for item, age, weight in events), np.zeros(len(table)))
    own = slice(histories.offsets[user], histories.offsets[user + 1])
    reached[histories.items[own] if histories.seen is None else histories.items[own][histories.seen[own]]] = 0
    reached = reached / reached.sum() if reached.sum() else reached
    return {int(v): reached[v] for v in competing if reached[v] > 0}


def test_items_of_one_basket_have_no_order():
    table = Cooccurrence.count(histories_of([(0, 1), (0, 2)]), 3).table.toarray()
    assert table[1, 2] == table[2, 1] > 0
    table = Cooccurrence.count(histories_of([(0, 1), (1, 2)]), 3).table.toarray()
    assert table[1, 2] > table[2, 1] > 0


@pytest.mark.parametrize("values", [lambda histories: histories, randomly_valued])
def test_the_table_equals_its_definition(values):
    histories = values(random_histories(items=ITEMS))
    counted = Cooccurrence.count(histories, ITEMS + 1)
    np.testing.assert_allclose(counted.table.toarray(), by_definition(histories), rtol=1e-5)


@pytest.mark.parametrize("values", [lambda histories: histories, randomly_valued])
def test_shares_of_new_items_sum_to_one_and_exclude_seen_items(values):
    histories = values(random_histories(items=ITEMS))
    table = by_definition(histories)
    counted = Cooccurrence.count(histories, ITEMS + 1)
    mask = np.ones(ITEMS + 1, dtype=np.int64)
    mask[[0, 3, 7]] = 0
    candidate_items = CandidateItems.of(mask, 1)
    users = np.array([4, 0, 9])
    entries = counted.entries(histories.select(users), candidate_items)
    assert (np.diff(entries.rows) >= 0).all()
    assert len(np.unique(entries.rows * len(candidate_items) + entries.columns)) == len(entries.rows)
    for row, user in enumerate(users):
        of_row = entries.rows == row
        expected = shares_by_definition(table, histories, user, candidate_items.eligible)
        assert dict(
            zip(candidate_items.eligible[entries.columns[of_row]].tolist(), entries.shares[of_row], strict=True)
        ) == (pytest.approx(expected, rel=1e-4))


def test_items_not_counted_as_seen_are_raised_and_events_of_weight_0_are_ignored():
    counted = Cooccurrence.count(histories_of(*[[(0, 1), (1, 2)], [(0, 3), (1, 4)]] * 3), 5)
    candidate_items = CandidateItems.of(np.array([0, 1, 1, 1, 1]), 1)
    history = histories_of([(0, 2), (1, 1), (2, 3)])

    def raised(**values):
        entries = counted.entries(valued(history, **values), candidate_items)
        return dict(zip(candidate_items.eligible[entries.columns].tolist(), entries.shares.tolist(), strict=True))

    assert set(raised()) == {4}
    viewed = raised(seen=[False, True, True])
    assert set(viewed) == {2, 4}
    assert viewed[2] < raised(weights=[1, 4, 1], seen=[False, True, True])[2]
    assert set(raised(weights=[0, 1, 0])) == set()
    assert set(raised(weights=[0, 1, 0], seen=[False, True, True])) == {2}


def test_only_the_neighbours_with_the_largest_weights_are_kept(monkeypatch):
    monkeypatch.setattr(module, "_NEIGHBOURS", 2)
    histories = random_histories(items=ITEMS)
    kept, full = Cooccurrence.count(histories, ITEMS + 1).table.toarray(), by_definition(histories)
    assert ((kept > 0).sum(1) == np.minimum((full > 0).sum(1), 2)).all()
    np.testing.assert_allclose(kept.sum(1), np.sort(full, axis=1)[:, -2:].sum(1), rtol=1e-5)


def at_once(histories, size, neighbours):
    """The pruned table, computed from all pairs in memory."""
    items, owner = histories.items, histories.owner
    basket = np.repeat(np.arange(len(histories.basket_starts) - 1), np.diff(histories.basket_starts))
    table = sp.csr_array((size, size))
    for distance in range(1, min(15, len(items) - 1) + 1):
        first = np.flatnonzero(owner[:-distance] == owner[distance:])
        a, b = items[first], items[first + distance]
        apart = basket[first + distance] - basket[first]
        weight = (0.8 ** np.maximum(apart - 1, 0)).astype(np.float32).astype(float)
        table = table + sp.coo_array((weight, (a, b)), (size, size)).tocsr()
        table = table + sp.coo_array((np.where(apart > 0, 0.25, 1) * weight, (b, a)), (size, size)).tocsr()
    events = np.maximum(histories.item_events(size), 1)
    entries = table.tocoo()
    keep = entries.row != entries.col
    row, column = entries.row[keep].astype(np.int64), entries.col[keep].astype(np.int64)
    value = entries.data[keep] * events[row] ** -0.5 * events[column] ** -0.2
    order = np.lexsort((column, -value, row))
    row, column, value = row[order], column[order], value[order]
    kept = np.arange(len(row)) - np.searchsorted(row, row) < neighbours
    return sp.csr_array((value[kept].astype(np.float32), (row[kept], column[kept])), (size, size))


@st.composite
def some_histories(draw):
    """Up to 8 users, some without events; few items, so that rows are long and many weights are equal."""
    lengths = draw(st.lists(st.integers(0, 40), max_size=8))
    random = np.random.default_rng(draw(st.integers(0, 1_000)))
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    times = np.concatenate([np.zeros(0, np.int64), *(np.sort(random.integers(0, 20, n)) for n in lengths)])
    items = random.integers(1, draw(st.sampled_from([2, 8, 60])) + 1, offsets[-1])
    return Histories(pa.array([str(user) for user in range(len(lengths))], pa.string()), offsets, items, times)


@given(some_histories(), st.sampled_from([1, 90, 300, 1 << 20]), st.sampled_from([1, 3, 256]))
def test_the_table_is_the_same_wherever_blocks_end(histories, pairs, neighbours):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_PAIRS", pairs)
        patch.setattr(module, "_NEIGHBOURS", neighbours)
        counted = Cooccurrence.count(histories, 61).table
    assert (counted != at_once(histories, 61, neighbours)).nnz == 0
    assert counted.has_canonical_format


def test_memory_does_not_grow_with_the_pairs():
    """A million pairs, nearly all distinct: 76 MB if all were in memory."""
    random = np.random.default_rng(0)
    histories = histories_of(
        *([(float(day), int(item)) for day, item in enumerate(row)] for row in random.integers(1, 2_001, (700, 50)))
    )
    assert len(histories.basket_starts) == len(histories.owner) + 1  # counted once and kept
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_PAIRS", 1 << 14)
        patch.setattr(module, "_NEIGHBOURS", 16)
        tracemalloc.start()
        Cooccurrence.count(histories, 2_001)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 5_000_000


def test_histories_too_short_for_a_pair_count_nothing():
    counted = Cooccurrence.count(histories_of([(0, 1)], [(0, 2)]), 4)
    assert counted.table.nnz == 0
    candidate_items = CandidateItems.of(np.array([0, 1, 1, 1]), 1)
    assert len(counted.entries(histories_of([(0, 1)]), candidate_items).rows) == 0


def test_a_saved_table_is_loaded_unchanged(tmp_path):
    counted = replace(Cooccurrence.count(random_histories(items=ITEMS), ITEMS + 1), strength=1.5, scale=1e-3)
    counted.save(tmp_path)
    again = Cooccurrence.load(tmp_path, ITEMS + 1, **counted.weights())
    assert (again.table != counted.table).nnz == 0
    assert again.weights() == {"strength": 1.5, "scale": 1e-3}


def walkers(users):
    """Users who interact with 1, 2, 3, ... of 40 items, and an untrained model of these items."""
    walks = histories_of(*([(day, 1 + (start + day) % 40) for day in range(6)] for start in range(users)))
    return walks, stored_model().model, CandidateItems.of(np.r_[0, np.ones(40, dtype=np.int64)], 1)


def after_walks(walks, steps):
    rows = np.arange(len(walks))
    return EvaluationSet(walks, 0 * rows, rows, 1 + (rows + 5 + steps) % 40)


def weighed_by(model, counted, evaluation_set, candidate_items, enough):
    return weigh(model, counted, evaluation_set, candidate_items, enough=enough, exclude_seen=True)


@pytest.mark.parametrize("users", [40, 240])
def test_the_term_is_used_if_it_helps_and_dropped_if_it_misleads(users):
    """In the table the next item always follows an item, or never does."""
    walks, model, candidate_items = walkers(users)
    chosen, weighed = weighed_by(model, Cooccurrence.count(walks, 41), after_walks(walks, 1), candidate_items, 200)
    assert chosen is not None
    assert chosen.weights() == weighed["weights"]
    assert weighed["users"] == users
    assert weighed["ndcg@10"] > weighed["ndcg@10 without"]
    chosen, weighed = weighed_by(model, Cooccurrence.count(walks, 41), after_walks(walks, 20), candidate_items, 200)
    assert chosen is None
    assert weighed["weights"] is None
    assert weighed["ndcg@10"] == weighed["ndcg@10 without"]
    assert model.counted_terms == []


def ndcg(model, cooccurrence, evaluation_set, candidate_items):
    model.counted_terms = [] if cooccurrence is None else [cooccurrence]
    ranked, _ = rank_all(model, evaluation_set.past, candidate_items, k=10, exclude_seen=True)
    model.counted_terms = []
    return ranking_metrics(
        ranked, evaluation_set.rows, evaluation_set.items, cutoffs=(10,), catalogue=len(candidate_items)
    )["ndcg@10"]


def test_the_number_of_users_for_a_choice_is_a_setting():
    walks, model, candidate_items = walkers(240)
    own, evaluation_set = replace(Cooccurrence.count(walks, 41), scale=0.1), after_walks(walks, 1)
    assert weighed_by(model, own, evaluation_set, candidate_items, 241)[0].weights() == own.weights()
    assert weighed_by(model, own, evaluation_set, candidate_items, 240)[0].weights() != own.weights()


def test_the_best_choice_wins_unless_there_are_few_users():
    walks, model, candidate_items = walkers(240)
    own = replace(Cooccurrence.count(walks, 41), strength=1.0, scale=0.1)
    evaluation_set = after_walks(walks, 1)
    chosen, weighed = weighed_by(model, own, evaluation_set, candidate_items, 200)
    others = [
        ndcg(model, replace(own, strength=a, scale=b), evaluation_set, candidate_items)
        for a in (0.5, 2)
        for b in (1e-4, 1e-3)
    ]
    assert (
        weighed["ndcg@10"]
        == pytest.approx(ndcg(model, chosen, evaluation_set, candidate_items), abs=1e-6)
        == pytest.approx(max(others), abs=1e-6)
    )
    assert weighed["ndcg@10 without"] == pytest.approx(ndcg(model, None, evaluation_set, candidate_items), abs=1e-6)
    assert weighed["ndcg@10"] > 1.02 * ndcg(model, own, evaluation_set, candidate_items)
    few = after_walks(walks.select(np.arange(199)), 1)
    chosen, weighed = weighed_by(model, own, few, candidate_items, 200)
    assert chosen.weights() == own.weights()
    assert weighed["ndcg@10"] == pytest.approx(ndcg(model, own, few, candidate_items), abs=1e-6)
    assert weighed["ndcg@10"] > weighed["ndcg@10 without"]


def test_with_few_users_the_term_is_kept_unless_it_does_harm():
    """None of three users gets a hit with or without the term, which is no evidence against it."""
    walks, model, candidate_items = walkers(40)
    own = replace(Cooccurrence.count(walks, 41), strength=1e-9)
    evaluation_set = after_walks(walks.select(np.arange(3)), 20)
    last = rank_all(model, evaluation_set.past, candidate_items, k=40, exclude_seen=True)[0]
    missed = replace(evaluation_set, items=np.array([row[row > 0][-1] for row in last]))
    chosen, weighed = weighed_by(model, own, missed, candidate_items, 200)
    assert weighed["ndcg@10"] == weighed["ndcg@10 without"] == 0
    assert chosen is not None
    assert chosen.weights() == own.weights()


def test_without_validation_users_the_term_keeps_its_default_weights():
    walks, model, candidate_items = walkers(40)
    counted = Cooccurrence.count(walks, 41)
    empty = after_walks(walks.select(np.zeros(0, dtype=np.int64)), 1)
    chosen, weighed = weighed_by(model, counted, empty, candidate_items, 200)
    assert chosen is counted
    assert weighed == {"weights": counted.weights(), "ndcg@10": None, "ndcg@10 without": None, "users": 0}
