from __future__ import annotations

import re
import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hmamba.config import ReportConfig
from hmamba.contracts import Manifest
from hmamba.contracts.manifest import SnapshotManifest
from hmamba.contracts.steps import IndexMetrics, ReportMetrics
from hmamba.report.render import write_report
from hmamba.storage.base import write_text
from hmamba.storage.layout import Layout
from jobs import report
from tests.report.metrics_of_night import (
    COOCCURRENCE,
    DAY,
    EPOCHS,
    RUN,
    VERSION,
    baseline_verdict,
    compared,
    index_metrics,
    ingest_metrics,
    nothing_trained,
    record,
    train_metrics,
    verdict,
)
from tests.report.night import HOSTILE, make_baseline_night, publish
from tests.report.page import Page


def page_of(layout: Layout) -> Page:
    return Page(write_report(layout, DAY, RUN).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(night_layout: Layout) -> Page:
    return page_of(night_layout)


def test_the_page_loads_nothing(page: Page, night_layout: Layout) -> None:
    assert "http" not in night_layout.report(DAY).read_text(encoding="utf-8").replace("http-equiv", "")
    assert page.tags["script"] == 0
    for _, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "xlink:href"):
            assert value.startswith(("#", "data:,", "../"))


def test_hostile_names_are_text(page: Page) -> None:
    shown = HOSTILE.replace("\u202e", "\ufffd")
    assert shown in "".join(page.words)
    assert "</style><script>" in page.text
    assert page.tags["style"] == 1


def test_a_name_without_end_is_cut(page: Page) -> None:
    assert "x" * 99 + "…" in page.text
    assert "x" * 101 not in page.text


def test_ids_are_unique(page: Page) -> None:
    ids = Counter(value for _, name, value in page.attributes if name == "id")
    assert ids
    assert max(ids.values()) == 1


def test_every_item_is_a_dot_and_every_department_a_choice(page: Page, night_layout: Layout) -> None:
    dots = sum(1 for tag, name, _ in page.attributes if tag == "circle" and name == "cx")
    assert dots == IndexMetrics.read(night_layout.run(DAY, RUN).step_metrics("index")).items
    assert page.tags["input"] == page.tags["fieldset"] + len(
        {value for tag, name, value in page.attributes if tag == "g" and name == "class" and value.startswith("g g")}
    )


def test_pictures_have_words(page: Page) -> None:
    pictures = [tag for tag, name, value in page.attributes if (name, value) == ("role", "img")]
    assert sorted(pictures) == ["div", *["svg"] * page.tags["svg"]]
    regions = sum((name, value) == ("role", "region") for _, name, value in page.attributes)
    assert len(page.labels) - regions >= len(pictures)
    assert sum(len(label) > 20 for label in page.labels) >= len(pictures)


