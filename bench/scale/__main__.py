"""What a night costs at size: the real steps as processes, on a shop that is made up.

python -m bench.scale [--events N] [--quick]
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from bench.machine import commit, machine, today
from bench.scale import nights
from bench.store import ROOT
from bench.tables import table
from hmamba.files import atomic_file

EVENTS, QUICK = 50_000_000, 300_000


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=EVENTS, help="of the first pull, a multiple of 100 (%(default)s)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} events")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder (%(default)s)")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    options = parser.parse_args(arguments)
    given = ["--quick"] if options.quick else ["--events", str(options.events)]
    command = " ".join(["python -m bench.scale", *given])
    facts = [["command", f"`{command}`"], ["commit, date", f"{commit()}, {today()}"], ["machine", machine()]]
    with tempfile.TemporaryDirectory(prefix="hmamba-scale-") as folder:
        part = nights.report(nights.measure(QUICK if options.quick else options.events, Path(folder)))
    text = "\n\n".join(["# A night at size", table(["", ""], facts), part]) + "\n"
    with atomic_file(options.out / f"scale-{today()}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
