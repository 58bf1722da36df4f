"""The pages about checks: in words, from records alone, and with nothing of the data as markup."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hmamba.contracts.checks import CheckedRule, CheckRecord
from hmamba.quality import candidates
from hmamba.quality.pages import allowed, coded, figure, render_check, render_index
from hmamba.statements import statement
from hmamba.storage.checks_layout import ChecksLayout
from hmamba.storage.layout import Layout

PLACE: ChecksLayout = Layout.at("/srv/shop").checks


def rule(name: str = "staleness_days", **changes: Any) -> CheckedRule:
    values = {"meaning": "age", "unit": "days", "value": 10.0, "least": None, "most": 2.0, "settings": ()}
    return CheckedRule(name=name, **{**values, "passed": False, **changes})


def record(*rules: CheckedRule, name: str = "2024-05-31 manual", **changes: Any) -> CheckRecord:
    values: dict[str, Any] = {"kind": "staged_batch", "great_expectations": {}}
    return CheckRecord(
        name=name, checked_at=datetime(2024, 6, 1, 2, 3, 4, 5, UTC), rules=rules, **{**values, **changes}
    )


def text_of(page: str) -> str:
    parser, parts = HTMLParser(), []
    parser.handle_data = parts.append  # type: ignore[method-assign]
    parser.feed(page[page.index("<body") :])
    return " ".join("".join(parts).split())


def check_page(*rules: CheckedRule, **changes: Any) -> str:
    return render_check(record(*rules, **changes), PLACE.record("staged_batch", "one"), PLACE)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1_234_567, "count", "1,234,567"),
        (0, "count", "0"),
        (0.5, "share", "50 %"),
        (0.000012, "share", "0.0012 %"),
        (1000, "ratio", "1000"),
        (1, "days", "1 day"),
        (0.0959, "days", "0.0959 days"),
    ],
)
def test_figures_have_their_unit(value: float, unit: Any, text: str) -> None:
    assert figure(value, unit).replace("\N{NO-BREAK SPACE}", " ") == text


def test_bounds_are_words() -> None:
    assert allowed(rule(unit="count", least=1, most=None)) == "at least 1"
    assert allowed(rule(unit="count", least=1, most=8)) == "at least 1, at most 8"
    assert allowed(rule(unit="count", least=0, most=0)) == "exactly 0"


def test_a_broken_check_says_what_broke_and_what_follows() -> None:
    fine = rule("quarantined_share", unit="share", value=0.01, most=0.1, settings=("quality.most",), passed=True)
    words = text_of(check_page(fine, rule(settings=("quality.max_staleness_days",))))
    assert "1 of 2 rules broken. Nothing was loaded: the rows stay in their files." in words
    assert words.index("staleness_days") < words.index("quarantined_share"), "broken rules come first"
    assert "10 days at most 2 days" in words.replace("\N{NO-BREAK SPACE}", " ")
    assert "quality.max_staleness_days" in words
    assert "2024-06-01 02:03:04 UTC" in words
    words = text_of(check_page(rule(), kind="candidates"))
    assert "1 of 1 rule broken. Nothing was published: what was published before stays." in words


def test_a_check_that_passed() -> None:
    words = text_of(check_page(rule(passed=True), rule("share", most=None, passed=True)))
    assert "Passed. The figure is within its bounds." in words
    assert "Figures without bounds" in words
    assert "Passed. All 2 figures are within their bounds." in text_of(check_page(rule(passed=True), rule(passed=True)))


def test_a_warning_comes_before_what_passed_and_breaks_nothing() -> None:
    fine = rule("rows", unit="count", value=1, least=1, most=None, passed=True)
    warned = rule("churn", unit="share", value=0.5, most=0.6, warn_most=0.4, passed=True, warned=True)
    page = check_page(fine, warned, notes=("users_lost is not judged: no table before.",))
    words = text_of(page).replace("\N{NO-BREAK SPACE}", " ")
    assert "Passed with 1 warning. No figure is outside of the bounds that stop a night." in words
    assert "users_lost is not judged: no table before." in words
    assert words.index("churn") < words.index("rows")
    assert "50 % at most 60 %, warns above 40 %" in words
    assert '<header class="warned">' in page
    index = render_index({PLACE.page(PLACE.record("candidates", "a")): record(warned, kind="candidates")}, PLACE)
    words = text_of(index).replace("\N{NO-BREAK SPACE}", " ")
    assert "Candidates, last check: passed, 1 warning, 2024-05-31 manual." in words
    assert "churn is 50 %, at most 60 %, warns above 40 %" in words
    assert '<header class="warned">' in index


def test_the_index_is_newest_first_with_what_broke() -> None:
    older = record(rule(), name="the older").model_copy(update={"checked_at": datetime(2024, 5, 1, tzinfo=UTC)})
    pages = {
        PLACE.page(PLACE.record("staged_batch", "b")): record(rule(passed=True), name="the newer"),
        PLACE.page(PLACE.record("staged_batch", "a")): older,
    }
    page = render_index(pages, PLACE)
    words = text_of(page).replace("\N{NO-BREAK SPACE}", " ")
    assert "New events, last check: passed, the newer." in words
    listed = words[words.index("All checks") :]
    assert listed.index("the newer") < listed.index("the older")
    assert "1 rule broken" in listed
    assert "staleness_days is 10 days, allowed at most 2 days" in listed
    assert '<a href="checks/staged_batch/b.html">' in page
    assert "Nothing has been checked yet." in render_index({}, PLACE)


def test_names_are_only_text() -> None:
    hostile = "<script>alert(1)</script>\x1b[31m\u202e"
    for page in (check_page(rule(hostile, meaning=hostile), name=hostile), coded(f"`{hostile}`")):
        assert "<script" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
    assert coded("of more than `max` & more") == "of more than <code>max</code> &amp; more"


def test_every_count_of_the_candidates_has_a_meaning() -> None:
    counted = {
        word
        for name in candidates._FIGURES
        for word in statement(name).replace("\n", " ").replace(",", " ").split()
        if word.startswith(("rows_with", "users_"))
    }
    assert counted - {"users_"} == candidates._MEANINGS.keys() - {"rows", "model_versions"}


def test_pages_lead_to_one_another() -> None:
    assert '<a href="../../index.html">' in check_page(rule())
    assert Path("checks/staged_batch/../../index.html").parts[-1] == PLACE.index.name