@pytest.mark.parametrize(
    "expected",
    [
        "Night of Tuesday, 30 January 2024",
        "NDCG@10 0.1760 against the champion's 0.1600. Evaluated on 31 users with 40 queries on 2024-01-30, held out "
        "of training.",
        "Each user counts once, whatever the number of queries. How the events were split: 1 held-out day and 1 "
        "validation day, as configured.",
        "new model vs champion better +0.0160 (+10.0 %) +0.0020 to +0.0310 new model vs popularity better",
        "new model vs what each user had most no clear difference +0.0320 (+22.2 %) \u22120.0040 to +0.0660",
        "Where it contains 0, the two cannot be distinguished on these users.",
        "Early stopping used NDCG@10 on the validation events. Epoch 6 is kept.",
        "What the serving model counts, it counts up to the end of 2024-01-30;",
        "Its weights are those that were evaluated.",
        "event_time is in range 2",
        "user_id is not null 1",
        "Of the items that users went on to take, 44.0 % were among their first 100, the number that is published "
        "(recall@100 of what serves, the mean over users).",
        "recall@40 0.2200 0.2000 +10.0 % 0.1800 +22.2 % 0.1000 +120.0 % recall@100 0.4400 0.4000 +10.0 %",
        "New and rare items: 7 items that 4 users went on to take had 0 to 5 events before the held-out part; with "
        "only these as relevant, what serves has NDCG@10 0.0110 and HR@100 0.0550. No decision is taken from this.",
        "NDCG@10 decides 0.1760 0.1600 +10.0 % 0.1440 +22.2 % 0.0800 +120.0 %",
        "score 40 users, 400 rows 2 shards, longest 5.0 s 9.0 s 800 MB",
        "train 20240130-new, from 20240129-old, 8 epochs 1 min 15 s 1,800 MB",
        "1 min 49 s in all, before this report.",
        f"Trained in this run: {VERSION} .",
        "(cooccurrence) raises scores by 0.91 \u00b1 0.042 x new: validation NDCG@10 0.1440 with it, 0.1280 "
        "without (+12.5 %, 1,234 users).",
        "curvature 1/K 0.0156",
        "candidates/run_date=2024-01-30",
        "Searched in single precision. Of the 100 items that",
        "single precision (float32) finds 99.998 %: the mean over 31 users of this night. Below 99.9 % the search",
    ],
)
def test_the_figures_are_there(page: Page, expected: str) -> None:
    assert expected in page.text


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            "ivf",
            "Searched approximately by ivf (nprobe 1,300, nlist 8,000, k_factor 4). "
            "Of the 100 best items of an exact search, this finds 99.12 %, the mean",
        ),
        ("matmul", "Searched exactly. An approximate search was tried and found 99.12 % of the 100 best items"),
    ],
)
def test_an_approximate_search_tells_its_recall(copied: Layout, kind: str, expected: str) -> None:
    assert "approximate" not in page_of(copied).text
    measured = {"float32_recall": 1.0, "recall": 0.9912, "recall_floor": 0.99, "recall_at": 100}
    speeds = {"matmul": 700, kind: 2000}
    looked_at = {"nprobe": 1_300, "nlist": 8_000, "k_factor": 4} if kind == "ivf" else None
    record(copied, index_metrics(60, 10, kind=kind, queries_per_second=speeds, looked_at=looked_at, **measured))
    text = page_of(copied).text
    assert expected in text
    assert "used if it finds 99 % and is faster" in text
    assert f"{kind} 2,000" in text


def test_data_docs_are_linked_relatively(page: Page, night_layout: Layout) -> None:
    link = next(link for link in page.links if "gx" in link)
    assert (night_layout.report(DAY).parent / link).resolve().is_file()


def test_writing_twice_gives_the_same_bytes(copied: Layout) -> None:
    first = write_report(copied, DAY, RUN).read_bytes()
    record(copied, ReportMetrics(day=DAY, path="reports/index.html", bytes=1, seconds=1.0))
    assert write_report(copied, DAY, RUN).read_bytes() == first
    assert [path.name for path in copied.report(DAY).parent.iterdir()] == ["index.html"]


def test_a_run_that_left_nothing_still_has_a_page(layout: Layout) -> None:
    page = page_of(layout)
    assert page.headings == ["Data in", "Time and memory", "Where to look"]
    for sentence in (
        "The night stopped at ingest: nothing was published",
        "The step ingest left no record: it was not started, or it was killed",
        "Readers have nothing: no night has been published yet.",
        "No step of this run recorded metrics.",
    ):
        assert sentence in page.text


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ("vectors", "This run made no item vectors."),
        ("candidates", "There are no candidates of this run to describe."),
        ("sequences", "There are no candidates of this run to describe."),
        ("metrics", "No step of this run recorded metrics."),
        ("verdict.json", "Nothing was compared in this run."),
    ],
)
def test_one_part_missing(copied: Layout, gone: str, expected: str) -> None:
    path = copied.run(DAY, RUN).folder / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert expected in page_of(copied).text


def test_published_candidates_do_when_the_runs_own_are_gone(copied: Layout) -> None:
    before = page_of(copied).text
    copied.published(DAY).parent.mkdir()
    copied.run(DAY, RUN).candidates.rename(copied.published(DAY))
    assert page_of(copied).text == before


