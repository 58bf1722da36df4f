"""What is said about a value that breaks a rule. Which rows break which rules is in test_batch.py."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from hmamba.config import parse
from hmamba.quality.row_rules import CATALOGUE_RULES, EVENT_RULES, ROW_RULES, Broken, shown
from hmamba.sources.table import TablePart

PART = TablePart.of(pa.table({"a": [1]}), "log.csv")


def cure(rule: str, value: Any, **settings: Any) -> str | None:
    return ROW_RULES[rule].cure(Broken(value, PART, parse(settings, "test")))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "'text'"),
        (12, "12"),
        (None, "null"),
        ({"ä": [1]}, '{"ä": [1]}'),
        ("a\nb\x1b\u202e", "'a\\nb\\x1b\\u202e'"),
        ("x" * 100, f"'{'x' * 100}'"),
        ("x" * 101, f"'{'x' * 100}...'"),
    ],
)
def test_a_value_is_shown_on_one_line(value: Any, expected: str) -> None:
    assert shown(value) == expected


@pytest.mark.parametrize("rule", ["event_time_readable", "event_time_not_before", "event_time_not_after"])
@pytest.mark.parametrize(
    ("value", "time_format", "told"),
    [
        (1716985932, "auto", "1716985932 looks like 'epoch_s', so set source.time_format = 'epoch_s'."),
        ("1716985932000", "auto", "1716985932000 looks like 'epoch_ms', so set"),
        (1716985932000, "epoch_s", "looks like 'epoch_ms', but source.time_format is 'epoch_s': correct the setting"),
        ("202405291232", "auto", "write it as text, 20240529T1232."),
        (20240529123200, "epoch_s", "20240529T123200, and set source.time_format to 'auto' ('epoch_s' now)."),
    ],
)
def test_a_number_in_another_unit_is_recognised(rule: str, value: Any, time_format: str, told: str) -> None:
    assert told in str(cure(rule, value, source={"time_format": time_format}))


@pytest.mark.parametrize(
    ("value", "time_format", "told"),
    [
        ("2024-05-29 12:32 CEST", "auto", "such as CEST mean several zones each"),
        ("5/29/2024 12:32 PM", "auto", "Times are a timestamp or date type, ISO 8601 text"),
        (20240529, "auto", "20240529 looks like a date, but is a number"),
        ("soon", "epoch_s", "reads numbers and types of times only: set it to 'auto'"),
        ("soon", "auto", "Times are a timestamp or date type"),
    ],
)
def test_a_time_that_cannot_be_read_has_the_cure_of_its_form(value: Any, time_format: str, told: str) -> None:
    assert told in str(cure("event_time_readable", value, source={"time_format": time_format}))


def test_a_time_out_of_bounds_may_need_no_cure_or_another_unit() -> None:
    assert cure("event_time_not_after", "2999-01-01") is None
    told = cure("event_time_not_after", 1716985932, source={"time_format": "epoch_s"})
    assert told == "source.time_format = 'epoch_s' may be the wrong unit."


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("NULL", "'NULL' stands for an absent value: see source.null_words."),
        ("other", "'other' stands for an absent value."),
        ("  ", None),
        (None, None),
    ],
)
def test_a_word_for_an_absent_id_is_explained(value: Any, told: str | None) -> None:
    assert cure("user_id_present", value, source={"null_words": ["NULL"]}) == told


def test_an_unknown_type_is_answered_with_the_known_ones() -> None:
    source = {"columns": {"event_type": "kind"}}
    assert "[events] names buy, view:" in str(
        cure("event_type_known", "x", source=source, events={"buy": {}, "view": {}})
    )


def test_rules_have_names_of_their_own_and_columns_of_the_settings() -> None:
    assert len(ROW_RULES) == len({*EVENT_RULES, *CATALOGUE_RULES})
    config = parse(
        {"source": {"columns": {"user_id": "who"}}, "catalogue": {"item_id": "sku", "title": "name"}}, "test"
    )
    assert ROW_RULES["user_id_length"].columns(config) == ("who",)
    assert ROW_RULES["catalogue_item_id"].columns(config) == ("sku",)
    assert ROW_RULES["catalogue_text_readable"].columns(config) == ("name",)
    assert ROW_RULES["record_readable"].columns(config) == ()
