"""The co-occurrence table equals its definition, computed in loops."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories
from hmamba.terms import cooccurrence as module
from hmamba.terms.cooccurrence import Cooccurrence
from tests.histories import histories_of, random_histories, randomly_valued, valued

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
    seen = np.zeros(len(table), dtype=bool)
    seen[histories.items[own] if histories.seen is None else histories.items[own][histories.seen[own]]] = True
    shares = np.where(seen, reached / max(reached.sum(), 1e-9), reached / max(reached[~seen].sum(), 1e-9))
    features = np.log1p(shares / 3e-4)
    return {int(v): (features[v], 0) if not seen[v] else (0, features[v]) for v in competing if reached[v] > 0}


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
def test_features_equal_their_definition(values):
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
        items = candidate_items.eligible[entries.columns[of_row]].tolist()
        assert sorted(items) == sorted(expected)
        for item, features in zip(items, entries.features[of_row], strict=True):
            assert features.tolist() == pytest.approx(expected[item], rel=1e-4)


def test_items_not_counted_as_seen_are_raised_and_events_of_weight_0_are_ignored():
    counted = Cooccurrence.count(histories_of(*[[(0, 1), (1, 2)], [(0, 3), (1, 4)]] * 3), 5)
    candidate_items = CandidateItems.of(np.array([0, 1, 1, 1, 1]), 1)
    history = histories_of([(0, 2), (1, 1), (2, 3)])

    def raised(**values):
        entries = counted.entries(valued(history, **values), candidate_items)
        items = candidate_items.eligible[entries.columns].tolist()
        return {item: new for item, (new, _) in zip(items, entries.features.tolist(), strict=True) if new}

    assert set(raised()) == {4}
    viewed = raised(seen=[False, True, True])
    assert set(viewed) == {2, 4}
    assert viewed[2] < raised(weights=[1, 4, 1], seen=[False, True, True])[2]
    assert set(raised(weights=[0, 1, 0])) == set()
    assert set(raised(weights=[0, 1, 0], seen=[False, True, True])) == {2}


def test_what_is_behind_the_evidence_adds_up_to_it():
    histories = randomly_valued(random_histories(items=ITEMS))
    counted = Cooccurrence.count(histories, ITEMS + 1)
    table = counted.table.toarray()
    rows, items = np.repeat(np.arange(len(histories)), 5), np.tile([1, 2, 3, 5, 8], len(histories))
    parts = counted.behind({}, histories, rows, items).toarray()
    for row, item, found in zip(rows, items, parts, strict=True):
        own, baskets = baskets_of(histories.read, row)
        expected = np.zeros(ITEMS + 1)
        ages = baskets.max(initial=0) - baskets
        for source, age, weight in list(zip(own, ages, weights_of(histories.read, row), strict=True))[-50:]:
            expected[source] += weight * 0.8**age * table[source, item]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


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
    counted = Cooccurrence.count(random_histories(items=ITEMS), ITEMS + 1)
    counted.save(tmp_path)
    again = Cooccurrence.load(tmp_path, ITEMS + 1)
    assert (again.table != counted.table).nnz == 0
