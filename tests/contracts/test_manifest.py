"""What readers of ``candidates/latest.json`` are promised."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from hmamba.contracts import Manifest
from tests.documents import manifest

REFRESH = {"day": "2024-01-31", "run_id": "noon", "users": 2, "new_users": 1}


def test_the_keys_are_those_of_the_page_for_readers() -> None:
    page = (Path(__file__).parents[2] / "docs" / "candidates.md").read_text(encoding="utf-8")
    section = page.partition("## The manifest\n")[2].partition("\n## ")[0]
    documented = {key for row in re.findall(r"(?m)^\| (`.*?) \|", section) for key in re.findall(r"`(\w+)`", row)}
    assert documented == set(Manifest.model_fields)


def test_times_are_iso_8601_with_an_offset() -> None:
    assert manifest().model_dump(mode="json")["created_at"] == "2024-01-31T02:00:00+00:00"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"run_id": "other", "created_at": "2025-01-01T00:00:00Z"}, True),
        ({"refresh": {**REFRESH, "run_id": "later"}}, True),
        ({"refresh": {**REFRESH, "users": 3}}, False),
        ({"refresh": None}, False),
        ({"rows": 399}, False),
        ({"files": [{"path": "a", "rows": 1, "bytes": 1, "sha256": "0"}]}, False),
    ],
)
def test_the_same_content_is_told_apart_from_another(changes: dict[str, Any], expected: bool) -> None:
    assert manifest(refresh=REFRESH).same_content(manifest(**({"refresh": REFRESH} | changes))) == expected


def test_a_refresh_says_how_far_events_go() -> None:
    assert manifest().last_day == date(2024, 1, 30)
    assert manifest(refresh=REFRESH).last_day == date(2024, 1, 31)
