"""Damage to files: what disks, copies and people do to them."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

HOW = ("flip", "cut", "empty", "remove", "other", "folder")
"""One bit, the end, everything, the file itself; another file in its place; a folder in its place."""

_INPUT = ("landing/", "hmamba.toml")
"""What belongs to the source and to the user: other content there is another night, not damage."""
_DERIVED = ("reports/",)
"""What no step reads."""


def targets(root: Path) -> list[Path]:
    """Files of a root that a step may read, relative to it, sorted; no links."""
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if not path.as_posix().startswith((*_INPUT, *_DERIVED)))


def kind_of(path: Path) -> str:
    """The kind of a file: its path without days, versions, numbers and digests."""
    text = re.sub(r"\d{8}-[0-9a-f]{8}", "VERSION", path.as_posix())
    text = re.sub(r"\d{4}-\d\d-\d\d", "DAY", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{16,}", "ID", text)
    return re.sub(r"\d+", "N", text)


def damage(root: Path, path: Path, how: str, chance: random.Random) -> None:
    """Damage a file of a root.

    Args:
        root: the root.
        path: the file, relative to the root.
        how: one of ``HOW``.
        chance: chooses the bit, the length and the other file.
    """
    file = root / path
    content = file.read_bytes()
    if how == "flip" and content:
        place = chance.randrange(len(content))
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :])
    elif how == "cut":
        file.write_bytes(content[: chance.randrange(len(content))] if content else b"")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "other":
        others = [other for other in targets(root) if other.suffix == path.suffix and other != path]
        alike = [other for other in others if kind_of(other) == kind_of(path)]  # of another day, version or shard
        others = alike if alike and chance.random() < 0.75 else others
        shutil.copyfile(root / chance.choice(others), file) if others else file.write_bytes(b"{}")
    else:
        file.unlink()
        if how == "folder":
            file.mkdir()
