"""What the commands that write a page share."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from hmamba.errors import HMambaError
from hmamba.storage.local import atomic_file

log = logging.getLogger("hmamba")


def write_page(path: Path, text: str) -> None:
    """Write a page of results atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    log.info("written to %s", path)


def run_command(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], str], arguments: list[str] | None
) -> int:
    """Print what ``run`` returns for the options, which hold the arguments as ``given``; returns the exit status."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    given = sys.argv[1:] if arguments is None else arguments
    options = parser.parse_args(given, argparse.Namespace(given=given))
    try:
        print(run(options))
    except HMambaError as error:
        log.error("bench: %s", error)
        return error.exit_code
    return 0
