"""Settings that follow from the data."""

from __future__ import annotations

import pytest

from hmamba.config import Config, ModelConfig, parse
from hmamba.errors import InputError
from hmamba.recipe import Recipe, with_levels
from tests.histories import histories_of


@pytest.mark.parametrize(
    ("events", "tokens", "epochs", "patience"),
    [
        (0, 256, 60, 350),
        (2_000, 256, 60, 44),
        (16_384, 256, 28, 5),
        (153_776, 2_402, 28, 5),
        (5_000_000, 8_192, 3, 3),
        (100_000_000, 8_192, 3, 3),
    ],
)
def test_an_epoch_has_64_steps_and_a_training_about_1800_within_limits(events, tokens, epochs, patience):
    found = Recipe.of(Config(), events, 10_000, 6.0)
    assert (found.tokens, found.epochs, found.patience) == (tokens, epochs, patience)


@pytest.mark.parametrize(
    ("items", "typical", "dropout", "horizon"),
    [(10_000, 0.0, 0.5, 5), (10_000, 6.0, 0.5, 5), (10_000, 20.0, 0.5, 1), (2_000, 6.0, 0.2, 5), (0, 0.0, 0.2, 5)],
)
def test_rare_items_need_more_dropout_and_short_histories_more_targets(items, typical, dropout, horizon):
    found = Recipe.of(Config(), 100_000, items, typical)
    assert (found.dropout, found.horizon) == (dropout, horizon)


def test_where_items_are_taken_again_only_the_next_basket_is_predicted():
    assert Recipe.of(parse({"candidates": {"exclude_seen": False}}, "test"), 100_000, 10_000, 6.0).horizon == 1


def test_given_settings_are_kept():
    given = {"tokens": 64, "epochs": 2, "patience": 1, "horizon": 3}
    found = Recipe.of(parse({"train": given, "model": {"dropout": 0.0}}, "test"), 100_000, 10_000, 6.0)
    assert found == Recipe(dropout=0.0, **given)


def test_the_typical_user_is_the_median_of_those_with_two_events_or_more():
    long, short = [(t, 1) for t in range(60)], [(0, 1)]
    assert Recipe.for_histories(Config(), histories_of(short, short, short, short, long)).horizon == 1
    assert Recipe.for_histories(Config(), histories_of(long[:2], long[:2], long)).horizon == 5
    assert Recipe.for_histories(Config(), histories_of(long)).dropout == 0.2
    assert Recipe.for_histories(Config(), histories_of([(t, t) for t in range(1, 60)])).dropout == 0.5
    assert Recipe.for_histories(Config(), histories_of(short)).horizon == 5


def test_the_recipe_in_words():
    assert str(Recipe.of(Config(), 153_776, 12_101, 6.0)) == (
        "28 epochs at most, fewer if 5 in a row bring nothing; 2,402 events a step; dropout 0.5; the next 5 baskets "
        "predicted"
    )
    assert str(Recipe.of(Config(), 1_000_000, 3_416, 96.0)).endswith("dropout 0.2; the next basket predicted")


@pytest.mark.parametrize(
    ("given", "depth", "parent", "levels"),
    [
        (None, 0, None, ()),
        (None, 3, None, (1, 2, 3)),
        (None, 9, None, (1, 2, 3, 4)),
        (None, 9, (1, 2), (1, 2)),  # a deeper path changes nothing
        (None, 1, (1, 2), (1, 2)),
        (None, 2, (), (1, 2)),  # a catalogue that came later is used
        (None, 0, (1, 2), ()),
        ((), 3, (1, 2), ()),
        ((2,), 3, (1, 2), (2,)),
    ],
)
def test_levels_of_categories(given, depth, parent, levels):
    settings = ModelConfig(category_levels=given)
    before = None if parent is None else ModelConfig(category_levels=parent)
    assert with_levels(settings, depth, before).category_levels == levels


def test_levels_that_no_path_has_are_refused():
    with pytest.raises(InputError, match=r"\[1, 4\], but the deepest category path of the catalogue has 3 levels"):
        with_levels(ModelConfig(category_levels=(1, 4)), 3)
