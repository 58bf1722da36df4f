"""The words for readers who do not know the metrics."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hmamba.contracts.verdict import GroupMetrics, Interval
from hmamba.report.gather import Night, gather
from hmamba.report.plainly import compared_with, groups, plainly
from hmamba.report.stopped import Stop
from hmamba.storage.layout import Layout
from tests.report.metrics_of_night import CHAMPION, DAY, RUN, baseline_verdict, compared, verdict


@pytest.fixture(scope="module")
def night(night_layout: Layout) -> Night:
    return gather(night_layout, DAY, RUN)


def said(night: Night, **changes: object) -> str:
    return " ".join(plainly(replace(night, verdict=verdict(**changes))))


def group(kind: str, least: int, most: int | None, says: str | None = "better") -> GroupMetrics:
    low, high = {"better": (0.01, 0.05), "worse": (-0.05, -0.01)}.get(says or "", (-0.02, 0.04))
    comparison = None if says is None else compared("challenger", "most_bought", (low + high) / 2, low, high)
    return GroupMetrics(
        kind=kind, least_events=least, most_events=most, users=7, answers=9,
        metrics={"challenger": 0.2, "most_bought": 0.17, "popularity": 0.1}, comparison=comparison,
    )  # fmt: skip


def test_a_difference_that_is_more_than_noise_and_one_that_may_be_noise(night: Night) -> None:
    text = said(night)
    assert "NDCG@10 decides. It says how far up among a user's first 10 recommendations" in text
    assert "The new model is better than the champion: the difference of +0.0160 is more than noise (95 %" in text
    assert (
        'What serves reaches 1.22 times the NDCG@10 of "what each user had most", the best rule that needs no model: '
        "the difference of +0.0320 may be noise (95 % interval \u22120.0040 to +0.0660). With 31 users, differences "
        "below about 0.0360 cannot be told from chance."
    ) in text
    assert "Of 100 users, 55 went on to take at least one of their first 10 recommendations." in text


def test_the_interval_of_what_serves_is_said(night: Night) -> None:
    intervals = {"champion": Interval(low=0.15, high=0.17), "challenger": Interval(low=0.1, high=0.2)}
    text = said(night, intervals=intervals, serving=CHAMPION, promoted=False)
    assert "What serves (champion) reaches 0.1600; with other users of the same kind" in text
    assert "between 0.1500 and 0.1700." in text


def test_no_ratio_is_made_of_next_to_nothing(night: Night) -> None:
    judged = verdict()
    judged.metrics["most_bought"]["ndcg@10"] = judged.metrics["popularity"]["ndcg@10"] = 0.0004
    text = " ".join(plainly(replace(night, verdict=judged)))
    assert 'What serves beside "' in text
    assert "times" not in text


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("hr@20", "the share of users who went on to take at least one of their first 20"),
        ("mrr@10", "how far up the first recommendation is"),
        ("recall@100", "the share of the items that users went on to take that were among their first 100"),
    ],
)
def test_every_metric_is_explained(night: Night, metric: str, words: str) -> None:
    assert words in said(night, metric=metric)


def test_a_baseline_that_serves_is_compared_with_the_new_model(night: Night) -> None:
    text = " ".join(plainly(replace(night, verdict=baseline_verdict())))
    assert "What serves (what each user had most) reaches 0.1440." in text
    assert 'The new model compared with "what each user had most", the best rule that needs no model:' in text


def test_a_night_without_figures_says_so(night: Night) -> None:
    (text,) = plainly(replace(night, verdict=verdict(users=0, queries=0, metrics={}, comparisons=[])))
    assert text.startswith("Nothing could be measured tonight")
    assert plainly(replace(night, verdict=None)) == []
    assert plainly(replace(night, stopped=Stop("publish"))) == []
    assert groups(replace(night, verdict=None)) == groups(night) == []


def test_groups_are_rows_under_headings(night: Night) -> None:
    found = (
        group("history", 1, 4),
        group("history", 100, None, "worse"),
        group("users", 0, 0, "cannot be told"),
        group("users", 1, None),
        group("items", 0, 0),
        group("items", 1, 3),
        group("items", 4, 9),
        group("items", 10, None, None),
    )
    judged = replace(night, verdict=verdict(groups=found))
    rows = dict(groups(judged))
    assert [(row.name, row.word) for row in rows["By length of the user's history"]] == [
        ("1 to 4 events", "better"),
        ("100 or more events", "worse"),
    ]
    assert [row.name for row in rows["New and known users"]] == [
        "new: no event before the held-out events",
        "known before the held-out events",
    ]
    items = rows["By popularity of the items that were taken"]
    assert [row.name for row in items] == [
        "new items: no event before",
        "rare: 1 to 3 events",
        "in between: 4 to 9 events",
        "popular: 10 or more events",
    ]
    assert (items[0].size, items[0].model, items[0].baseline) == ("7 users, 9 items", 0.2, 0.17)
    assert items[0].interval == "+0.0300 (+0.0100 to +0.0500)"
    assert (items[3].word, items[3].interval, items[3].baseline) == ("", "", None)
    assert compared_with(judged) == "NDCG@10 of the new model, beside what each user had most, the best baseline."
