"""The runs behind the tables in bench/results, in one compressed file with a line of JSON for each.

python -m bench.runs unpack    write them where bench.accuracy finds finished runs
python -m bench.runs pack      add the finished runs that are there
"""

from __future__ import annotations

import argparse
import json
import lzma
from pathlib import Path
from typing import Any

from bench.store import ROOT, Store, key_of
from hmamba.storage.local import atomic_file

FILE = ROOT / "bench" / "results" / "runs.jsonl.xz"


def read(file: Path = FILE) -> list[dict[str, Any]]:
    """The runs of a file, each with its identity; none if there is no file."""
    if not file.exists():
        return []
    with lzma.open(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def pack(store: Store, file: Path = FILE) -> int:
    """Add the finished runs of a store to a file, over those of the same identity; returns how many there are."""
    runs = {key_of(run["identity"]): run for run in [*read(file), *store.finished()]}
    text = "".join(json.dumps(runs[key], separators=(",", ":")) + "\n" for key in sorted(runs))
    with atomic_file(file) as temporary:
        temporary.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    return len(runs)


def unpack(store: Store, runs: list[dict[str, Any]]) -> int:
    """Keep runs as finished in a store; returns how many there are."""
    for run in runs:
        store.keep(run["identity"], run)
    return len(runs)


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["pack", "unpack"])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "bench" / "accuracy", help="(%(default)s)")
    options = parser.parse_args(arguments)
    store = Store(options.work)
    with store.alone():
        count = pack(store) if options.action == "pack" else unpack(store, read())
    print(f"{count} runs")


if __name__ == "__main__":
    main()
