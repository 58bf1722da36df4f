"""Speed relative to peers: medians of rounds in turns, in one run; each result is checked before it is timed.

python -m bench.speed [--quick] [--only encode,search]
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from bench.machine import commit, machine, today
from bench.speed import csv_files, encode, epoch, refresh, rules, scan, search, verify
from bench.speed.rounds import Figure, Hot, hot
from bench.store import ROOT
from bench.tables import table
from hmamba.errors import ConfigError, HMambaError
from hmamba.storage.local import atomic_file

log = logging.getLogger("hmamba")

PARTS = {
    "encode": encode.figures,
    "scan": scan.figures,
    "search": search.figures,
    "refresh": refresh.figures,
    "epoch": epoch.figures,
    "csv": csv_files.figures,
    "verify": verify.figures,
    "rules": rules.figures,
}


def _line(figure: Figure) -> list[str]:
    count, unit = figure.units
    others = [
        f"{name}: {count / seconds:,.0f} (rounds {figure.spread[name]:.2f})" for name, seconds in figure.seconds.items()
    ]
    target = "-" if figure.target is None else f"{figure.target:.2f}"
    return [figure.what, f"**{figure.ratio:.2f}**", target, figure.peer, f"{unit} a second: " + "; ".join(others)]


def report(figures: list[Figure], profiles: list[tuple[Figure, Hot]], command: str) -> str:
    """The tables as Markdown."""
    facts = [["command", f"`{command}`"], ["commit, date", f"{commit()}, {today()}"], ["machine", machine()]]
    note = (
        "Ratio: speed relative to the peer, from the medians of rounds in turns. Rounds: slowest divided by fastest, "
        "which shows how quiet the machine was."
    )
    header = ["", "ratio", "target", "peer", "each way"]
    parts = ["# Speed", table(["", ""], facts), table(header, [_line(f) for f in figures]), note]
    if profiles:
        why = "Functions of our way by their own time, for missed targets, by cProfile."
        parts += ["## Where the time goes", why]
    for figure, hottest in profiles:
        rows = [[f"`{name}`", f"{share:.0%}"] for name, share in hottest]
        parts.append(f"**{figure.what}: {figure.ours}**\n\n{table(['', 'share of the time'], rows)}")
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller and fewer rounds, for a quick check")
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, separated by commas (%(default)s)")
    parser.add_argument("--data", type=Path, help="folder of the data sets, for epoch and search (HMAMBA_DATA)")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="folder (%(default)s)")
    parser.add_argument("--print-only", action="store_true", help="write no file")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    options = parser.parse_args(arguments)
    parts = options.only.split(",")
    try:
        if set(parts) - set(PARTS):
            raise ConfigError(f"--only {options.only}: choose among {', '.join(PARTS)}, with commas.")
        figures: list[Figure] = []
        profiles: list[tuple[Figure, Hot]] = []
        for name in parts:
            options_of = {"data": options.data} if name in ("epoch", "search") else {}
            for figure in PARTS[name](quick=options.quick, **options_of):
                log.info("%s: %.2f times %s", figure.what, figure.ratio, figure.peer)
                if figure.is_missed and figure.way is not None:
                    profiles.append((figure, hot(figure.way)))
                figures.append(replace(figure, way=None))  # frees the way's data
    except HMambaError as error:
        log.error("bench: %s", error)
        return error.exit_code
    given = ["--quick"] * options.quick + ([] if parts == list(PARTS) else ["--only", options.only])
    text = report(figures, profiles, " ".join(["python -m bench.speed", *given]))
    if not options.print_only:
        name = "speed" if parts == list(PARTS) else "-".join(parts)
        with atomic_file(options.out / f"{name}-{today()}.md") as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
