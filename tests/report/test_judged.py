from __future__ import annotations

from typing import Any

import pytest

from hmamba.report.judged import depth_of_candidates, judged_on, rare_items
from hmamba.text import relative, signed
from tests.report.metrics_of_night import CHAMPION, verdict


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [
        (1.1, 1.0, "+10.0\u00a0%"),
        (0.5, 1.0, "\u221250.0\u00a0%"),
        (1.0, 1.0, "0.0\u00a0%"),
        (0.99999, 1.0, "0.0\u00a0%"),
        (0.4, 0.1, "+300.0\u00a0%"),
        (0.5, 0.1, ""),  # several times as large
        (0.001, 0.0009, ""),  # relative to next to nothing
        (1.0, 0.0, ""),
    ],
)
def test_a_percentage_is_shown_where_it_means_something(value: float, reference: float, expected: str) -> None:
    assert relative(value, reference) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.016, "+0.0160"),
        (-0.016, "\u22120.0160"),
        (0.00001, "+0.000010"),
        (0.0, "0.0000"),
        (-0.0, "0.0000"),
        (-1e-9, "0.0000"),
    ],
)
def test_a_difference_has_a_sign_unless_it_is_nothing(value: float, expected: str) -> None:
    assert signed(value) == expected


def test_the_last_baskets_are_told_with_and_without_days() -> None:
    why = "events have an order and no times: each user's last basket is held out"
    ordered = verdict(split="last", holdout_from=None, holdout_to=None, split_why=why, users=1, queries=1)
    told = judged_on(ordered)
    assert told[0] == "Evaluated on 1 user with 1 query: each user's last basket, held out of training."
    assert told[-1] == f"How the events were split: {why}."
    timed = judged_on(verdict(split="last", holdout_from="2024-01-02"))
    assert "each user's last basket, from 2024-01-02 to 2024-01-30, held out" in timed[0]


def test_nobody_to_judge_on_says_why() -> None:
    told = judged_on(verdict(users=0, queries=0, holdout_from=None, holdout_to=None, split_why="too few users"))
    assert told == ["No user could be evaluated.", "How the events were split: too few users."]


@pytest.mark.parametrize(
    ("serving", "share"),
    [
        ({}, "44.0"),
        ({"serving": CHAMPION, "promoted": False}, "40.0"),
        ({"serving": "baseline-most_bought"}, "36.0"),
        ({"serving": None}, None),
        ({"metrics": {}, "users": 0}, None),
        ({"k": None}, None),
    ],
)
def test_the_depth_is_that_of_what_serves(serving: dict[str, Any], share: str | None) -> None:
    told = depth_of_candidates(verdict(**serving))
    assert (f" {share}\u00a0% were among their first 100, " in told) if share else not told


def test_new_and_rare_items_are_those_of_what_serves_or_none() -> None:
    assert "what serves has NDCG@10 0.0100 and HR@100 0.0500." in rare_items(verdict(serving=CHAMPION))
    nothing = {"most_events": 5, "answers": 0, "users": 0, "metrics": {}}
    assert rare_items(verdict(rare=nothing)) == (
        "New and rare items: none of the items that users went on to take had 0 to 5 events before the held-out part."
    )
    groups = [
        {"least_events": least, "most_events": most, "answers": answers, "users": 2, "metrics": {"champion": found}}
        for least, most, answers, found in ((0, 0, 1, {"hr@100": 0.25}), (1, 5, 6, {"hr@100": 0.5}))
    ]
    apart = " Apart: 1 item with no event: HR@100 0.2500; 6 items with 1 to 5 events: HR@100 0.5000. No decision"
    assert apart in rare_items(verdict(serving=CHAMPION, rare_groups=groups))
    assert rare_items(verdict(rare=None)) == ""
    assert rare_items(verdict(serving=None)) == ""
