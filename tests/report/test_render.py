from __future__ import annotations

import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hmamba.errors import InputError
from hmamba.files import read_json, write_json
from hmamba.layout import Layout
from hmamba.report.render import write_report
from tests.report.conftest import HOSTILE
from tests.report.night import DAY, RUN, TRANSITIONS, VERSION, ingest_facts, verdict, write_facts


class Page(HTMLParser):
    """The tags, attributes and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


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
    assert dots == read_json(night_layout.run(DAY, RUN).facts / "index.json")["items"]
    assert page.tags["input"] == page.tags["fieldset"] + len(
        {value for tag, name, value in page.attributes if tag == "g" and name == "class" and value.startswith("g g")}
    )


def test_pictures_have_words(page: Page) -> None:
    labels = [value for tag, name, value in page.attributes if tag in ("svg", "div") and name == "aria-label"]
    assert len(labels) == page.tags["svg"] + 1
    assert all(len(label) > 20 for label in labels)


@pytest.mark.parametrize(
    "expected",
    [
        "Night of Tuesday, 30 January 2024",
        "NDCG@10 0.1760 against the champion's 0.1600. Judged on what 31 users did on 2024-01-30, held out",
        "event_time is in range 2",
        "user_id is not null 1",
        "NDCG@10 decides 0.1760 0.1600 +10.0 % 0.1440 +22.2 % 0.0800 +120.0 %",
        "score 2 shards, longest 5.0 s 9.0 s 800 MB",
        "1 min 49 s in all, before this report.",
        f"Trained in this run: {VERSION} .",
        "(transitions) raises scores with strength 1.5 at scale 0.0003: validation NDCG@10 0.1440 with it, 0.1280 "
        "without (+12.5 %, 1,234 users).",
        "curvature 1/K 0.0156",
        "candidates/run_date=2024-01-30",
        "Searched in single precision. Of the 100 items that",
        "single precision (float32) finds 99.998 %: the mean over 31 users of this night. Under 99.9 % the search",
    ],
)
def test_the_figures_are_there(page: Page, expected: str) -> None:
    assert expected in page.text


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cells", "looks into 1,300 of 8,000. Of the 100 best items of an exact search that finds 99.12 %, the mean"),
        ("product", "Searched exactly. A search by cells was tried and found 99.12 % of the 100 best items, the mean"),
    ],
)
def test_an_approximate_search_tells_its_recall(copied: Layout, kind: str, expected: str) -> None:
    assert "cells" not in page_of(copied).text
    told = {"float32_overlap": 1.0, "overlap_floor": 0.999, "overlap_at": 100, "overlap_users": 31, "recall": 0.9912}
    speeds = {"product": 700, kind: 2000}
    told |= {"recall_floor": 0.99, "recall_at": 100, "kind": kind, "queries_per_second": speeds}
    looked_at = {"cells": 1_300, "of": 8_000, "times_k": 4} if kind == "cells" else None
    write_facts(copied, "index", 1.0, 1, **told, looked_at=looked_at)
    text = page_of(copied).text
    assert expected in text
    assert "used if it finds 99 % and is faster" in text
    assert f"{kind} 2,000" in text


def test_data_docs_are_linked_relatively(page: Page, night_layout: Layout) -> None:
    link = next(value for tag, name, value in page.attributes if tag == "a" and name == "href")
    assert (night_layout.report(DAY).parent / link).resolve().is_file()


def test_writing_twice_gives_the_same_bytes(copied: Layout) -> None:
    first = write_report(copied, DAY, RUN).read_bytes()
    write_facts(copied, "report", 1.0, 2**20, path="reports/index.html")
    assert write_report(copied, DAY, RUN).read_bytes() == first
    assert [path.name for path in copied.report(DAY).parent.iterdir()] == ["index.html"]


def test_a_run_that_left_nothing_still_has_a_page(layout: Layout) -> None:
    text = page_of(layout).text
    for sentence in (
        "Nothing was published",
        "This run has no record of an ingest.",
        "No training has been recorded for the version that serves.",
        "Nothing was compared in this run.",
        "There are no candidates of this run to describe.",
        "No item vectors were made in this run.",
        "No step of this run has left its facts.",
    ):
        assert sentence in text


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ("vectors", "No item vectors were made in this run."),
        ("candidates", "There are no candidates of this run to describe."),
        ("sequences", "There are no candidates of this run to describe."),
        ("facts", "No step of this run has left its facts."),
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
    skipped = {"version": None, "parent": None, "reused": False, "skipped_reason": "no new events", "epochs": []}
    write_facts(copied, "train", 0.1, 2**20, **skipped)
    write_facts(copied, "ingest", 0.1, 2**20, **ingest_facts(rows_read=0, quarantined_by_rule={}))
    judged = verdict(challenger=None, promoted=False, metrics={})
    write_json(copied.run(DAY, RUN).verdict, judged)
    text = page_of(copied).text
    assert "No new rows were read" in text
    assert f"these are the epochs of the version that serves: {VERSION} ." in text
    assert "No new model was trained (no new events)" in text
    assert "(transitions) raises scores with strength 1.5" in text


def test_a_training_that_was_found_is_not_called_new(copied: Layout) -> None:
    path = copied.run(DAY, RUN).facts / "train.json"
    write_json(path, read_json(path) | {"reused": True})
    assert f"Already trained from the same data and settings, and taken as it was: {VERSION} ." in page_of(copied).text


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            TRANSITIONS | {"strength": 0.0, "ndcg@10": 0.128},
            "is left out: no help on the validation days (NDCG@10 0.1280",
        ),
        (
            TRANSITIONS | {"ndcg@10": 0.01, "ndcg@10 without": 0.0, "users": 1},
            "0.0100 with it, 0.0000 without (1 user).",
        ),
        (
            TRANSITIONS | {"ndcg@10": None, "ndcg@10 without": None, "users": 0},
            "with strength 1.5 at scale 0.0003, untried: nobody could be asked on the validation days.",
        ),
    ],
)
def test_what_transitions_are_worth_is_told(copied: Layout, told: dict[str, float | None], expected: str) -> None:
    path = copied.run(DAY, RUN).facts / "train.json"
    write_json(path, read_json(path) | {"transitions": told})
    assert expected in page_of(copied).text


@pytest.mark.parametrize("facts", [{"transitions": None}, {}])
def test_a_model_without_transitions_does_not_speak_of_them(copied: Layout, facts: dict[str, None]) -> None:
    path = copied.run(DAY, RUN).facts / "train.json"
    told = read_json(path)
    del told["transitions"]
    write_json(path, told | facts)
    assert "transitions" not in page_of(copied).text


@pytest.mark.parametrize("missing", ["challenger", "champion", "most_bought", "popularity"])
def test_a_model_that_was_not_judged_has_no_column(copied: Layout, missing: str) -> None:
    judged = verdict()
    del judged["metrics"][missing]
    write_json(copied.run(DAY, RUN).verdict, judged)
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
    write_facts(copied, "train", 0.1, 2**20, version=VERSION, parent=None, epochs=epochs, curvature=None, device="cpu")
    page = page_of(copied)
    told = [value for _, name, value in page.attributes if name == "aria-label"]
    assert any("training loss over 1 epoch:" in words for words in told)
    assert any("validation NDCG@10 over 2 epochs: from 0.3 to 0.1, highest 0.3 at epoch 0." in words for words in told)


def test_a_broken_file_is_named_and_the_old_page_stays(copied: Layout) -> None:
    page = write_report(copied, DAY, RUN)
    before = page.read_bytes()
    (copied.run(DAY, RUN).facts / "train.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"train\.json is not JSON"):
        write_report(copied, DAY, RUN)
    assert page.read_bytes() == before


def test_the_template_travels_with_the_package() -> None:
    import hmamba.report

    assert (Path(hmamba.report.__file__).parent / "template.html").is_file()
