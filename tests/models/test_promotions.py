"""Which version serves from which night on, however often nights are run."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from hmamba.errors import InputError
from hmamba.models import promotions
from hmamba.storage.layout import Layout


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"version": "a"}', '{"schema_version": 1, "version": "a", "history": []}']
)
def test_a_damaged_list_of_promotions_is_named(tmp_path, content):
    layout = Layout.at(tmp_path)
    layout.models.mkdir()
    layout.champion.write_text(content)
    with pytest.raises(InputError, match=r"champion\.json"):
        promotions.champion_before(layout, date(2024, 1, 2))


FIRST, SECOND, THIRD = (date(2024, 1, day) for day in (1, 2, 3))


def versions(layout: Layout) -> list[str]:
    """Who has been promoted, oldest first; champion.json names the last one."""
    found = [promotion.version for promotion in promotions.promotions(layout)]
    assert not layout.champion.exists() or not found or json.loads(layout.champion.read_text())["version"] == found[-1]
    return found


def test_promotions_follow_the_days(tmp_path):
    layout = Layout.at(tmp_path)
    assert promotions.champion_before(layout, FIRST) is None
    assert promotions.record_decision(layout, FIRST, "a")
    assert promotions.record_decision(layout, SECOND, "b")
    assert promotions.champion_before(layout, SECOND) == "a"
    assert promotions.champion_before(layout, THIRD) == "b"


def test_the_last_decision_on_a_day_counts(tmp_path):
    layout = Layout.at(tmp_path)
    promotions.record_decision(layout, FIRST, "a")
    for decision, expected in (("b", ["a", "b"]), ("c", ["a", "c"]), (None, ["a"]), (None, ["a"]), ("b", ["a", "b"])):
        assert promotions.record_decision(layout, SECOND, decision)
        assert versions(layout) == expected
    promotions.record_decision(layout, SECOND, None)
    assert promotions.record_decision(layout, FIRST, None)
    assert versions(layout) == []
    assert promotions.champion_before(layout, THIRD) is None
    assert promotions.record_decision(layout, FIRST, None)


def test_decisions_that_are_made_at_the_same_time_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout, write = Layout.at(tmp_path), promotions._write
    days = [date(2024, 1, number) for number in range(1, 7)]

    def slowly(*given: Any) -> None:
        time.sleep(0.05)
        write(*given)

    monkeypatch.setattr(promotions, "_write", slowly)
    with ThreadPoolExecutor(len(days)) as pool:
        list(pool.map(lambda day: promotions.record_decision(layout, day, f"v{day.day}"), days))
    assert versions(layout) == [f"v{day.day}" for day in days]


def test_the_same_decision_again_changes_no_file(tmp_path):
    layout = Layout.at(tmp_path)
    promotions.record_decision(layout, FIRST, "a")
    before = layout.champion.stat().st_mtime_ns
    assert promotions.record_decision(layout, FIRST, "a")
    assert layout.champion.stat().st_mtime_ns == before


def test_an_old_day_enters_its_place_and_leaves_the_champion(tmp_path):
    layout = Layout.at(tmp_path)
    assert promotions.record_decision(layout, THIRD, "c")
    for day, version, expected in (
        (FIRST, "a", ["a", "c"]),
        (SECOND, "b", ["a", "b", "c"]),
        (FIRST, "z", ["z", "b", "c"]),
        (SECOND, None, ["z", "c"]),
        (FIRST, None, ["c"]),
    ):
        assert not promotions.record_decision(layout, day, version)
        assert versions(layout) == expected
    assert promotions.record_decision(layout, THIRD, None)
    assert versions(layout) == []


@pytest.fixture
def three(tmp_path: Path) -> Layout:
    """Three nights, each with a promotion."""
    layout = Layout.at(tmp_path)
    for day, version in ((FIRST, "a"), (SECOND, "b"), (THIRD, "c")):
        promotions.record_decision(layout, day, version)
    return layout


def go_back(layout: Layout, day: date, version: str | None, **table: Any) -> list[str]:
    """Versions whose promotions were taken back."""
    given = {"table": None, "from_table": None, "changes_table": False, "newest": None, **table}
    return [one.version for one in promotions.roll_back(layout, day, version, **given)]


def test_promotions_of_later_nights_can_be_taken_back(three):
    assert go_back(three, THIRD, "c") == []
    assert promotions.rollbacks(three) == ()
    assert go_back(three, FIRST, "a") == ["b", "c"]
    assert versions(three) == ["a"]
    (done,) = promotions.rollbacks(three)
    assert (done.version, done.day, done.from_version) == ("a", FIRST, "c")
    assert [one.version for one in done.taken_back] == ["b", "c"]
    assert go_back(three, date(2023, 12, 31), None) == ["a"]
    assert promotions.promotions(three) == ()
    assert json.loads(three.champion.read_text())["version"] is None
    assert promotions.record_decision(three, SECOND, "b")
    assert versions(three) == ["b"]
    assert [(one.version, one.from_version) for one in promotions.rollbacks(three)] == [("a", "c"), (None, "a")]


def test_a_version_that_was_never_promoted_is_promoted_on_the_day(three):
    assert go_back(three, SECOND, "loser") == ["c"]
    assert versions(three) == ["a", "b", "loser"]
    assert promotions.champion_before(three, THIRD) == "loser"
    assert promotions.champion_before(three, SECOND) == "a"
    assert promotions.record_decision(three, THIRD, "d")
    assert versions(three) == ["a", "b", "loser", "d"]


def test_a_rollback_of_a_rollback(three):
    assert go_back(three, FIRST, "a") == ["b", "c"]
    assert go_back(three, THIRD, "c") == []
    assert versions(three) == ["a", "c"]
    assert [(one.from_version, one.version) for one in promotions.rollbacks(three)] == [("c", "a"), ("a", "c")]


def test_the_same_rollback_is_recorded_once_unless_something_was_published_since(three):
    table = {"table": FIRST, "from_table": THIRD, "changes_table": True}
    early, late = datetime(2024, 1, 4, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)
    for _ in range(2):
        go_back(three, FIRST, "a", newest=early, **table)
        assert len(promotions.rollbacks(three)) == 1
    go_back(three, FIRST, "a", newest=late, **table)
    assert len(promotions.rollbacks(three)) == 2
