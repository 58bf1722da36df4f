from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hmamba.contracts.guards import GuardResult
from hmamba.contracts.scored import ScoreMetrics
from hmamba.report.drift import shift_of
from hmamba.report.gather import Night, gather
from hmamba.report.summary import summarise
from hmamba.storage.layout import Layout
from tests.documents import shard_metrics
from tests.report.metrics_of_night import (
    CHAMPION,
    DAY,
    RUN,
    VERSION,
    baseline_verdict,
    compared,
    index_metrics,
    ingest_metrics,
    nothing_trained,
    record,
    verdict,
)


@pytest.fixture(scope="module")
def night(night_layout: Layout) -> Night:
    return gather(night_layout, DAY, RUN)


def with_steps(night: Night, **metrics: Any) -> Night:
    """The night with some steps' metrics replaced, or taken away by None."""
    return replace(night, steps=replace(night.steps, **metrics))


def test_a_promotion_says_by_how_much(night: Night) -> None:
    found = summarise(night)
    assert (found.tone, found.headline) == ("good", "The new model was promoted")
    text = " ".join(found.sentences)
    assert "1,000 rows read from 1 file: 990 loaded, 7 duplicate, 3 refused; 4 new items." in text
    assert (
        f"Model {VERSION} now serves: NDCG@10 0.1760 against 0.1600 of the champion (+10.0\u00a0%; difference +0.0160, "
        "95\u00a0% interval +0.0020 to +0.0310: better)."
    ) in text
    assert "Published: 400 rows for 40 users, at most 10 each." in text
    assert found.alerts == ["3 rows refused and kept in quarantine; the rules are listed below."]


def test_a_first_model_is_compared_with_the_better_baseline(night: Night) -> None:
    compared_to = [
        compared("challenger", "popularity", 0.096, 0.071, 0.12),
        compared("challenger", "most_bought", 0.032, 0.01, 0.05),
    ]
    found = summarise(
        replace(night, verdict=baseline_verdict(serving=VERSION, promoted=True, warning=None, comparisons=compared_to))
    )
    assert (found.tone, found.headline) == ("good", "The first model was promoted")
    assert "against 0.1440 of what each user had most (+22.2\u00a0%; difference +0.0320" in " ".join(found.sentences)


def test_a_refused_model_is_an_alert_with_the_reason(night: Night) -> None:
    judged = verdict(promoted=False, serving=CHAMPION, reason="worse by 9 %, more than the tolerance of 2 %.")
    found = summarise(replace(night, verdict=judged))
    assert (found.tone, found.headline) == ("warn", "The new model was not promoted")
    assert f"{CHAMPION} serves." in " ".join(found.sentences)
    assert "The gate refused the new model (worse by 9 %, more than the tolerance of 2 %)." in found.alerts


@pytest.mark.parametrize("promoted", [True, False])
def test_a_baseline_shown_ahead_of_what_serves_is_an_alert(night: Night, promoted: bool) -> None:
    role = "challenger" if promoted else "champion"
    worse = [compared(role, "most_bought", -0.02, -0.03, -0.01), compared(role, "popularity", -0.01, -0.03, 0.01)]
    judged = verdict(promoted=promoted, serving=VERSION if promoted else CHAMPION, comparisons=worse)
    found = summarise(replace(night, verdict=judged))
    assert found.tone == "warn"
    assert [alert for alert in found.alerts if "baseline" in alert] == [
        "A baseline is ahead of the model that serves: against what each user had most, the model's NDCG@10 differs by "
        "\u22120.0200, 95\u00a0% interval \u22120.0300 to \u22120.0100."
    ]


def test_an_old_night_again_leaves_newer_ones_their_champion(night: Night) -> None:
    reason = "ndcg@10 0.1760 against the champion's 0.1600; a later night has promoted a model since"
    found = summarise(replace(night, verdict=verdict(promoted=False, reason=reason)))
    assert found.headline == "An earlier night run again: its model serves that night only"
    assert f"Newer nights keep their champion ({reason})." in found.alerts
    assert f"Model {VERSION} passed the gate: NDCG@10 0.1760 against 0.1600 of the champion" in " ".join(
        found.sentences
    )


def test_a_quiet_night_is_calm(night: Night) -> None:
    quiet = with_steps(
        night,
        ingest=ingest_metrics(rows_read=0, rows_loaded=0, rows_quarantined=0),
        train=nothing_trained("no new events"),
    )
    quiet = replace(
        quiet, verdict=verdict(challenger=None, promoted=False, serving=CHAMPION, metrics={}, comparisons=[])
    )
    found = summarise(quiet)
    assert (found.tone, found.alerts) == ("calm", [])
    assert found.sentences[:2] == [
        "No new rows.",
        f"No new model was trained (no new events); {CHAMPION} serves.",
    ]


def test_rows_that_teach_nothing_are_no_quiet_night(night: Night) -> None:
    stuck = with_steps(night, train=nothing_trained("no item has 5 events"))
    judged = verdict(challenger=None, promoted=False, serving=CHAMPION, metrics={}, comparisons=[])
    found = summarise(replace(stuck, verdict=judged))
    assert found.headline == "Nothing could be trained: the champion continues to serve"
    assert "New rows came in, but no model was trained on them (no item has 5 events)." in found.alerts


