"""The page about one run: a table of the parts first, then every figure."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.gpu.record import shown, verdict
from bench.gpu.runner import ROOT, UNFINISHED, Result


def exit_code(results: Sequence[Result]) -> int:
    """0: nothing failed; 1: something did; 3: nothing failed, but something was not finished in time."""
    states = {result.status for result in results}
    return 1 if "FAILED" in states else 3 if UNFINISHED in states else 0


def card(results: Sequence[Result]) -> str:
    """The card's name as a part of a file's name; ``unknown`` where no part could tell."""
    for result in results:
        for entry in result.entries:
            if entry["what"] == "card":
                name = str(entry["figures"]["card"]).removeprefix("NVIDIA ").lower()
                return re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    return "unknown"


def commit() -> str:
    """The commit of this checkout, ``unknown`` without git; a tree with changes says so."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def page(results: Sequence[Result], *, data: str, seconds: float) -> str:
    """The whole page as Markdown."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        f"# GPU check: {card(results)}",
        "",
        f"{now}, commit {commit()}, {seconds:.0f} s in all. Data: {data}. Made by `make gpu-check`.",
        "",
        "| Part | Result | Checks | Not run | Seconds |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        checks = [entry for entry in result.entries if entry["kind"] == "check"]
        passed = sum(entry["passed"] for entry in checks)
        skipped = sum(entry["kind"] == "skip" for entry in result.entries)
        count = f"{passed} of {len(checks)} passed" if checks else "none"
        lines.append(f"| {result.part.title} | {result.status} | {count} | {skipped} | {result.seconds:.0f} |")
    for result in results:
        lines += ["", f"## {result.part.title}", ""]
        if result.entries:
            lines += ["| What | Result | Figures |", "|---|---|---|"]
        for entry in result.entries:
            cells = (entry["what"], verdict(entry), shown(entry.get("figures", {})))
            lines.append("| " + " | ".join(_cell(str(cell)) for cell in cells) + " |")
        if result.trouble:
            lines += [
                "",
                "The end of what it wrote to standard error:",
                "",
                "```text",
                result.trouble.replace(str(ROOT), "."),
                "```",
            ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def write(text: str, name: str, folders: Sequence[Path]) -> list[Path]:
    """Write the page into each folder; returns the files."""
    written = []
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written