def test_a_quiet_night_shows_the_serving_models_epochs(copied: Layout) -> None:
    record(copied, nothing_trained("no new events"), ingest_metrics(rows_read=0, quarantined_by_rule={}))
    verdict(challenger=None, promoted=False, metrics={}, comparisons=[]).write(copied.run(DAY, RUN).verdict)
    text = page_of(copied).text
    assert "No new rows were read" in text
    assert "Nothing was trained in this run: no new events. These are the epochs of the version that serves: " in text
    assert f"the version that serves: {VERSION} ." in text
    assert "No new model was trained (no new events)" in text
    assert "(cooccurrence) raises scores by 0.91 \u00b1 0.042 x new" in text


def test_a_training_that_was_found_is_not_called_new(copied: Layout) -> None:
    record(copied, train_metrics(reused=True))
    assert f"Already trained from the same data and settings, and reused: {VERSION} ." in page_of(copied).text


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {"weights": None, "intervals": {}, "ndcg@10": 0.121},
            "is left out, because it does not help: validation NDCG@10 0.1210 with it, 0.1280 without",
        ),
        (
            {"ndcg@10": 0.01, "ndcg@10 without": 0.0, "users": 1},
            "0.0100 with it, 0.0000 without (1 user).",
        ),
        (
            {"intervals": {}, "ndcg@10": None, "ndcg@10 without": None, "users": 0},
            "by 0.91 x new, 0.2 x seen (default weights), untested: no user could be tested on the validation events.",
        ),
    ],
)
def test_what_a_score_term_adds_is_shown(copied: Layout, told: dict[str, Any], expected: str) -> None:
    record(copied, train_metrics(score_terms={"cooccurrence": COOCCURRENCE.model_dump() | told}))
    assert expected in page_of(copied).text


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            {"kept": True, "ndcg@10": 0.132, "ndcg@10 without": 0.128, "users": 1200},
            "The ranker orders each user's best items: validation NDCG@10 0.1320 with it, 0.1280 without",
        ),
        (
            {"kept": False, "ndcg@10": 0.129, "ndcg@10 without": 0.128, "users": 1200},
            "The ranker is left out, because its help cannot be told from chance: validation NDCG@10 0.1290",
        ),
        ({"kept": False, "users": 3}, "No ranker was trained: 3 users with validation events are too few"),
    ],
)
def test_what_the_ranker_adds_is_shown(copied: Layout, told: dict[str, Any], expected: str) -> None:
    record(copied, train_metrics(ranker=told))
    assert expected in page_of(copied).text


def test_a_model_without_score_terms_mentions_none(copied: Layout) -> None:
    record(copied, train_metrics(score_terms={}))
    assert "(cooccurrence)" not in page_of(copied).text


@pytest.mark.parametrize("missing", ["challenger", "champion", "most_bought", "popularity"])
def test_a_model_that_was_not_judged_has_no_column(copied: Layout, missing: str) -> None:
    judged = {name: found for name, found in verdict().metrics.items() if name != missing}
    verdict(metrics=judged).write(copied.run(DAY, RUN).verdict)
    page = page_of(copied)
    row = re.search(r"NDCG@10 decides (.*?) NDCG@20", page.text)
    assert row is not None
    assert len(re.findall(r"0\.\d{4}", row[1])) == 3


def test_figures_that_are_not_numbers_do_not_stop_the_report(copied: Layout) -> None:
    epochs = [
        {"epoch": 0, "loss": None, "ndcg@10": 0.3, "seconds": 0.0},
        {"epoch": 1, "loss": float("nan"), "ndcg@10": 0.1, "seconds": 1.0},
        {"epoch": 2, "loss": 2.0, "ndcg@10": None, "seconds": 1.0},
    ]
    record(copied, train_metrics(epochs=epochs, curvature=None))
    page = page_of(copied)
    told = [value for _, name, value in page.attributes if name == "aria-label"]
    assert any("training loss over 1 epoch:" in words for words in told)
    assert any("validation NDCG@10 over 2 epochs: from 0.3 to 0.1, highest 0.3 at epoch 0." in words for words in told)


