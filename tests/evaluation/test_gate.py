"""The gate's decisions, and which queries it drops."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from hmamba.config import parse
from hmamba.errors import QualityError
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.gate import (
    RARE_EVENTS,
    Measured,
    RareQueries,
    best_baseline,
    decide,
    depth,
    is_baseline,
    measure,
    measure_baselines,
    measure_model,
    measure_rare,
    unseen_from,
)
from hmamba.evaluation.ranking import rank_all
from hmamba.evaluation.split import DAYS, LAST
from hmamba.models.files import Provenance
from tests.histories import START, histories_of, random_histories
from tests.stored import ITEMS, stored_model

DAY = 86_400_000_000
USERS = 300


def configured(*, exclude_seen=True, k=100, **gate):
    return parse({"gate": gate, "candidates": {"exclude_seen": exclude_seen, "k": k}}, "test")


def measured(**means):
    """Contestants with these means. Users differ from each other, and a little in how they differ."""
    users = np.random.default_rng(0).permutation(np.linspace(-0.05, 0.05, USERS))
    noise = np.random.default_rng(1)
    values = {name: mean + users + noise.permutation(np.linspace(-0.02, 0.02, USERS)) for name, mean in means.items()}
    return {name: Measured({"ndcg@10": round(float(value.mean()), 6)}, value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("mine", "theirs", "popular", "promoted", "reason"),
    [
        (0.30, 0.20, 0.1, True, "the new model is better than the champion: ndcg@10 0.3000 against the champion's 0.2"),
        (0.197, 0.20, 0.1, True, "the new model is worse than the champion, within the tolerance of 2 %: ndcg@10 0.19"),
        (0.195, 0.20, 0.1, False, "the new model is worse than the champion by more than 2 %: ndcg@10 0.1950 against"),
        (
            0.20,
            0.20,
            0.1,
            True,
            "the new model and the champion cannot be told apart, and the newer one is preferred: ",
        ),
        (0.20, 0.20, 0.4, False, "the new model is worse than popularity: ndcg@10 -0.2000, 95 % interval -0.20"),
        (0.30, 0.20, 0.4, True, "the new model is better than the champion"),  # although both are worse than popularity
        (0.20, 0.20, 0.2, True, "cannot be told apart"),
    ],
)
def test_a_challenger_serves_unless_it_is_significantly_worse(mine, theirs, popular, promoted, reason):
    found = measured(challenger=mine, champion=theirs, popularity=popular)
    decision, compared = decide("new", "old", found, configured())
    assert (decision.serving, decision.promoted, decision.warning) == ("new" if promoted else "old", promoted, None)
    assert reason in decision.reason
    assert [(entry.one, entry.other) for entry in compared] == [
        ("challenger", "champion"),
        ("challenger", "popularity"),
        ("champion", "popularity"),
    ]


def test_an_insignificant_difference_beyond_the_tolerance_does_not_stop_a_challenger():
    theirs = np.full(20, 0.5)
    mine = theirs - 0.06 + np.linspace(-0.5, 0.5, 20)
    assert mine.mean() < 0.9 * theirs.mean()
    found = {
        "challenger": Measured({"ndcg@10": mine.mean()}, mine),
        "champion": Measured({"ndcg@10": theirs.mean()}, theirs),
        "popularity": Measured({"ndcg@10": 0.0}, np.zeros(20)),
    }
    decision, compared = decide("new", "old", found, configured())
    assert compared[0].says == "cannot be told"
    assert decision.promoted


@pytest.mark.parametrize(("tolerance", "promoted"), [(0.05, True), (0.01, False)])
def test_the_tolerance_is_configured(tolerance, promoted):
    found = measured(challenger=0.195, champion=0.2, popularity=0.1)
    assert decide("new", "old", found, configured(tolerance=tolerance))[0].promoted is promoted


def test_a_challenger_that_is_worse_by_the_very_tolerance_serves():
    found = measured(challenger=0.375, champion=0.5, popularity=0.1)
    decision, compared = decide("new", "old", found, configured(tolerance=0.25))
    assert (decision.promoted, compared[0].says) == (True, "worse")


def test_why_nothing_was_trained_is_part_of_the_reason():
    decision, _ = decide(None, None, {}, configured(), "two baskets are needed")
    assert decision.reason == "no model could be trained (two baskets are needed); popularity serves"


def test_the_metric_is_configured():
    ones = {name: Measured({"ndcg@10": 0.5, "hr@20": mean}, np.full(9, mean)) for name, mean in (("champion", 0.1),)}
    ones["challenger"] = Measured({"ndcg@10": 0.1, "hr@20": 0.5}, np.full(9, 0.5))
    ones["popularity"] = Measured({"ndcg@10": 0.1, "hr@20": 0.1}, np.full(9, 0.1))
    decision, compared = decide("new", "old", ones, configured(metric="hr@20"))
    assert decision.promoted
    assert {entry.metric for entry in compared} == {"hr@20"}


@pytest.mark.parametrize(
    ("challenger", "found", "reason"),
    [
        (None, {"champion": 0.2, "popularity": 0.1}, "no new model was trained; the champion continues to serve"),
        ("new", {}, "there are no users to judge the new model on; the champion continues to serve"),
        (None, {}, "no new model was trained; the champion continues to serve"),
    ],
)
def test_the_champion_continues_to_serve(challenger, found, reason):
    decision, _ = decide(challenger, "old", measured(**found), configured())
    assert (decision.serving, decision.promoted, decision.reason) == ("old", False, reason)


def test_a_first_model_that_is_significantly_better_serves():
    found = measured(challenger=0.3, popularity=0.1)
    decision, _ = decide("new", None, found, configured())
    assert (decision.serving, decision.promoted, decision.warning) == ("new", True, None)
    assert decision.reason.startswith("the first model is better than popularity: ndcg@10 0.3000 against 0.1000 (+0.2")
    assert decision.reason.endswith("300 users)")


@pytest.mark.parametrize(
    ("challenger", "found", "exclude_seen", "serving", "reason"),
    [
        ("new", {"challenger": 0.1, "popularity": 0.1}, True, "popularity", "the first model is not shown to be bet"),
        ("new", {"challenger": 0.1, "popularity": 0.3}, True, "popularity", "the first model is not shown to be bet"),
        (
            "new",
            {"challenger": 0.2, "popularity": 0.1, "most_bought": 0.2},
            False,
            "most_bought",
            "the first model is not shown to be better than what each user had most",
        ),
        (
            "new",
            {"challenger": 0.1, "popularity": 0.2, "most_bought": 0.1},
            False,
            "popularity",
            "the first model is not shown to be better than popularity",
        ),
        ("new", {}, True, "popularity", "there are no users to judge the first model on"),
        ("new", {}, False, "most_bought", "there are no users to judge the first model on"),
        (None, {"popularity": 0.1}, True, "popularity", "no model could be trained"),
        (None, {}, False, "most_bought", "no model could be trained"),
    ],
)
def test_without_a_better_model_a_baseline_serves_or_the_night_stops(challenger, found, exclude_seen, serving, reason):
    decision, _ = decide(challenger, None, measured(**found), configured(exclude_seen=exclude_seen))
    assert (decision.serving, decision.promoted) == (f"baseline-{serving}", False)
    assert is_baseline(decision.serving)
    assert decision.reason.startswith(reason)
    name = {"popularity": "popularity", "most_bought": "what each user had most"}[serving]
    assert decision.warning.startswith(f"No model serves: the table ranks items by {name} (a baseline), because")
    assert reason in decision.warning
    with pytest.raises(QualityError, match=rf"{reason}.*first_night = 'refuse': nothing is published"):
        decide(challenger, None, measured(**found), configured(exclude_seen=exclude_seen, first_night="refuse"))


def test_the_best_baseline():
    assert best_baseline(measured(popularity=0.1, most_bought=0.2, challenger=0.9), "ndcg@10") == "most_bought"
    assert best_baseline(measured(popularity=0.1), "ndcg@10") == "popularity"
    assert best_baseline({}, "ndcg@10") is None
    assert not is_baseline("20240101-abcdef12")


def queries_on(*days):
    """A query on each of these days."""
    return EvaluationSet.of(
        (histories := histories_of(*([(-1, 1), (day, 2)] for day in days))),
        histories.offsets[:-1],
        histories.offsets[1:],
        exclude_seen=False,
    )


@pytest.mark.parametrize(
    ("mode", "trained", "first", "name"),
    [
        (DAYS, {}, None, None),
        (DAYS, {"a": (5, DAYS), "b": (8, DAYS)}, None, None),
        (DAYS, {"a": (9, DAYS), "b": (6, DAYS)}, 9, "a"),
        (DAYS, {"a": (9, DAYS), "b": (10, DAYS)}, 10, "b"),
        (DAYS, {"a": (9, LAST), "b": (6, DAYS)}, 9, "a"),
        (LAST, {"a": (20, LAST), "b": (20, LAST)}, None, None),
        (LAST, {"a": (20, LAST), "b": (9, DAYS)}, 9, "b"),  # knows last baskets of before its cut
        (LAST, {"a": (20, LAST), "b": (8, DAYS)}, None, None),
    ],
)
def test_queries_are_after_the_training_events_of_all_contestants(mode, trained, first, name):
    known = {
        version: Provenance(date(2024, 1, 1), None, "s", START + day * DAY, "x", split)
        for version, (day, split) in trained.items()
    }
    since, why = unseen_from(queries_on(8, 8.5, 9.5), mode, known)
    if first is None:
        assert (since, why) == (None, None)
        return
    assert since == START + first * DAY
    day = f"2024-01-{first + 1:02d} 00:00"
    assert why == f"judged on events from {day} on, because {name} was trained on earlier ones"


def test_queries_before_the_end_of_training_are_dropped_and_no_queries_need_no_reason():
    known = {"a": Provenance(date(2024, 1, 1), None, "s", START + 12 * DAY, "x", DAYS)}
    evaluation_set = queries_on(8, 9)
    since, why = unseen_from(evaluation_set, DAYS, known)
    assert len(evaluation_set.since(since)) == 0
    assert "because a was trained" in why
    assert unseen_from(evaluation_set.since(since), DAYS, known) == (None, None)


def test_each_user_counts_once_in_the_metrics():
    """One user has ten queries with a miss, the others one with a hit."""
    histories = histories_of([(day, 1 if day else 2) for day in range(11)], [(0, 1), (1, 2)], [(0, 1), (1, 2)])
    evaluation_set = EvaluationSet.of(histories, histories.offsets[:-1], histories.offsets[1:], exclude_seen=False)
    counted = histories_of([(0, 2), (0, 2), (0, 1)])
    config = configured(exclude_seen=False, cutoffs=(1,), metric="hr@1")
    found = measure_baselines(counted.item_events(3), evaluation_set, config)
    assert set(found) == {"popularity", "most_bought"}
    assert found["popularity"].deciding.tolist() == [0, 1, 1]
    assert found["popularity"].means == {
        "hr@1": pytest.approx(2 / 3, abs=1e-6),
        "ndcg@1": pytest.approx(2 / 3, abs=1e-6),
        "mrr@1": pytest.approx(2 / 3, abs=1e-6),
        "recall@1": pytest.approx(2 / 3, abs=1e-6),
        "coverage@1": 0.5,
        "recall@100": 1.0,
    }
    assert set(measure_baselines(counted.item_events(3), evaluation_set, configured())) == {"popularity"}


def test_a_model_is_measured_on_items_that_it_does_not_know():
    stored, histories = stored_model(), random_histories(items=ITEMS + 5)
    evaluation_set = EvaluationSet.of(histories, histories.offsets[:-1], histories.offsets[1:], exclude_seen=True)
    found = measure_model(stored, evaluation_set, configured())
    assert len(found.deciding) == evaluation_set.judged
    assert found.means["ndcg@10"] == pytest.approx(found.deciding.mean(), abs=1e-6)
    assert list(found.means)[:5] == ["hr@10", "ndcg@10", "mrr@10", "recall@10", "coverage@10"]
    assert list(found.means)[-1] == "recall@100"


@pytest.mark.parametrize("k", [3, 30])
def test_recall_is_measured_among_all_candidates(k):
    """Against a ranking of the same model that is cut by hand, each user counted once."""
    stored, histories = stored_model(), random_histories(items=ITEMS)
    evaluation_set = EvaluationSet.of(histories, histories.offsets[:-1], histories.offsets[1:], exclude_seen=False)
    config = configured(exclude_seen=False, k=k, cutoffs=(5,), metric=f"recall@{k}")
    found = measure_model(stored, evaluation_set, config)
    ranked, _ = rank_all(stored.model, evaluation_set.past, stored.candidate_items, k=k, exclude_seen=False)
    wanted = [set(evaluation_set.items[evaluation_set.rows == row].tolist()) for row in range(len(evaluation_set))]
    shares = [len(own & set(row.tolist())) / len(own) for own, row in zip(wanted, ranked, strict=True)]
    by_user = evaluation_set.by_user(np.array(shares))
    assert 0 < by_user.mean() < 1
    assert found.deciding == pytest.approx(by_user)
    assert found.means[f"recall@{k}"] == pytest.approx(by_user.mean(), abs=1e-6)
    assert {name for name in found.means if name.endswith(f"@{k}")} == {f"recall@{k}"}


def test_new_and_rare_items_are_measured_on_their_own():
    """Items 1 and 2 are rare. One user takes neither, one both at once, one a rare and a frequent one."""
    histories = histories_of([(0, 9), (1, 3)], [(0, 9), (1, 1), (1, 2)], [(0, 9), (1, 2), (1, 3)])
    evaluation_set = EvaluationSet.of(histories, histories.offsets[:-1], histories.offsets[1:], exclude_seen=False)
    ranked = np.full((3, 12), 8)
    ranked[:, 0] = 3  # a hit that does not count, since item 3 is frequent
    ranked[1, 1], ranked[1, 11], ranked[2, 11] = 1, 2, 2
    events = np.array([0, RARE_EVENTS, 0, RARE_EVENTS + 1, 0, 0, 0, 0, 0, 50])
    rare = RareQueries.of(evaluation_set, events)
    assert (rare.evaluation_set.items.tolist(), rare.rows.tolist()) == ([1, 2, 2], [1, 2])
    config = configured(exclude_seen=False, k=12)
    assert measure_rare(ranked, rare, config) == {
        "ndcg@10": pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3)) / 2, abs=1e-6),
        "hr@12": 1.0,
    }
    assert measure_rare(ranked, rare, configured(exclude_seen=False, k=11))["hr@11"] == 0.5
    assert measure_rare(ranked, RareQueries.of(evaluation_set, events + 99), config) == {}
    counts, narrow = (
        histories.item_events(len(events)),
        configured(exclude_seen=False, k=5, cutoffs=(5,), metric="hr@5"),
    )
    assert set(measure_baselines(counts, evaluation_set, narrow, rare)["popularity"].rare) == {"ndcg@10", "hr@5"}
    assert depth(narrow) == 10  # NDCG@10 of rare items, although nothing else is measured there
    measured = measure_baselines(counts, evaluation_set, config, rare)
    assert {name: set(found.rare) for name, found in measured.items()} == {
        name: {"ndcg@10", "hr@12"} for name in ("popularity", "most_bought")
    }
    assert measure_baselines(counts, evaluation_set, config)["popularity"].rare == {}


def test_items_without_events_are_measured_apart_from_those_with_few():
    histories = histories_of([(0, 9), (1, 3)], [(0, 9), (1, 1), (1, 2)], [(0, 9), (1, 2), (1, 3)])
    evaluation_set = EvaluationSet.of(histories, histories.offsets[:-1], histories.offsets[1:], exclude_seen=False)
    events = np.array([0, RARE_EVENTS, 0, RARE_EVENTS + 1, 0, 0, 0, 0, 0, 50])
    none, few = RareQueries.of(evaluation_set, events).groups
    assert (none.events, none.evaluation_set.items.tolist(), none.rows.tolist()) == ((0, 0), [2, 2], [1, 2])
    assert (few.events, few.evaluation_set.items.tolist(), few.rows.tolist()) == ((1, RARE_EVENTS), [1], [1])
    config, ranked = configured(exclude_seen=False, k=12), np.full((3, 12), 8)
    ranked[1, 0], ranked[2, 0] = 1, 2
    rare = RareQueries.of(evaluation_set, events)
    measured = measure(ranked, evaluation_set, config, 10, rare)
    assert [group["hr@12"] for group in measured.rare_groups] == [0.5, 1.0]
    assert RareQueries.of(evaluation_set, events + 1).groups == ()
