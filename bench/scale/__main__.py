"""Time and memory of a night on large synthetic data, with the real steps as processes.

python -m bench.scale [--events N] [--users N,N] [--workers N,N] [--quick] [--only nights|scoring]
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from pathlib import Path

from bench.machine import commit, machine, today
from bench.scale import nights, scoring
from bench.scale.data import DAYS
from bench.store import ROOT
from bench.tables import table
from hmamba.storage.local import atomic_file

EVENTS, QUICK_EVENTS = 50_000_000, 300_000
USERS, QUICK_USERS = (100_000, 1_000_000), (2_000, 8_000)
NIGHTS, SCORING = "nights", "scoring"


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}: give whole numbers from 1, with commas between them")
    return tuple(map(int, parts))


def _events(text: str) -> int:
    if not text.isdecimal() or not int(text) or int(text) % DAYS:
        raise argparse.ArgumentTypeError(f"{text!r}: give a multiple of {DAYS}, the number of days of the first pull")
    return int(text)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=_events, help=f"events of the first pull, a multiple of {DAYS} ({EVENTS})")
    parser.add_argument("--users", type=_numbers, help="numbers of users to score, one after another (100000,1000000)")
    parser.add_argument(
        "--shards",
        type=int,
        choices=range(1, scoring.SHARDS + 1),
        help=f"number of shards to score (all {scoring.SHARDS})",
    )
    parser.add_argument(
        "--workers", type=_numbers, help="numbers of shards to score in parallel, each measured (cores)"
    )
    parser.add_argument("--only", choices=(NIGHTS, SCORING), help="ingest and snapshot, or index and score")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_EVENTS:,} events, few users")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder (%(default)s)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _options().parse_args(given)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    shown = " ".join(["python -m bench.scale", *given]).partition(" --out")[0]
    facts = [["command", f"`{shown}`"], ["commit, date", f"{commit()}, {today()}"], ["machine", machine()]]
    parts = ["# A night on large data", table(["", ""], facts)]
    if options.only != SCORING:
        events = options.events or (QUICK_EVENTS if options.quick else EVENTS)
        with tempfile.TemporaryDirectory(prefix="hmamba-scale-") as folder:
            parts.append(nights.report(nights.measure(events, Path(folder))))
    if options.only != NIGHTS:
        measured, workers = [], options.workers or (len(os.sched_getaffinity(0)),)
        for users in options.users or (QUICK_USERS if options.quick else USERS):
            with tempfile.TemporaryDirectory(prefix="hmamba-scale-") as folder:
                measured.append(scoring.measure(users, Path(folder), options.shards, workers))
        parts.append(scoring.report(measured))
    text = "\n\n".join(parts) + "\n"
    name = "-".join(["scale", *([options.only] if options.only else []), today()])
    with atomic_file(options.out / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
