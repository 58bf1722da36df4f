"""The queries of a replayed night, and metrics and comparisons over several nights."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from hmamba.backtest.judge import contrast, evaluation_set_after, pooled
from hmamba.config import Config, parse
from hmamba.contracts.backtest import BacktestNight, SystemMetrics
from hmamba.evaluation.gate import measure_baselines
from hmamba.sequences.histories import midnight
from tests.histories import histories_of


def test_queries_are_after_the_night() -> None:
    truth = histories_of([(0, 1), (5, 2), (6, 3), (9, 4)], [(6, 5)], [(1, 1), (5, 2)])
    config: Config = parse({}, "test")
    evaluation_set = evaluation_set_after(truth, date(2024, 1, 6), date(2024, 1, 8), config)
    assert evaluation_set.items.tolist() == [3]  # a new user's first basket is not a query, day 9 is too late
    assert evaluation_set.past.items.tolist() == [1, 2]


def test_items_newer_than_the_night_are_accepted() -> None:
    truth = histories_of([(0, 1), (1, 2), (6, 9), (7, 1)], [(0, 2), (6, 8), (6.5, 2)])
    config: Config = parse({"candidates": {"exclude_seen": False}}, "test")
    evaluation_set = evaluation_set_after(truth, date(2024, 1, 3), date(2024, 1, 9), config)
    known = truth.between(None, midnight(date(2024, 1, 4)))
    measured = measure_baselines(known.item_events(int(truth.items.max()) + 1), evaluation_set, config)
    assert set(measured) == {"popularity", "most_bought"}
    assert measured["most_bought"].means["hr@10"] == 0.5  # of four answers two are new to everybody


def judged(day: int, users: list[str], **values: list[float]) -> BacktestNight:
    measured = {
        name: SystemMetrics(means={"ndcg@10": float(np.mean(of))}, deciding=tuple(of)) for name, of in values.items()
    }
    return BacktestNight(
        day=date(2024, 1, day), user_ids=tuple(users), queries=len(users), serving={}, measured=measured
    )


def test_each_user_of_each_night_counts_once() -> None:
    nights = [
        judged(1, ["a", "b", "c"], one=[0.0, 0.3, 0.6], other=[0.3, 0.3, 0.3]),
        judged(2, ["a"], one=[0.9]),  # the other system did not serve
        judged(3, ["d"], one=[0.1], other=[0.2]),
    ]
    assert pooled(nights, "one")["ndcg@10"] == pytest.approx((0.9 + 0.9 + 0.1) / 5)
    assert pooled(nights, "other")["ndcg@10"] == pytest.approx((0.9 + 0.2) / 4)
    found = contrast(nights, ("one", "other"), "ndcg@10")
    assert found is not None
    assert (found.one, found.other, found.users) == ("one", "other", 4)
    assert found.difference == pytest.approx((0.0 + 0.0 - 0.1) / 4, abs=1e-6)
    assert contrast(nights, ("one", "third"), "ndcg@10") is None


def test_a_user_of_several_nights_is_one_user() -> None:
    nights = [judged(day, ["a", "b"], one=[1.0, 0.0], other=[0.0, 0.0]) for day in (1, 2)]
    found = contrast(nights, ("one", "other"), "ndcg@10")
    assert found is not None
    assert (found.users, found.difference) == (2, 0.5)
