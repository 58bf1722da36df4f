"""Sizes on disk."""

from __future__ import annotations

from pathlib import Path


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; 0 if it does not exist. Links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size if path.is_symlink() or path.exists() else 0
    return sum(size_of(entry) for entry in path.iterdir())


def shown(size: int) -> str:
    """A size in words, such as "1.3 MB"."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
