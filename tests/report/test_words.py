"""Numbers as the pages write them."""

from __future__ import annotations

import pytest

from hmamba.report.words import FILTERS, environment


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seconds", 0.04, "0.0 s"),
        ("seconds", 59.94, "59.9 s"),
        ("seconds", 61.9, "1 min 01 s"),
        ("seconds", 3605.0, "60 min 05 s"),
        ("percent", 0.1234, "12.3\u00a0%"),
        ("count", 1234567, "1,234,567"),
        ("size", 3 * 2**30, "3,072 MB"),
        ("metric", "ndcg@10", "NDCG@10"),
    ],
)
def test_filters(name: str, value: object, expected: str) -> None:
    assert FILTERS[name](value) == expected


def test_the_templates_are_compiled_once_and_escape() -> None:
    assert environment() is environment()
    shown = environment().from_string("{{ name }} {{ name | short(4) }}").render(name="<b>\u202e")
    assert shown == "&lt;b&gt;\ufffd &lt;b&gt;\ufffd"
