"""What ingest and snapshot cost at size: the real steps as processes, a first pull and one of 1 % new events.

python -m bench.scale [--events N] [--quick]
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from bench.machine import commit, machine, today
from bench.scale.data import FIRST_DAY, Shop, Written, last_day
from bench.store import ROOT
from bench.tables import table
from hmamba.files import atomic_file

EVENTS, QUICK = 50_000_000, 300_000


def _step(name: str, root: Path, day: date) -> dict[str, Any]:
    command = [sys.executable, "-m", f"jobs.{name}", "--root", str(root), "--day", day.isoformat()]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def _night(root: Path, written: Written, day: date, events: int, name: str) -> list[dict[str, Any]]:
    """Run both steps, check what they say against what was written; ``events`` is what the warehouse then holds."""
    pulled = _step("ingest", root, day)
    counted = [pulled[f"rows_{kind}"] for kind in ("read", "loaded", "duplicate", "quarantined")]
    expected = [written.rows, written.events, written.copies, written.broken]
    if counted != expected:
        raise AssertionError(f"{name}: read, loaded, duplicate, quarantined are {counted}, but {expected} were written")
    cut = _step("snapshot", root, day)
    if cut["events"] != events:
        raise AssertionError(f"{name}: the snapshot has {cut['events']} events, the warehouse {events}")
    return [{"pull": name, "rows": written.rows, **pulled}, {"pull": name, "rows": events, **cut}]


def measure(events: int, root: Path) -> list[dict[str, Any]]:
    """Facts of ingest and snapshot, first for ``events`` events, then for 1 % more."""
    shop, landing = Shop.of(events), root / "landing" / "interactions"
    root.joinpath("hmamba.toml").write_text('[source.columns]\nweight = "weight"\n', encoding="utf-8")
    first = _night(root, shop.first(landing), last_day() - timedelta(days=1), events, "first")
    more = shop.next(landing)
    return first + _night(root, more, FIRST_DAY + timedelta(days=100), events + more.events, "1 % new")


def report(steps: list[dict[str, Any]], command: str) -> str:
    """The tables as Markdown."""
    facts = [["command", f"`{command}`"], ["commit, date", f"{commit()}, {today()}"], ["machine", machine()]]
    lines = [
        [step["pull"], step["step"], f"{step['rows']:,}", f"{step['seconds']:.1f}", f"{step['peak_bytes'] / 1e9:.2f}"]
        for step in steps
    ]
    ratio = steps[2]["seconds"] / steps[0]["seconds"]
    note = f"Pulling 1 % new events took {100 * ratio:.0f} % of the time of the first pull."
    header = ["pull", "step", "rows", "seconds", "peak of the process, GB"]
    return "\n\n".join(["# A night at size", table(["", ""], facts), table(header, lines), note]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=EVENTS, help="of the first pull, a multiple of 100 (%(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} events")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder (%(default)s)")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    options = parser.parse_args(arguments)
    given = ["--quick"] if options.quick else ["--events", str(options.events)]
    with tempfile.TemporaryDirectory(prefix="hmamba-scale-") as folder:
        steps = measure(QUICK if options.quick else options.events, Path(folder))
    text = report(steps, " ".join(["python -m bench.scale", *given]))
    with atomic_file(options.out / f"scale-{today()}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
