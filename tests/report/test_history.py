"""The list of nights, from documents that are whole, damaged or gone."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime

import pytest

from hmamba.contracts.models import Promotions, Rollback
from hmamba.contracts.step import StepFailure
from hmamba.contracts.steps import ReportMetrics
from hmamba.report.history import Night, nights
from hmamba.storage.layout import Layout
from tests.documents import manifest
from tests.jobs.commands.call import call
from tests.report.metrics_of_night import DAY, RUN, VERSION, baseline_verdict, record, verdict
from tests.report.metrics_of_night import ingest_metrics as ingested
from tests.report.night import fail, make_baseline_night, publish


@pytest.fixture
def shop(copied: Layout) -> Layout:
    """A root with one night, published."""
    publish(copied)
    table = copied.published_manifest(DAY)
    copied.latest.rename(table)
    copied.storage.point(copied.latest, table)
    return copied


def only(layout: Layout) -> Night:
    (night,) = nights(layout)
    return night


def test_a_good_night_is_its_documents(shop: Layout) -> None:
    night = only(shop)
    assert (night.day, night.run_id, night.verdict, night.serving) == (DAY, RUN, "promoted", VERSION)
    assert (night.metric, night.value) == ("ndcg@10", pytest.approx(0.176))
    assert night.compared is not None
    assert (night.compared.other, night.compared.low, night.compared.high) == ("champion", 0.002, 0.031)
    assert (night.rows, night.users, night.problems) == (400, 40, ())
    assert night.seconds == pytest.approx(9.1 + 1.2 + 75.5 + 6.0 + 1.5 + 4.0 + 5.0 + 7.0)
    assert night.published_at is not None


def test_a_baseline_is_compared_with_the_best_one(shop: Layout) -> None:
    make_baseline_night(shop)
    night = only(shop)
    assert (night.verdict, night.serving, night.value) == ("baseline", "baseline-most_bought", pytest.approx(0.144))
    assert night.compared is not None
    assert (night.compared.one, night.compared.other) == ("challenger", "most_bought")


def test_a_champion_that_serves_on_shows_its_own_metric(shop: Layout) -> None:
    verdict(serving="20240129-old", promoted=False).write(shop.run(DAY, RUN).verdict)
    night = only(shop)
    assert (night.verdict, night.value) == ("not promoted", pytest.approx(0.16))


def test_a_refused_night_and_a_failed_one(shop: Layout) -> None:
    shutil.rmtree(shop.published(DAY))
    fail(shop, "score", "no space is left on the device", 1, shard=1)
    night = only(shop)
    assert (night.verdict, night.rows, night.users) == ("failed", None, None)
    assert night.reason == "score: no space is left on the device"
    fail(shop, "gate", "no model", 3)
    baseline_verdict(serving=None, reason="no model is better").write(shop.run(DAY, RUN).verdict)
    night = only(shop)
    assert (night.verdict, night.reason, night.serving) == ("refused", "no model is better", None)


def test_a_night_that_was_killed_says_before_which_step(shop: Layout) -> None:
    shutil.rmtree(shop.published(DAY))
    shop.run(DAY, RUN).step_metrics("publish").unlink()
    assert (only(shop).verdict, only(shop).reason) == ("failed", "stopped before publish")


def test_a_shard_that_was_not_scored_stops_a_night(shop: Layout) -> None:
    shutil.rmtree(shop.published(DAY))
    shop.run(DAY, RUN).step_metrics("score", 1).unlink()
    shop.run(DAY, RUN).step_metrics("publish").unlink()
    assert (only(shop).verdict, only(shop).reason) == ("failed", "stopped before score")


@pytest.mark.parametrize("name", ["verdict.json", "metrics/train.json", "metrics/score-0001.json"])
def test_a_damaged_document_is_named_on_the_line(shop: Layout, name: str) -> None:
    path = shop.run(DAY, RUN).folder / name
    path.write_text("{")
    night = only(shop)
    assert (night.day, night.run_id, night.rows) == (DAY, RUN, 400)
    assert [str(path) in problem for problem in night.problems] == [True]


def test_a_night_without_its_working_folder_is_a_line_that_says_so(shop: Layout) -> None:
    shutil.rmtree(shop.runs)
    night = only(shop)
    assert (night.verdict, night.rows, night.users, night.serving) == ("unknown", 400, 40, VERSION)
    assert night.problems == (f"{DAY} {RUN}: the working folder of the run has been deleted.",)
    shop.published_manifest(DAY).write_text("[]")
    night = only(shop)
    assert (night.day, night.rows) == (DAY, None)
    assert "_manifest.json is damaged" in night.problems[0]


def test_pulls_and_refreshes_are_not_nights(shop: Layout) -> None:
    day = date(2024, 2, 1)
    ingested(day=day).write(shop.run(day, "hourly").step_metrics("ingest"))
    assert [night.day for night in nights(shop)] == [DAY]
    failure = StepFailure(step="ingest", shard=None, message="empty", exit_status=2, seconds=0.1)
    failure.write(shop.run(day, "night").step_failure("ingest"))
    assert [(night.day, night.verdict, night.reason) for night in nights(shop)][1:] == [
        (day, "failed", "ingest: empty")
    ]


def test_the_published_run_of_a_day_comes_last(shop: Layout) -> None:
    for name in ("a", "z"):
        shutil.copytree(shop.run(DAY, RUN).folder, shop.run(DAY, name).folder)
    manifest(run_id="a", rows=7, users=3).write(shop.published_manifest(DAY))
    found = nights(shop)
    assert [night.run_id for night in found] == [RUN, "z", "a"]
    assert (found[-1].rows, found[-1].users) == (7, 3)


def test_on_the_command_line(shop: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    record(shop, ReportMetrics(day=DAY, path="reports/index.html", bytes=1))
    assert call("history", "--root", str(shop.root)) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["day", "verdict", "metric", "difference", "rows", "users", "time", "run"]
    assert line.split() == (
        f"{DAY} promoted NDCG@10 0.1760 +0.0160 (+0.0020 to +0.0310) against champion 400 40 109 s {RUN}".split()
    )
    shop.run(DAY, RUN).verdict.write_text("{")
    assert call("history", "--root", str(shop.root), "--json") == 0
    (night,) = json.loads(capsys.readouterr().out)["nights"]
    assert (night["day"], night["rows"], night["compared"]) == (str(DAY), 400, None)
    assert "verdict.json" in night["problems"][0]
    assert call("history", "--root", str(shop.root)) == 0
    assert "verdict.json" in capsys.readouterr().err


def test_a_rollback_of_nights_that_baselines_served_names_no_model(
    shop: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    back = Rollback(
        version=None,
        day=DAY,
        from_version=None,
        table=DAY,
        from_table=DAY,
        rolled_back_at=datetime(2024, 2, 3, tzinfo=UTC),
    )
    Promotions(version=None, history=(), rollbacks=(back,)).write(shop.champion)
    assert call("history", "--root", str(shop.root)) == 0
    *_, line = capsys.readouterr().out.splitlines()
    assert line.split() == f"{DAY} rollback to no model, table of {DAY} from no model at 2024-02-03 00:00".split()
