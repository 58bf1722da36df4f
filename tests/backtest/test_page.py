"""The results of a backtest as Markdown and as a page."""

from __future__ import annotations

from datetime import date

import numpy as np

from hmamba.backtest.page import Findings, markdown, page
from hmamba.contracts.backtest import BacktestNight, SystemMetrics
from jobs.backtest import FINE_TUNED, FULL


def test_nights_are_pooled_over_their_users() -> None:
    def night(day: int, values: dict[str, list[float]]) -> BacktestNight:
        means = {name: {"ndcg@10": float(np.mean(of))} for name, of in values.items()}
        measured = {name: SystemMetrics(means=means[name], deciding=tuple(of)) for name, of in values.items()}
        user_ids = tuple(f"user {number}" for number in range(len(values["popularity"])))
        return BacktestNight(day=date(2024, 1, day), user_ids=user_ids, queries=9, serving={}, measured=measured)

    usual = f"{FINE_TUNED}, recounted"
    nights = [
        night(1, {"popularity": [0.0, 0.0, 0.0], usual: [0.2, 0.4, 0.3]}),
        BacktestNight(day=date(2024, 1, 2), user_ids=(), queries=0, serving={}, measured={}),
        night(3, {"popularity": [1.0], usual: [0.1]}),
        night(4, {"popularity": [0.25, 0.25]}),  # nothing served
    ]
    found = Findings.of(nights, (FINE_TUNED, FULL), "ndcg@10", 100)
    assert found.means["popularity"]["ndcg@10"] == 0.25
    assert found.means[usual]["ndcg@10"] == 0.25
    (compared,) = found.comparisons
    assert (compared.one, compared.other, compared.users, compared.difference) == (usual, "popularity", 3, 0)
    assert found.users == (3, 6)
    text = markdown(found)
    assert "2024-01-02 | 0 |" in text
    assert "4 nights, 2024-01-01 to 2024-01-04; 3 users evaluated, 6 times in total." in text
    assert f"| {usual} against popularity | 0.0000 (0.0\N{NO-BREAK SPACE}%) |" in text
    shown = page(found, "A <title>")
    assert "A &lt;title&gt;" in shown
    assert "NDCG@10 by night" in shown
    assert f'<th class="n">{usual}</th>' in shown
    assert "3 users, evaluated 6 times in 4 nights" in shown


def test_one_night_and_a_relative_difference_without_meaning_are_written_plainly() -> None:
    usual = f"{FINE_TUNED}, recounted"
    values = {"popularity": 0.001, usual: 0.4}
    measured = {name: SystemMetrics(means={"ndcg@10": value}, deciding=(value,)) for name, value in values.items()}
    night = BacktestNight(day=date(2024, 1, 1), user_ids=("user",), queries=1, serving={}, measured=measured)
    found = Findings.of([night], (FINE_TUNED,), "ndcg@10", 100)
    text = markdown(found)
    assert text.startswith("1 night, 2024-01-01 to 2024-01-01; 1 user evaluated, 1 time in total.")
    assert f"| {usual} against popularity | +0.3990 | " in text
    assert "1 user, evaluated 1 time in 1 night;" in page(found, "title")
