"""Ingest and snapshot of large data: a first pull, and a pull of 1 % new events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from bench.scale.data import DAYS, FIRST_DAY, Shop, Written, last_day
from bench.scale.steps import CELLS, Done, run
from bench.tables import table

MEMORY_LIMIT = "3GB"
"""DuckDB's memory limit; the process uses about 1 GB more."""


@dataclass(frozen=True)
class Night:
    """Ingest and snapshot of one night; ``rows`` of the pull, ``events`` of the snapshot."""

    name: str
    rows: int
    events: int
    ingest: Done
    snapshot: Done


def _night(root: Path, written: Written, day: date, events: int, name: str) -> Night:
    """Run both steps and check their metrics; ``events`` is the expected number of events in the warehouse."""
    pulled = run("ingest", root, day)
    counted = [pulled.metrics[f"rows_{kind}"] for kind in ("read", "loaded", "duplicate", "quarantined")]
    expected = [written.rows, written.events, written.copies, written.broken]
    if counted != expected:
        raise AssertionError(f"{name}: read, loaded, duplicate, quarantined are {counted}, but {expected} were written")
    cut = run("snapshot", root, day)
    if cut.metrics["events"] != events:
        raise AssertionError(f"{name}: the snapshot has {cut.metrics['events']} events, the warehouse {events}")
    return Night(name, written.rows, events, pulled, cut)


def measure(events: int, root: Path) -> list[Night]:
    """A night of ``events`` events, then one with 1 % more."""
    shop, landing = Shop.of(events), root / "landing" / "interactions"
    settings = f'[source.columns]\nweight = "weight"\n[warehouse]\nmemory_limit = "{MEMORY_LIMIT}"\n'
    root.joinpath("hmamba.toml").write_text(settings, encoding="utf-8")
    first = _night(root, shop.first(landing), last_day() - timedelta(days=1), events, "first")
    more = shop.next(landing)
    return [first, _night(root, more, FIRST_DAY + timedelta(days=DAYS), events + more.events, "1 % new")]


def report(nights: Sequence[Night]) -> str:
    """The tables as Markdown."""
    lines = []
    for night in nights:
        lines.append([night.name, "ingest", f"{night.rows:,}", *night.ingest.cells()])
        lines.append([night.name, "snapshot", f"{night.events:,}", *night.snapshot.cells()])
    first, more = (night.ingest for night in nights)
    seconds, processor = (
        100 * more.metrics["seconds"] / first.metrics["seconds"],
        100 * more.processor / first.processor,
    )
    both = first.metrics["seconds"] + nights[0].snapshot.metrics["seconds"]
    note = (
        f"First night, both steps: {both:.0f} s. Pulling 1 % new events took {seconds:.1f} % of the time of the first "
        f"pull and {processor:.1f} % of its processor time. DuckDB's memory limit: {MEMORY_LIMIT}."
    )
    return "\n\n".join(["## Ingest and snapshot", table(["pull", "step", "rows", *CELLS], lines), note])
