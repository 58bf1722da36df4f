"""Batches: the targets of every row are exactly the user's next basket, and nothing leaks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hmamba.model.repeats import Repeats
from hmamba.recipe import Recipe
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.training import batches as batches_module
from hmamba.training.batches import Batches
from tests.histories import histories_of, random_histories, randomly_valued, valued
from tests.training.trainings import settings

REPEATS = Repeats(dim=8, items=20)


def catalogue_of(histories, least=1):
    return CandidateItems.of(histories.item_events(int(histories.items.max()) + 1), least)


def all_questions(histories, candidate_items, max_length, tokens):
    """(user, flat position, item) of every target in an epoch, from the tokens of the batches."""
    batches = Batches(histories, candidate_items, max_length=max_length, tokens=tokens, learned_term=REPEATS)
    found, loaded_events = [], 0
    for windows in batches.epoch(0):
        batch = batches.load(windows)
        loaded_events += len(batch.items)
        flat = np.concatenate([np.arange(batches.window_start[w], batches.window_end[w]) for w in windows])
        assert np.array_equal(batch.items, histories.items[flat])
        position = flat[batch.positions]
        found += [(int(position[r]), int(candidate_items.eligible[c])) for r, c in zip(*batch.targets, strict=True)]
        for row, end in enumerate(position + 1):
            user = histories.owner[end - 1]
            past = set(histories.items[histories.offsets[user] : end].tolist())
            columns = batch.entries.columns[batch.entries.rows == row]
            assert set(candidate_items.eligible[columns].tolist()) == {
                i for i in past if candidate_items.column[i] >= 0
            }
    return sorted(found), loaded_events


@pytest.mark.parametrize("max_length", [3, 1000])
@pytest.mark.parametrize("tokens", [5, 64, 10_000])
def test_an_epoch_has_every_row_once(max_length, tokens):
    histories = random_histories()
    candidate_items = catalogue_of(histories, least=15)
    starts = histories.basket_starts
    expected = []
    for basket in range(1, len(starts) - 1):
        if histories.owner[starts[basket]] == histories.owner[starts[basket] - 1]:
            items = histories.items[starts[basket] : starts[basket + 1]]
            expected += [(int(starts[basket]) - 1, int(i)) for i in items if candidate_items.column[i] >= 0]
    found, events = all_questions(histories, candidate_items, max_length, tokens)
    assert found == sorted(expected)
    assert events <= histories.events


def test_there_are_no_rows_inside_a_basket():
    histories = histories_of([(0, 1), (0, 2), (0, 3), (1, 4)])
    found, _ = all_questions(histories, catalogue_of(histories), 100, 100)
    assert found == [(2, 4)]


def test_a_user_with_one_basket_has_no_rows():
    histories = histories_of([(0, 1), (0, 2)], [(0, 1), (2, 2)])
    batches = Batches(histories, catalogue_of(histories), max_length=10, tokens=10)
    assert batches.rows == 1
    assert [w.tolist() for w in batches.epoch(0)] == [[1]]


def test_epochs_are_shuffled_repeatable_and_limited_to_chosen_windows():
    histories = random_histories(users=60)
    batches = Batches(histories, catalogue_of(histories), max_length=8, tokens=40)
    first, again, other = (np.concatenate(batches.epoch(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert sorted(first) == sorted(other)
    chosen = batches.newest
    assert set(np.concatenate(batches.epoch(1, chosen))) == set(first) & set(np.flatnonzero(chosen))


def test_older_targets_count_less():
    histories = histories_of([(0, 1), (10, 2), (20, 3)])
    batches = Batches(histories, catalogue_of(histories), max_length=9, tokens=9, half_life_days=10)
    (windows,) = batches.epoch(0)
    assert batches.load(windows).weights.tolist() == [0.5, 1.0]


def test_a_row_recommends_for_the_day_of_the_next_basket():
    histories = histories_of([(0, 1), (10.9, 2), (30.5, 1), (30.7, 3)])
    batches = Batches(histories, catalogue_of(histories), max_length=9, tokens=9, learned_term=REPEATS)
    (windows,) = batches.epoch(0)
    entries = batches.load(windows).entries
    gap_of_row = dict(zip(entries.rows.tolist(), np.expm1(entries.features[:, 5]).tolist(), strict=True))
    assert gap_of_row == {0: pytest.approx(10), 1: pytest.approx(30 - 10.9, rel=1e-5), 2: 0}


def test_each_seed_draws_another_share_of_the_rows():
    histories = random_histories(users=80)
    batches = Batches(
        histories, catalogue_of(histories), max_length=100, tokens=10_000, learned_term=REPEATS, share=0.3
    )
    (windows,) = batches.epoch(0)
    one, two = batches.load(windows, 1), batches.load(windows, 2)
    assert 0.2 < len(one.positions) / batches.rows < 0.4
    assert not np.array_equal(one.positions, two.positions)
    assert np.array_equal(one.items, two.items)


def test_the_number_of_entries_in_a_batch_is_limited(monkeypatch):
    histories = random_histories(users=80)
    batches = Batches(histories, catalogue_of(histories), max_length=100, tokens=10_000, learned_term=REPEATS)
    (windows,) = batches.epoch(0)
    whole = batches.load(windows)
    assert len(whole.positions) == batches.rows
    monkeypatch.setattr(batches_module, "_MOST_ENTRIES", len(whole.entries.rows) // 3)
    one, again, two = batches.load(windows, 1), batches.load(windows, 1), batches.load(windows, 2)
    assert len(whole.entries.rows) // 4 < len(one.entries.rows) <= len(whole.entries.rows) // 3
    assert np.array_equal(one.positions, again.positions)
    assert not np.array_equal(one.positions, two.positions)
    assert one.weight == len(one.weights) < whole.weight
    monkeypatch.setattr(batches_module, "_MOST_ENTRIES", 1)
    assert len(batches.load(windows, 1).positions) == 1


def test_there_is_no_padding():
    histories = random_histories(users=80)
    batches = Batches(histories, catalogue_of(histories), max_length=8, tokens=60)
    windows = batches.epoch(0)
    loaded = [batches.load(part) for part in windows]
    assert all(len(batch.items) == batches.events(part) for batch, part in zip(loaded, windows, strict=True))
    assert all((batch.items > 0).all() for batch in loaded)


def test_a_horizon_shares_the_next_baskets_weight_with_those_after_it():
    histories = histories_of([(0, 1), (1, 2), (1, 3), (2, 4), (3, 5)], [(0, 1), (1, 2)])
    candidate_items = CandidateItems.of(np.array([0, 1, 1, 1, 0, 1]), 1)  # item 4 is no candidate
    batches = Batches(histories, candidate_items, max_length=10, tokens=100, horizon=3)
    batch = batches.load(np.arange(len(batches.window_end)))
    order = np.lexsort((batch.targets[1], batch.targets[0]))
    targets = [(int(batch.targets[0][i]), int(candidate_items.eligible[batch.targets[1][i]])) for i in order]
    assert targets == [(0, 2), (0, 3), (0, 5), (1, 5), (2, 2)]
    whole = 1 + 1 + 0.6**2
    np.testing.assert_allclose(batch.weights[order], [2 / whole, 2 / whole, 2 * 0.36 / whole, 1, 1], rtol=1e-6)
    assert batch.weight == pytest.approx(batch.weights.sum())


@pytest.mark.parametrize(
    "changed",
    [
        {"train": {"max_length": 4}},
        {"train": {"tokens": 64}},
        {"train": {"row_share": 0.5}},
        {"train": {"half_life_days": 3.0}},
        {"train": {"horizon": 3}},
        {"model": {"score_terms": ()}},
    ],
    ids=str,
)
def test_batches_follow_the_settings(changed):
    histories = random_histories(users=80)
    made = []
    for config in (settings(), settings(**changed)):
        term = REPEATS if "repeats" in config.model.score_terms else None
        recipe = Recipe.for_histories(config, histories)
        batches = Batches.of(histories, catalogue_of(histories), config, recipe, term)
        parts = [batches.load(windows) for windows in batches.epoch(0)]
        made.append([(part.items.tolist(), part.weights.tolist(), len(part.entries.rows)) for part in parts])
    assert made[0] != made[1]


def test_targets_have_the_weights_of_their_events_and_unwanted_ones_are_dropped():
    histories = valued(
        histories_of([(0, 1), (1, 2), (1, 3), (2, 4), (3, 1), (3, 5)]),
        weights=[9, 2, 0.5, 1, 1, 3],
        targets=[True, True, True, False, True, False],
    )
    batches = Batches(histories, catalogue_of(histories), max_length=9, tokens=9)
    batch = batches.load(np.arange(1))
    assert batch.positions.tolist() == [0, 3]  # the third basket holds no target
    assert batch.targets[0].tolist() == [0, 0, 1]
    assert (batch.targets[1] + 1).tolist() == [2, 3, 1]
    assert batch.weights.tolist() == [2, 0.5, 1]
    assert batch.weight == 3.5


def test_a_horizon_shares_the_weight_of_the_next_baskets_events():
    histories = valued(histories_of([(0, 1), (1, 2), (2, 3)]), weights=[1, 4, 2])
    batches = Batches(histories, catalogue_of(histories), max_length=9, tokens=9, horizon=2)
    batch = batches.load(np.arange(1))
    whole = 4 + 0.6 * 2
    np.testing.assert_allclose(batch.weights, [4 * 4 / whole, 4 * 1.2 / whole, 2], rtol=1e-6)
    assert batch.weight == pytest.approx(6)


@pytest.mark.parametrize("max_length", [3, 1000])
def test_an_epoch_has_every_wanted_event_as_a_target_with_its_weight(max_length):
    histories = randomly_valued(random_histories()).read
    candidate_items = catalogue_of(histories)
    batches = Batches(histories, candidate_items, max_length=max_length, tokens=64, learned_term=REPEATS)
    found = []
    for windows in batches.epoch(0):
        batch = batches.load(windows)
        flat = np.concatenate([np.arange(batches.window_start[w], batches.window_end[w]) for w in windows])
        position = flat[batch.positions]
        found += zip(position[batch.targets[0]], candidate_items.eligible[batch.targets[1]], batch.weights, strict=True)
        assert batch.weight == pytest.approx(batch.weights.sum())
    starts = histories.basket_starts
    expected = []
    for start, end in pairwise(starts):
        if start and histories.owner[start] == histories.owner[start - 1]:
            wanted = [event for event in range(start, end) if histories.wanted[event]]
            expected += [(start - 1, histories.items[event], histories.weights[event]) for event in wanted]
    assert sorted(found) == sorted(expected)
