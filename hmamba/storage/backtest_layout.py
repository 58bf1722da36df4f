"""Paths of a backtest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hmamba.storage.under import Under


@dataclass(frozen=True)
class BacktestLayout:
    """Paths of a backtest, which replays past nights."""

    folder: Path

    state = Under("backtest.json")
    """Settings and events of the backtest."""

    page = Under("index.html")
    """Results as an HTML page."""

    tables = Under("backtest.md")
    """Results as Markdown."""

    def night(self, day: date) -> Path:
        """Evaluation of one night."""
        return self.folder / "nights" / f"{day}.json"

    def chain(self, name: str) -> Path:
        """The root of one chain of nights."""
        return self.folder / name.replace(" ", "-")
