"""Small file systems in memory, to fill them. Only root may mount them; elsewhere this kind of fault is left out."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

_BLOCK = 4096


@cache
def can_mount() -> bool:
    """Whether this process may mount a file system."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if _run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)) != 0:
            return False
        unmount(place)
        return True


def size_of(folder: Path) -> int:
    """Size of a folder's files in whole blocks."""
    sizes = [path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return sum(-(-size // _BLOCK) for size in sizes) * _BLOCK


def mount(place: Path, size: int) -> None:
    """Mount a file system of ``size`` bytes."""
    assert _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)) == 0


def enlarge(place: Path) -> None:
    """Give it all the room that is needed."""
    assert _run("mount", "-o", "remount,size=1g", str(place)) == 0


def unmount(place: Path) -> None:
    """Unmount what is mounted at a place, if anything is."""
    if place.is_mount():
        _run("umount", str(place))


def _run(*command: str) -> int:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode
    except FileNotFoundError:
        return 1
