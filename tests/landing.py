"""Driving the real steps from tests, and looking into the warehouse they leave behind."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from hmamba.storage.layout import Layout
from jobs import ingest, publish, snapshot

DAY = date(2024, 1, 30)
"""The last day of ``make_interactions()``."""
STEPS = {"ingest": ingest.main, "snapshot": snapshot.main, "publish": publish.main}
TINY = """
[snapshot]
shards = 2
[model]
dim = 8
d_state = 4
head_dim = 8
[train]
epochs = 4
min_item_events = 3
[candidates]
k = 5
exclude_seen = false
"""
"""Settings of a night that trains in seconds; too small a model to be shown better than what each user had most."""

TINY_ONCE = TINY.replace("exclude_seen = false", "exclude_seen = true")
"""The same where things are taken once: after a month of 30 users the model is shown to be better than popularity."""


class Root:
    """A recommender's root under test. Steps run as they do from the shell, in this process."""

    def __init__(self, layout: Layout, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self.layout = layout
        self._capsys, self._caplog = capsys, caplog

    def configure(self, text: str) -> None:
        """Write the root's hmamba.toml."""
        self.layout.root.mkdir(parents=True, exist_ok=True)
        self.layout.config.write_text(text, encoding="utf-8")

    def landing(self) -> Path:
        """The landing folder of interactions, made if need be."""
        folder = self.layout.landing / "interactions"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def drop(self, name: str, content: str | bytes) -> Path:
        """Write a file into the landing folder."""
        path = self.landing() / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def step(self, name: str, day: date = DAY, run_id: str = "manual", *more: str) -> tuple[int, dict[str, Any], str]:
        """Run a step, with ``more`` arguments; returns its exit status, metrics (empty if it failed) and log."""
        self._caplog.clear()
        self._capsys.readouterr()
        code = STEPS[name](["--root", str(self.layout.root), "--day", day.isoformat(), "--run-id", run_id, *more])
        out = self._capsys.readouterr().out.strip()
        return code, json.loads(out) if out else {}, self._caplog.text

    def ok(self, name: str, day: date = DAY, run_id: str = "manual", *more: str) -> dict[str, Any]:
        """Run a step that must succeed; returns its metrics."""
        code, metrics, log = self.step(name, day, run_id, *more)
        assert code == 0, log
        return metrics

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query on the warehouse."""
        with duckdb.connect(str(self.layout.warehouse), read_only=True) as connection:
            return connection.execute(query).fetchall()

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table."""
        tables = self.sql("SELECT table_name FROM duckdb_tables() ORDER BY 1")
        return {table: self.sql(f"SELECT * FROM {table} ORDER BY ALL") for (table,) in tables}
