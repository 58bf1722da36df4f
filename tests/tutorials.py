"""Running the pages that teach: commands in ``sh`` blocks, what they print in the ``text`` block after each.

``python -m tests.tutorials docs/tutorial-films.md`` runs a page and writes what its commands print into it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PAIR = re.compile(r"(```sh\n(?P<command>.*?)```\n\n```text\n)(?P<output>.*?)```", re.DOTALL)
HOME = "/home/you"
"""What a page calls the folder that its commands are typed in."""
_MASKS = (
    (r"\(\d+\.\d s\)", "(T s)"),  # what depends on the time that things take
    (r"Done in \d+ s", "Done in T s"),
    (r"items, (flat|matmul)\b", "items, KIND"),
    (r"\b20\d{6}-[0-9a-f]{8}\b", "VERSION"),  # and on the last bits of floating-point numbers
    (r"\b\d+ epochs", "N epochs"),
    (r"(?m)^ *(\d+) .* -?\d+\.\d{4} +\S+ *$", r"\1 ITEM"),
    (r"-?\d+\.\d{4}\b", "FIGURE"),
    (r"[ \t]+", " "),
    (r"(?m) $", ""),
)


def masked(text: str) -> str:
    """``text`` without what depends on the machine."""
    for pattern, replacement in _MASKS:
        text = re.sub(pattern, replacement, text)
    return text.strip()


def run(command: str, folder: Path) -> str:
    """What a command prints, typed in ``folder`` in a terminal of 100 columns. Progress is not part of it."""
    tools = folder.parent / "tools"
    tools.mkdir(exist_ok=True)
    for name, call in (("hmamba", f"{sys.executable} -m jobs.cli"), ("python", sys.executable)):
        (tools / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n', encoding="utf-8")
        (tools / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "100",
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return "".join(line.rstrip() + "\n" for line in done.stdout.splitlines())


def replay(page: str, folder: Path, each: Callable[[str, str, str], None]) -> str:
    """Run the commands of a page in order; returns the page with what they print.

    Args:
        page: its text.
        folder: an empty folder, whose parent may be written as well.
        each: called with every command, what the page says it prints, and what it prints.
    """

    def replaced(match: re.Match[str]) -> str:
        printed = run(match["command"], folder).replace(str(folder), HOME)
        each(match["command"], match["output"], printed)
        return f"{match[1]}{printed}```"

    return PAIR.sub(replaced, page)


def main(paths: list[str]) -> None:
    """Renew the outputs of pages."""
    for path in map(Path, paths):
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made) / "empty"
            folder.mkdir()
            text = replay(path.read_text(encoding="utf-8"), folder, lambda *_: None)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
