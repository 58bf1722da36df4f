"""Everything that only a GPU can show: ``python -m bench.gpu``, from the root of a checkout."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from bench.gpu import data, report
from bench.gpu.parts import PARTS, run_here
from bench.gpu.runner import ROOT, run_parts
from hmamba.errors import HMambaError, InputError
from hmamba.sequences.histories import Histories

LIMIT_SECONDS = 450.0
RESULTS = ROOT / "bench" / "results"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--data", type=Path, help="Parquet file of interactions; without one a shop is made up")
    parser.add_argument("--out", type=Path, help="folder for a further copy of the page")
    parser.add_argument("--site", type=Path, help="folder or wheel with packages that are not installed (mamba_ssm)")
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"some of {', '.join(p.name for p in PARTS)}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries the parts out")
    parser.add_argument("--tiny", action="store_true", help="sizes for which a CPU needs seconds")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds for everything (default: 450)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser


def _histories(given: argparse.Namespace) -> tuple[Histories, str]:
    if given.data is not None:
        histories = data.read(given.data)
        name = given.data.parent.name or given.data.name
    else:
        histories = data.synthetic(40, 30, 60, days=30) if given.tiny else data.synthetic()
        name = "made up"
    return histories, f"{name}, {len(histories):,} users, {histories.events:,} events"


def _site(given: Path | None, folder: Path) -> Path | None:
    """The folder to import from; wheels, given or lying in the folder that is given, are unpacked first.

    Raises:
        InputError: there is no such file or folder.
    """
    if given is None:
        return None
    if not given.exists():
        raise InputError(f"--site {given} does not exist. Give a folder that holds mamba_ssm, or its wheel.")
    wheels = [given] if given.is_file() else sorted(given.glob("*.whl"))
    if not wheels:
        return given.resolve()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder / "site")
    return folder / "site"


def check(given: argparse.Namespace) -> int:
    """Run the parts and write the page; returns the exit status.

    Raises:
        InputError: a part or a file that is named does not exist.
    """
    started = time.monotonic()
    unknown = set(given.only or ()) - {part.name for part in PARTS}
    if unknown:
        raise InputError(f"--only {' '.join(sorted(unknown))}: give some of {', '.join(p.name for p in PARTS)}.")
    if given.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError(
                f"torch {torch.__version__} sees no CUDA device, so there is nothing to check here. "
                "To try the parts out on the CPU: python -m bench.gpu --device cpu --tiny"
            )
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as name:
        folder = Path(name)
        histories, described = _histories(given)
        data.save(histories, folder / data.HISTORIES)
        print(f"data: {described}", flush=True)
        options = ["--device", given.device, *(["--tiny"] if given.tiny else [])]
        site = _site(given.site, folder)
        options += [] if site is None else ["--site", str(site)]
        parts = [part for part in PARTS if given.only is None or part.name in given.only]
        results = run_parts(parts, folder, options, given.limit - (time.monotonic() - started))
    text = report.page(results, data=described, seconds=time.monotonic() - started)
    # A trial on a CPU is no result to keep.
    folders = [RESULTS] if given.device == "cuda" and not given.tiny else []
    folders += [given.out] if given.out is not None else []
    for path in report.write(text, f"gpu-{report.card(results)}.md", folders):
        print(f"written: {path}")
    print("\n".join(text.splitlines()[: 6 + len(results)]), flush=True)
    return report.exit_code(results)


def main(arguments: list[str] | None = None) -> int:
    """Run the check, or one part of it for the process that was started for that."""
    given = _parser().parse_args(arguments)
    try:
        if given.part is not None:
            run_here(given.part, given.folder, given.device, tiny=given.tiny, site=given.site)
            return 0
        return check(given)
    except HMambaError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
