"""The page of all nights, from the documents that nights have left."""

from __future__ import annotations

from datetime import date, timedelta

from hmamba.contracts.published import PublishMetrics
from hmamba.contracts.step import StepFailure
from hmamba.contracts.steps import SnapshotMetrics
from hmamba.contracts.verdict import Interval
from hmamba.report.history import nights
from hmamba.report.render import write_report
from hmamba.report.trend import write_trend
from hmamba.storage.base import write_text
from hmamba.storage.layout import Layout
from tests.jobs.commands.call import call
from tests.report.metrics_of_night import (
    CHAMPION,
    DAY,
    RUN,
    VERSION,
    baseline_verdict,
    compared,
    gate_metrics,
    index_metrics,
    ingest_metrics,
    train_metrics,
    verdict,
)
from tests.report.page import Page

BEFORE = DAY - timedelta(days=1)


def write_documents(layout: Layout, day: date, run_id: str = RUN, scale: float = 1.0, **changes: object) -> None:
    """The documents of a night that has published, as its steps leave them."""
    run = layout.run(day, run_id)
    intervals = {"challenger": Interval(low=0.15 * scale, high=0.2 * scale)}
    judged = verdict(day=day, intervals=intervals, **changes)
    judged.write(run.verdict)
    totals = {"users": 40, "rows": 400, "k": 10, "files": 2, "changed": True, "warning": None, "distinct_items": 60}
    for step in (
        ingest_metrics(day=day),
        SnapshotMetrics(day=day, users=40, events=1, items=1, shards=0, newest_event=None, digest="0", seconds=1.0),
        train_metrics(day=day),
        gate_metrics(judged),
        index_metrics(60, 10, day=day),
        PublishMetrics(day=day, model_version=VERSION, **totals),
    ):
        step.write(run.step_metrics(step.step))


def page_of(layout: Layout) -> Page:
    return Page(write_trend(layout).read_text(encoding="utf-8"))


def test_a_night_is_a_row_with_the_figures_of_its_documents(layout: Layout) -> None:
    write_documents(layout, DAY)
    page = page_of(layout)
    assert (
        "2024-01-30 new model promoted +0.0160 against champion (+0.0020 to +0.0310): better NDCG@10 0.1760 0.1500 to "
        "0.2000 1.22 40 400 "
    ) in page.text
    assert (
        "2024-01-30: new model promoted NDCG@10 0.1760, 1.22 times the best baseline. 40 users with 400 rows."
        in page.text
    )
    assert "This is the first night: there is nothing to compare it with yet." in page.text
    assert page.links == []


def test_the_report_step_writes_it_with_links_to_reports_that_exist(copied: Layout) -> None:
    write_documents(copied, BEFORE)
    write_report(copied, DAY, RUN)
    page = Page(copied.all_reports.read_text(encoding="utf-8"))
    assert set(page.links) == {"2024-01-30/index.html"}
    assert page.text.index("2024-01-30 new model") < page.text.index("2024-01-29 new model")
    assert "This is the first night" not in page.text
    for link in page.links:
        assert (copied.reports / link).is_file()
    assert [path.name for path in copied.reports.iterdir() if not path.name.startswith(".")] == [str(DAY), "index.html"]


def test_the_plots_are_read_aloud(layout: Layout) -> None:
    write_documents(layout, BEFORE, scale=0.9, metrics={"challenger": {"ndcg@10": 0.1}, "popularity": {"ndcg@10": 0.2}})
    write_documents(layout, DAY)
    labels = page_of(layout).labels
    told = next(label for label in labels if label.startswith("NDCG@10, 2024-01-29 to 2024-01-30"))
    assert "what served, with 95 % interval from 0.1000 to 0.1760" in told
    assert "popularity from 0.2000 to 0.0800" in told
    ratio = next(label for label in labels if "times that of the best baseline" in label)
    assert "ratio from 0.50 to 1.22, between 0.50 and 1.22" in ratio
    assert {label.partition(",")[0] for label in labels} >= {"users with recommendations", "rows published"}


def test_failed_refused_baseline_and_rolled_back_nights_are_told_apart(layout: Layout) -> None:
    days = [DAY + timedelta(days=number) for number in range(5)]
    for day in days:
        write_documents(layout, day)
    layout.run(days[1], RUN).step_metrics("publish").unlink()
    failure = StepFailure(step="publish", shard=None, message="<b>no space</b>", exit_status=1, seconds=1.0)
    failure.write(layout.run(days[1], RUN).step_failure("publish"))
    baseline_verdict(day=days[2]).write(layout.run(days[2], RUN).verdict)
    verdict(day=days[3], serving=CHAMPION, promoted=False).write(layout.run(days[3], RUN).verdict)
    aside = layout.rolled_back / "runs" / str(days[4])
    aside.parent.mkdir(parents=True)
    (layout.runs / str(days[4])).rename(aside)
    page = page_of(layout)
    for day, words in zip(
        days,
        ("new model promoted", "failed", "baseline published", "model kept", "new model promoted, rolled back"),
        strict=True,
    ):
        assert f"{day} {words}" in page.text
    assert page.tags["b"] == 0


def test_of_several_runs_of_a_day_the_published_one_is_shown(layout: Layout) -> None:
    write_documents(layout, DAY, "first")
    write_documents(layout, DAY, "second", serving=CHAMPION, promoted=False)
    text = page_of(layout).text
    assert "2024-01-30 1 other run model kept" in text


def test_a_change_of_the_metric_is_not_drawn_as_a_trend(layout: Layout) -> None:
    write_documents(layout, BEFORE, metric="hr@10", comparisons=[compared("challenger", "champion", 0.1, 0.0, 0.2)])
    write_documents(layout, DAY)
    told = next(label for label in page_of(layout).labels if label.startswith("NDCG@10,"))
    assert "from 0.1760 to 0.1760" in told


def test_a_root_without_nights_has_a_page(layout: Layout) -> None:
    assert "There has been no night yet" in page_of(layout).text


def test_a_damaged_document_leaves_a_row(layout: Layout) -> None:
    write_documents(layout, DAY)
    layout.run(DAY, RUN).verdict.write_text("{")
    assert "2024-01-30 unknown" in page_of(layout).text


def test_the_ratio_needs_a_value_and_a_baseline(layout: Layout) -> None:
    write_documents(layout, DAY, metrics={"challenger": {"ndcg@10": 0.2}, "popularity": {"ndcg@10": 0.0}})
    (night,) = nights(layout)
    assert (night.value, night.interval, night.baselines, night.ratio) == (0.2, (0.15, 0.2), {"popularity": 0.0}, None)


def test_a_pruned_report_is_not_linked(layout: Layout) -> None:
    for day in (BEFORE, DAY):
        write_documents(layout, day)
        write_text(layout.storage, layout.report(day), "a report")
    assert page_of(layout).links == [f"{day}/index.html" for day in (DAY, DAY, BEFORE)]
    layout.config.write_text("[keep]\nreports = 1\n")
    assert call("prune", "--root", str(layout.root)) == 0
    links = Page(layout.all_reports.read_text(encoding="utf-8")).links
    assert set(links) == {f"{DAY}/index.html"}
    assert not layout.report(BEFORE).exists()