@pytest.mark.parametrize(
    "name", ["metrics/train.json", "verdict.json", "vectors/items.parquet", "candidates/part-0000.parquet"]
)
@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_damaged_file_is_named_and_the_rest_is_shown(copied: Layout, name: str, content: str) -> None:
    (copied.run(DAY, RUN).folder / name).write_text(content, encoding="utf-8")
    text = page_of(copied).text
    left_out = re.search(r"A part of this page is left out: (.*?)\. ", text)
    assert left_out is not None
    assert name.rpartition("/")[2] in text[left_out.start() : left_out.start() + 600]
    assert "1,000 rows read from 1 file" in text


def test_the_template_travels_with_the_package() -> None:
    import hmamba.report

    assert (Path(hmamba.report.__file__).parent / "night.html").is_file()


def test_the_comparisons_are_read_aloud(page: Page) -> None:
    told = next(label for label in page.labels if label.startswith("NDCG@10: difference and 95 % interval."))
    assert "new model vs champion: +0.0160, 95\u00a0% interval +0.0020 to +0.0310, better." in told
    assert told.count("no clear difference.") == 2


def test_a_baseline_night_does_not_speak_of_a_model(copied: Layout) -> None:
    make_baseline_night(copied)
    page = page_of(copied)
    assert "No model serves yet: what each user had most is published" in page.text
    assert "Ranked by what each user had most, a baseline: no model has scored them." in page.text
    assert not any("disk" in heading for heading in page.headings)
    for words in ("precision", "Poincar", "The model that serves counts"):
        assert words not in page.text


def test_a_night_that_could_train_nothing_says_why(copied: Layout) -> None:
    make_baseline_night(copied)
    record(copied, nothing_trained("no item has 5 events"))
    judged = baseline_verdict(challenger=None, metrics={}, comparisons=[], users=0, queries=0)
    judged.write(copied.run(DAY, RUN).verdict)
    text = page_of(copied).text
    assert "Nothing was trained in this run: no item has 5 events." in text
    assert "No training has been recorded" not in text
    assert "No user could be evaluated." in text


def test_both_validation_curves_are_drawn(copied: Layout) -> None:
    epochs = [epoch.model_copy(update={"log_likelihood": -5.0 + 0.1 * epoch.epoch}) for epoch in EPOCHS]
    record(copied, train_metrics(epochs=epochs))
    page = page_of(copied)
    for title in ("validation NDCG@10 over 8 epochs", "validation log-likelihood over 8 epochs"):
        assert any(label.startswith(title) for label in page.labels)
    assert "mostly noise. Epoch 8 is kept." in page.text


def test_what_ingest_warns_of_is_in_the_data_section_too(copied: Layout) -> None:
    record(copied, ingest_metrics(rows_read=0, rows_left=12, staleness_days=4.25, warnings=["The feed is stale."]))
    text = page_of(copied).text
    assert text.count("The feed is stale.") == 2
    assert text.count("12 rows are of days after 2024-01-30: left in their files for a later night.") == 2
    assert "The newest event is 4.2 days before the end of 2024-01-30." in text


def test_examples_are_shown_and_can_be_switched_off(copied: Layout) -> None:
    page = page_of(copied)
    assert "Examples of users" in page.headings
    assert re.search(r'A long history, of the longest tenth: user " user-\d+ ", \d+ events', page.text)
    assert "Taken last" in page.text
    assert "taken before" in page.text
    assert "No user is new: none has a first event in the last 7 days." in page.text
    text = write_report(copied, DAY, RUN, ReportConfig(examples=0)).read_text(encoding="utf-8")
    assert "Examples of users" not in text
    assert "user-0" not in text


