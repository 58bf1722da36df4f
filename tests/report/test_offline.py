"""The report of a night in a browser: it asks nobody for anything."""

from __future__ import annotations

from pathlib import Path

from hmamba.report.render import write_report
from hmamba.storage.layout import Layout
from tests.browser import opened
from tests.report.night import DAY, RUN


def test_the_report_asks_nobody(copied: Layout, tmp_path: Path) -> None:
    text, asked = opened(write_report(copied, DAY, RUN), tmp_path / "browser")
    assert "Time and memory" in text
    assert asked == []
