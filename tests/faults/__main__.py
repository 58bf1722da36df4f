"""Run the fault matrix and print its table.

python -m tests.faults --cases 1000 --workers 2
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.faults import processes
from tests.faults.cases import Case, Result, attempt, matrix, random_kinds
from tests.faults.named import NAMED
from tests.faults.world import STEPS, World, build


def _try(case: Case, world: World, folder: str) -> Result:
    with tempfile.TemporaryDirectory(dir=folder) as own:
        Path(own).chmod(0o755)
        return attempt(case, world, Path(own))


def run_all(cases: Sequence[Case], world: World, folder: Path, workers: int) -> list[Result]:
    """Try all cases, several at once, with a line a minute on standard error."""
    results: list[Result] = []
    started = shown = time.monotonic()
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        for result in pool.map(_try, cases, [world] * len(cases), [str(folder)] * len(cases)):
            results.append(result)
            if result.end == "failed":
                print(f"FAILED {result.case}: {result.why}", file=sys.stderr, flush=True)
            if time.monotonic() - shown > 60:
                shown = time.monotonic()
                print(f"{len(results)} of {len(cases)} cases, {shown - started:.0f} s", file=sys.stderr, flush=True)
    return results


def table(results: Sequence[Result]) -> str:
    """Survived and all cases by kind of fault and step, as Markdown."""
    tried = Counter((result.case.kind, result.case.step.partition("-")[0]) for result in results)
    failed = Counter((r.case.kind, r.case.step.partition("-")[0]) for r in results if r.end == "failed")
    steps = list(dict.fromkeys(step.partition("-")[0] for step in STEPS))
    lines = [f"| fault | {' | '.join(steps)} | all |", "|" + "---|" * (len(steps) + 2)]
    for kind in random_kinds():
        row = [tried[kind, step] - failed[kind, step] for step in steps]
        whole = [tried[kind, step] for step in steps]
        shown = [f"{good} of {all_}" for good, all_ in zip([*row, sum(row)], [*whole, sum(whole)], strict=True)]
        lines.append(f"| {kind} | {' | '.join(shown)} |")
    named = [r for r in results if r.case.kind in NAMED]
    lines += ["", "| once silent | step | now |", "|---|---|---|"]
    lines += [f"| {r.case.kind} | {r.case.step.partition('-')[0]} | {r.end} |" for r in named]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the matrix; returns 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=1000, help="number of cases (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the choice of cases (%(default)s)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="cases at once (%(default)s)")
    parser.add_argument("--only", default="", help="only cases whose name contains this text")
    given = parser.parse_args(arguments)
    processes.prepare()
    with tempfile.TemporaryDirectory(prefix="hmamba-faults-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        world = build(folder / "world")
        cases = [case for case in matrix(world, given.seed, given.cases) if given.only in str(case)]
        results = run_all(cases, world, folder, given.workers)
    ends = Counter(result.end for result in results)
    print(table(results))
    print(f"\n{len(results)} cases (seed {given.seed}): " + ", ".join(f"{ends[end]} {end}" for end in sorted(ends)))
    return 1 if ends["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
