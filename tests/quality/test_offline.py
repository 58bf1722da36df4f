"""Data Docs in a browser: they show everything without a network, and ask nobody for anything."""

from __future__ import annotations

from pathlib import Path

from hmamba.quality.checks import check
from hmamba.quality.expectations import Figure
from hmamba.storage.layout import Layout
from tests.browser import opened


def test_what_a_page_asks_for_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    places = ["https://cdn.example.com/a.css", "http://192.0.2.1/b.css"]
    page.write_text("<p>here" + "".join(f'<link rel="stylesheet" href="{place}">' for place in places))
    text, asked = opened(page, tmp_path / "browser")
    assert "<p>here" in text
    assert sorted(asked) == sorted(places)


def test_data_docs_ask_nobody(tmp_path: Path) -> None:
    place = Layout.at(tmp_path).checks
    outcome = check(place, "candidates", "2024-05-31 manual", [Figure("rows", 0, least=1, meaning="rows")])
    assert outcome.page is not None
    for number, page in enumerate((place.index, outcome.page)):
        text, asked = opened(page, tmp_path / f"browser-{number}")
        assert "2024-05-31 manual" in text
        assert "at least 1" in text
        assert asked == []