@pytest.mark.parametrize(("name", "shown"), [("most_bought", "what each user had most"), ("popularity", "popularity")])
def test_a_baseline_night_says_so_first(night: Night, name: str, shown: str) -> None:
    found = summarise(replace(night, verdict=baseline_verdict(serving=f"baseline-{name}")))
    assert (found.tone, found.headline) == ("warn", f"No model serves yet: {shown} is published")
    assert found.alerts[0].startswith("No model serves: the table ranks items by what each user had most (a baseline)")
    assert "NDCG@10 0.1760 against 0.1440." in found.alerts[0]
    assert f"Model {VERSION} was trained and kept aside: NDCG@10 0.1760 against 0.1440" in " ".join(found.sentences)


def test_a_first_night_without_training_says_why(night: Night) -> None:
    bare = with_steps(night, train=nothing_trained("no item has 5 events"))
    judged = baseline_verdict(challenger=None, metrics={}, comparisons=[])
    assert "No model was trained (no item has 5 events)." in summarise(replace(bare, verdict=judged)).sentences


def test_what_ingest_warns_of_is_an_alert_once(night: Night) -> None:
    warnings = ["The newest event is 5 days old.", "The catalogue names no item."]
    ingest = ingest_metrics(warnings=warnings, catalogue_warning=warnings[1], rows_left=1)
    alerts = summarise(with_steps(night, ingest=ingest)).alerts
    assert alerts[1:] == [*warnings, "1 row is of days after 2024-01-30: left in their files for a later night."]


def test_late_rows_and_fallback_users_are_alerts(night: Night) -> None:
    assert night.steps.publish is not None
    publish, score = night.steps.publish.model_copy(update={"changed": False}), ScoreMetrics.of([shard_metrics(0, 1)])
    found = summarise(with_steps(night, ingest=ingest_metrics(rows_late=5), publish=publish, score=score))
    assert any("5 rows came more than warehouse.overlap_days late" in alert for alert in found.alerts)
    assert any("1 user without usable history" in alert for alert in found.alerts)
    assert "the same as already published" in " ".join(found.sentences)


def test_a_search_that_needed_double_precision_is_an_alert(night: Night) -> None:
    index = index_metrics(60, 10, kind="float64", float32_recall=0.9712)
    alerts = summarise(with_steps(night, index=index)).alerts
    assert any("found only 97.12\u00a0% of each user's best items" in alert for alert in alerts)
    assert not any("precision" in alert for alert in summarise(night).alerts)


def test_strong_drift_of_items_is_an_alert_and_that_of_histories_is_not(night: Night) -> None:
    assert night.drift is not None
    shifts = (shift_of("items", [("a", 900, 100), ("b", 100, 900)]), shift_of("histories", [("1", 9, 1), ("2", 1, 9)]))
    alerts = summarise(replace(night, drift=replace(night.drift, shifts=shifts))).alerts
    assert [alert for alert in alerts if "drift" in alert] == [
        "Strong drift of the items: the Population Stability Index of the last 7 days is 3.50 (see Data in)."
    ]


def test_what_a_snapshot_with_more_shards_left_is_not_counted(copied: Layout) -> None:
    before = gather(copied, DAY, RUN)
    record(copied, shard_metrics(2, 9, users=9, rows=90))
    folder = copied.run(DAY, RUN).candidates
    (folder / "part-0002.parquet").write_bytes((folder / "part-0001.parquet").read_bytes())
    assert gather(copied, DAY, RUN).steps == before.steps
    assert gather(copied, DAY, RUN).candidates == before.candidates
    (folder / "part-0001.parquet").unlink()
    copied.run(DAY, RUN).step_metrics("score", 1).unlink()
    found = gather(copied, DAY, RUN)
    assert found.steps.score is not None
    assert found.steps.score.users == 20
    assert found.candidates is not None
    assert found.candidates.users == 20


def test_shards_add_up(copied: Layout) -> None:
    record(copied, shard_metrics(0, 2), shard_metrics(1, 2))
    found = gather(copied, DAY, RUN)
    assert found.steps.score is not None
    assert (found.steps.score.users, found.steps.score.fallback_users, found.steps.score.rows) == (40, 4, 400)
    assert any("4 users without usable history" in alert for alert in summarise(found).alerts)


def test_a_guard_that_warned_is_an_alert(night: Night) -> None:
    passed = GuardResult(value=0.1, warn=0.4, stop=None, outcome="passed", detail="Few items are new.")
    warned = passed.model_copy(update={"value": 0.5, "outcome": "warned", "detail": "Half of the items are new."})
    publish = night.steps.publish
    assert publish is not None
    guarded = publish.model_copy(update={"guards": {"users_lost": passed, "churn": warned}})
    found = summarise(with_steps(night, publish=guarded))
    assert found.tone == "warn"
    assert "Half of the items are new." in found.alerts
    assert "Few items are new." not in found.alerts
