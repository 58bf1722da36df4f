"""The weights and targets that are proposed for types of events, by their names."""

from __future__ import annotations

import pytest

from hmamba.survey.events import meanings


class TestMeanings:
    def test_a_shop(self) -> None:
        found = {name: meaning.type for name, meaning in meanings(["view", "add to cart", "purchase"]).items()}
        assert [(kind.weight, kind.target, kind.seen) for kind in found.values()] == [
            (0.2, False, False),
            (0.5, False, False),
            (1.0, True, True),
        ]

    def test_types_that_undo_events_weigh_nothing(self) -> None:
        found = meanings(["buy", "remove_from_cart", "refund"])
        assert [found[name].type.weight for name in ("buy", "remove_from_cart", "refund")] == [1.0, 0.0, 0.0]

    def test_without_purchases_the_strongest_type_is_the_target(self) -> None:
        for names, targets in (
            (["impression", "click"], ["click"]),
            (["pv", "fav"], ["fav"]),
            (["impression"], ["impression"]),
            (["checkout", "view"], ["checkout"]),
            (["shown", "viewed", "hover"], ["viewed"]),
        ):
            assert [name for name, meaning in meanings(names).items() if meaning.type.target] == targets

    def test_impressions_weigh_less_than_clicks(self) -> None:
        found = meanings(["purchase", "click", "product impression"])
        assert [meaning.type.weight for meaning in found.values()] == [1.0, 0.2, 0.1]

    def test_a_checkout_is_not_a_purchase(self) -> None:
        found = meanings(["checkout", "begin_checkout", "purchase"])
        assert [meaning.type.target for meaning in found.values()] == [False, False, True]

    @pytest.mark.parametrize("name", ["unlike", "unsubscribe", "unfollow"])
    def test_negated_words_weigh_nothing(self, name: str) -> None:
        assert meanings(["like", name])[name].type.weight == 0.0

    def test_no_types_have_no_meanings(self) -> None:
        assert meanings([]) == {}

    def test_an_unknown_type_is_marked(self) -> None:
        found = meanings(["purchase", "zx"])
        assert not found["zx"].type.target
        assert "check" in found["zx"].why
