"""Nights that did not get as far as to publish."""

from __future__ import annotations

from dataclasses import fields

import pytest

from hmamba.contracts.step import StepFailure
from hmamba.report.gather import Night, gather
from hmamba.report.stopped import Stop, failed_at, unfinished
from hmamba.report.summary import summarise
from hmamba.steps import PUBLISHING
from hmamba.storage.layout import Layout
from tests.documents import manifest
from tests.report.metrics_of_night import CHAMPION, DAY, RUN, VERSION, baseline_verdict, verdict
from tests.report.night import fail, publish
from tests.report.test_render import page_of

MESSAGE = "landing/interactions/a.csv has no column 'user'. Correct source.columns.user_id."


def gathered(layout: Layout) -> Night:
    return gather(layout, DAY, RUN)


@pytest.mark.parametrize("step", PUBLISHING)
def test_a_failed_step_is_named_and_what_came_after_it_is_left_out(copied: Layout, step: str) -> None:
    """All steps have metrics of an earlier try: those from the failed one on would belie the page."""
    fail(copied, step, MESSAGE, 2, shard=1 if step == "score" else None)
    night = gathered(copied)
    before = PUBLISHING[: PUBLISHING.index(step)]
    assert tuple(cost.name for cost in night.costs) == before
    assert tuple(step.name for step in fields(night.steps) if getattr(night.steps, step.name) is not None) == before
    assert (night.verdict is not None) == ("gate" in before)
    assert (night.disk is not None) == ("index" in before)
    assert (night.candidates is not None) == ("score" in before)
    page = page_of(copied)
    assert f"The night stopped at {step}: nothing was published" in page.text
    assert MESSAGE in page.text
    assert ("Candidates, not published" in page.headings) == (step == "publish")
    assert ("Verdict" in page.headings) == ("gate" in before)
    assert ("Training" in page.headings) == ("train" in before)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "failed; may succeed on retry"),
        (2, "a file or a setting must be fixed; a retry without that fails again"),
        (3, "data or candidates broke a rule; a retry without other data or settings fails again"),
        (137, "not a status of a step; the process may have been ended by a signal"),
    ],
)
def test_the_exit_status_is_told_in_words(copied: Layout, status: int, words: str) -> None:
    fail(copied, "train", MESSAGE, status)
    found = summarise(gathered(copied))
    assert found.tone == "bad"
    assert found.sentences[0] == f"The step train exited with {status} after 2.5 s: {words}."
    assert found.message == MESSAGE


def test_a_step_without_a_record_is_told_as_such(copied: Layout) -> None:
    copied.run(DAY, RUN).step_metrics("publish").unlink()
    copied.run(DAY, RUN).step_metrics("score", 1).unlink()
    found = summarise(gathered(copied))
    assert found.headline == "The night stopped at score: nothing was published"
    assert "left no record: it was not started, or it was killed" in found.sentences[0]


def test_readers_have_the_newest_published_day(copied: Layout) -> None:
    fail(copied, "snapshot", MESSAGE, 1)
    assert "Readers have nothing: no night has been published yet." in summarise(gathered(copied)).alerts
    manifest(day="2024-01-29", model_version=CHAMPION).write(copied.latest)
    told = f"Readers still have the table of 2024-01-29 (model_version {CHAMPION})."
    assert told in summarise(gathered(copied)).alerts


def test_a_day_that_was_published_before_is_told_with_its_run(copied: Layout) -> None:
    publish(copied)
    fail(copied, "ingest", MESSAGE, 3)
    alerts = summarise(gathered(copied)).alerts
    assert f"Readers still have the table of 2024-01-30 that run manual published (model_version {VERSION})." in alerts
    assert gathered(copied).candidates is None


def test_a_manifest_that_leads_nowhere_is_nothing(copied: Layout) -> None:
    fail(copied, "ingest", MESSAGE, 3)
    copied.latest.parent.mkdir()
    copied.latest.symlink_to("run_date=2024-01-29/_manifest.json")
    assert gathered(copied).readers is None


def test_a_gate_that_refuses_the_night_keeps_its_verdict(copied: Layout) -> None:
    refused = baseline_verdict(serving=None, comparisons=[], warning=None)
    refused.write(copied.run(DAY, RUN).verdict)
    fail(copied, "gate", "gate.first_night = 'refuse': nothing is published.", 3)
    page = page_of(copied)
    assert "Verdict" in page.headings
    assert "Evaluated on 31 users with 40 queries" in page.text
    assert "NDCG@10 decides 0.1760 0.1440 +22.2 %" in page.text


def test_a_verdict_of_an_earlier_try_is_not_shown(copied: Layout) -> None:
    verdict().write(copied.run(DAY, RUN).verdict)
    fail(copied, "gate", MESSAGE, 2)
    assert gathered(copied).verdict is None


def test_the_first_failure_counts_and_those_of_lost_shards_do_not() -> None:
    failures = [
        StepFailure(step="report", shard=None, message="a", exit_status=1, seconds=1.0),
        StepFailure(step="score", shard=7, message="b", exit_status=1, seconds=1.0),
        StepFailure(step="score", shard=1, message="c", exit_status=1, seconds=1.0),
        StepFailure(step="publish", shard=None, message="d", exit_status=3, seconds=1.0),
    ]
    assert failed_at(failures, shards=2) == Stop("score", failures[2])
    assert failed_at(failures[:2], shards=2) is None


def test_a_damaged_record_of_a_failure_is_named(copied: Layout) -> None:
    fail(copied, "publish", MESSAGE, 3)
    path = copied.run(DAY, RUN).step_failure("publish")
    path.write_text('{"schema_version": 1, "step": "publish"}', encoding="utf-8")
    copied.run(DAY, RUN).step_metrics("publish").unlink()
    night = gathered(copied)
    assert night.stopped == Stop("publish")
    assert [str(path) in fault for fault in night.unreadable] == [True]


def test_a_night_that_published_has_not_stopped() -> None:
    assert unfinished(["ingest", "publish"]) is None
    assert unfinished([]) == Stop("ingest")
    assert unfinished(["ingest", "train"]) == Stop("gate")