def test_the_step_shows_what_the_settings_say(copied: Layout) -> None:
    copied.config.write_text("[report]\nexamples = 2\ndrift_days = 3\n")
    assert report.main(["--root", str(copied.root), "--day", str(DAY), "--run-id", RUN]) == 0
    text = copied.report(DAY).read_text(encoding="utf-8")
    assert text.count('<article class="example"') == 4  # two of each kind; nobody is new
    assert "Drift: 2024-01-28 to 2024-01-30 against 2024-01-25 to the day before" in Page(text).text


def test_drift_is_a_table_with_bands_in_words(page: Page) -> None:
    assert "Drift: 2024-01-24 to 2024-01-30 against 2024-01-17 to the day before" in page.text
    assert re.search(
        r"share of, and its largest changes PSI items (\S.*? → \S+ % )+may be chance 0\.\d+ by chance to", page.text
    )
    assert "Usual bands: below 0.1 stable, from 0.25 strong." in page.text


def test_groups_are_in_the_verdict(copied: Layout) -> None:
    assert "For whom it works" not in page_of(copied).text
    group = {
        "kind": "users", "least_events": 0, "most_events": 0, "users": 3, "answers": 4,
        "metrics": {"challenger": 0.25, "most_bought": 0.125},
        "comparison": compared("challenger", "most_bought", 0.125, -0.1, 0.3),
    }  # fmt: skip
    verdict(groups=[group]).write(copied.run(DAY, RUN).verdict)
    assert (
        "New and known users new: no event before the held-out events 3 users 0.2500 0.1250 no clear difference "
        "+0.1250 (\u22120.1000 to +0.3000)"
    ) in page_of(copied).text


def test_the_night_before_is_compared_and_linked(copied: Layout) -> None:
    publish(copied)
    table = copied.published(DAY)
    before = copied.published(DAY - timedelta(days=1))
    shutil.copytree(table, before)
    made = Manifest.read(copied.latest)
    made.write(copied.published_manifest(DAY))
    made.model_copy(update={"day": DAY - timedelta(days=1), "run_id": "gone"}).write(
        copied.published_manifest(DAY - timedelta(days=1))
    )
    write_text(copied.storage, copied.report(DAY - timedelta(days=1)), "a page of another version")
    page = page_of(copied)
    assert "Since the table of 2024-01-29" in page.headings
    assert "new among the first 10 0.0 % of users who had recommendations before" in page.text
    assert f"Both tables come from {VERSION} . The users are the same." in page.text
    assert {"../index.html", "../2024-01-29/index.html"} <= set(page.links)


def test_events_without_times_say_that_drift_is_not_measured(copied: Layout) -> None:
    place = copied.run(DAY, RUN).manifest
    SnapshotManifest.read(place).model_copy(update={"by_position": True}).write(place)
    text = page_of(copied).text
    assert "Drift of the data is not measured, because the events have an order and no times." in text
    assert "Who is new is not known, because the events have an order and no times." in text
    assert "last on 2024" not in text


def test_a_tiny_reference_has_no_percentage(copied: Layout) -> None:
    judged = verdict()
    judged.metrics["popularity"]["ndcg@10"] = 0.00047
    judged.write(copied.run(DAY, RUN).verdict)
    text = page_of(copied).text
    assert "new model vs popularity better +0.0960 +0.0710 to +0.1200" in text
    assert max(float(share) for share in re.findall(r"\+([\d.]+) %", text)) <= 300


@pytest.mark.parametrize(
    ("metric", "plotted"),
    [
        ("ndcg@20", ["NDCG@20", "HR@20", "MRR@20", "recall@100", "coverage@20"]),
        ("recall@100", ["NDCG@10", "HR@10", "MRR@10", "recall@100", "coverage@10"]),
    ],
)
def test_each_family_of_metrics_has_a_plot(copied: Layout, metric: str, plotted: list[str]) -> None:
    verdict(metric=metric).write(copied.run(DAY, RUN).verdict)
    starts = [label.partition(": new model ")[0] for label in page_of(copied).labels if ": new model 0" in label]
    assert starts == plotted
