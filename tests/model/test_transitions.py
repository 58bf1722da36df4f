"""The table of transitions against its definition, spelled out in loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hmamba.evaluation.split import Question
from hmamba.model import transitions as module
from hmamba.model.transitions import Transitions
from hmamba.sequences.catalogue import Catalogue
from hmamba.training.blend import weigh
from tests.histories import histories_of, random_histories
from tests.stored import stored_model

ITEMS = 20


def baskets_of(histories, user):
    """Items and the number of the basket that each lies in."""
    own = slice(histories.offsets[user], histories.offsets[user + 1])
    return histories.items[own], np.unique(histories.times[own], return_inverse=True)[1]


def by_definition(histories):
    events = np.maximum(histories.item_events(ITEMS + 1), 1)
    table = np.zeros((ITEMS + 1, ITEMS + 1))
    for user in range(len(histories)):
        items, baskets = baskets_of(histories, user)
        for i, a in enumerate(items):
            for j in range(i + 1, min(i + 16, len(items))):
                b, apart = items[j], baskets[j] - baskets[i]
                if a != b:
                    table[a, b] += 0.8 ** max(apart - 1, 0)
                    table[b, a] += 0.25 * 0.8 ** (apart - 1) if apart else 1
    return table / events[:, None] ** 0.5 / events[None] ** 0.2


def shares_by_definition(table, items, baskets, competing):
    ages = baskets.max(initial=0) - baskets
    reached = sum(0.8**age * table[item] for item, age in list(zip(items, ages, strict=True))[-50:])
    reached[items] = 0
    reached = reached / reached.sum() if reached.sum() else reached
    return {int(v): reached[v] for v in competing if reached[v] > 0}


def test_what_lies_in_one_basket_has_no_order():
    table = Transitions.count(histories_of([(0, 1), (0, 2)]), 3).table.toarray()
    assert table[1, 2] == table[2, 1] > 0
    table = Transitions.count(histories_of([(0, 1), (1, 2)]), 3).table.toarray()
    assert table[1, 2] > table[2, 1] > 0


def test_the_table_is_what_it_is_defined_to_be():
    histories = random_histories(items=ITEMS)
    counted = Transitions.count(histories, ITEMS + 1)
    np.testing.assert_allclose(counted.table.toarray(), by_definition(histories), rtol=1e-5)


def test_shares_add_up_over_new_items_and_hold_none_that_was_had():
    histories = random_histories(items=ITEMS)
    table = by_definition(histories)
    counted = Transitions.count(histories, ITEMS + 1)
    mask = np.ones(ITEMS + 1, dtype=np.int64)
    mask[[0, 3, 7]] = 0
    catalogue = Catalogue.of(mask, 1)
    users = np.array([4, 0, 9])
    entries = counted.after(histories, catalogue, users)
    assert (np.diff(entries.rows * len(catalogue) + entries.columns) > 0).all()
    for row, user in enumerate(users):
        mine = entries.rows == row
        expected = shares_by_definition(table, *baskets_of(histories, user), catalogue.eligible)
        assert dict(zip(catalogue.eligible[entries.columns[mine]].tolist(), entries.shares[mine], strict=True)) == (
            pytest.approx(expected, rel=1e-4)
        )


def test_only_the_weightiest_neighbours_are_kept(monkeypatch):
    monkeypatch.setattr(module, "_NEIGHBOURS", 2)
    histories = random_histories(items=ITEMS)
    kept, full = Transitions.count(histories, ITEMS + 1).table.toarray(), by_definition(histories)
    assert ((kept > 0).sum(1) == np.minimum((full > 0).sum(1), 2)).all()
    np.testing.assert_allclose(kept.sum(1), np.sort(full, axis=1)[:, -2:].sum(1), rtol=1e-5)


def test_histories_too_short_for_a_pair_count_nothing():
    counted = Transitions.count(histories_of([(0, 1)], [(0, 2)]), 4)
    assert counted.table.nnz == 0
    assert len(counted.after(histories_of([(0, 1)]), Catalogue.of(np.array([0, 1, 1, 1]), 1), np.array([0])).rows) == 0


def test_rows_of_arrow_and_back():
    counted = replace(Transitions.count(random_histories(items=ITEMS), ITEMS + 1), strength=1.5, scale=1e-3)
    again = Transitions.from_arrow(counted.to_arrow(), ITEMS + 1, **counted.weighing())
    assert (again.table != counted.table).nnz == 0
    assert again.weighing() == {"strength": 1.5, "scale": 1e-3}


def test_they_count_where_they_help_and_not_where_they_mislead():
    """The model is untrained. Users walk 1, 2, 3, ...; the table learns that, or that every walk ends."""
    walks = histories_of(*([(day, 1 + (start + day) % 40) for day in range(6)] for start in range(40)))
    model = stored_model().model
    catalogue = Catalogue.of(np.r_[0, np.ones(40, dtype=np.int64)], 1)
    rows = np.arange(40)
    after = Question(walks, 0, rows, 1 + (rows + 6) % 40)
    chosen = weigh(model, Transitions.count(walks, 41), after, catalogue)
    assert chosen is not None
    assert chosen.strength > 0
    others = Question(walks, 0, rows, 1 + (rows + 25) % 40)
    assert weigh(model, Transitions.count(walks, 41), others, catalogue) is None
    assert model.transitions is None
