"""Running the command line inside the test's process."""

from __future__ import annotations

from jobs.cli import main


def call(*arguments: str) -> int:
    """Run the command line; its exit status."""
    try:
        return main(list(arguments))
    except SystemExit as left:
        return int(left.code or 0)
