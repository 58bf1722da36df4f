"""Which version serves from which night on, however often nights are run."""

from __future__ import annotations

import json
from datetime import date

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
    assert not layout.champion.exists() or json.loads(layout.champion.read_text())["version"] == found[-1]
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
    assert not layout.champion.exists()
    assert promotions.record_decision(layout, FIRST, None)


def test_the_same_decision_again_changes_no_file(tmp_path):
    layout = Layout.at(tmp_path)
    promotions.record_decision(layout, FIRST, "a")
    before = layout.champion.stat().st_mtime_ns
    assert promotions.record_decision(layout, FIRST, "a")
    assert layout.champion.stat().st_mtime_ns == before


def test_what_later_nights_build_on_stays(tmp_path):
    layout = Layout.at(tmp_path)
    for day, version in ((FIRST, "a"), (THIRD, "c")):
        promotions.record_decision(layout, day, version)
    assert promotions.record_decision(layout, FIRST, "a")
    assert not promotions.record_decision(layout, FIRST, "z")
    assert not promotions.record_decision(layout, FIRST, None)
    assert promotions.record_decision(layout, SECOND, None)
    assert not promotions.record_decision(layout, SECOND, "b")
    assert versions(layout) == ["a", "c"]


def test_promotions_of_later_nights_can_be_taken_back(tmp_path):
    layout = Layout.at(tmp_path)
    for day, version in ((FIRST, "a"), (SECOND, "b"), (THIRD, "c")):
        promotions.record_decision(layout, day, version)
    assert promotions.take_back(layout, THIRD) == ()
    assert [promotion.version for promotion in promotions.take_back(layout, FIRST)] == ["b", "c"]
    assert versions(layout) == ["a"]
    assert [promotion.version for promotion in promotions.take_back(layout, date(2023, 12, 31))] == ["a"]
    assert not layout.champion.exists()
