"""What a part has found so far. Every entry is on disk at once, so that a crash or a time limit loses nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Entry = dict[str, Any]


class Record:
    """The findings of one part, kept in a JSON file.

    Args:
        path: the file.
        part: its name, shown before each line that is printed.
    """

    def __init__(self, path: Path, part: str) -> None:
        self.path, self.part = path, part
        self.entries: list[Entry] = []

    def check(self, what: str, passed: bool, **figures: object) -> None:
        """Something that must hold."""
        self._add({"kind": "check", "what": what, "passed": bool(passed), "figures": figures})

    def measure(self, what: str, **figures: object) -> None:
        """Something that is only told."""
        self._add({"kind": "measure", "what": what, "figures": figures})

    def skip(self, what: str, why: str) -> None:
        """Something that could not run here."""
        self._add({"kind": "skip", "what": what, "why": why})

    def _add(self, entry: Entry) -> None:
        self.entries.append(entry)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(self.entries, default=float), encoding="utf-8")
        temporary.replace(self.path)
        print(f"{self.part}: {entry['what']}: {verdict(entry)} {shown(entry.get('figures', {}))}".rstrip(), flush=True)


def verdict(entry: Entry) -> str:
    """One word or clause for an entry."""
    if entry["kind"] == "check":
        return "passed" if entry["passed"] else "FAILED"
    return f"could not run: {entry['why']}" if entry["kind"] == "skip" else "measured"


def shown(figures: Mapping[str, object]) -> str:
    """Figures for people: four digits, thousands apart, underscores as spaces."""
    return ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in figures.items())


def _number(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
