"""Which files there are, and what each claims to be."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from hmamba.errors import InputError

KINDS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
_GZIP = ".gz"


@dataclass(frozen=True)
class SourceFile:
    """A file as it was when it was found.

    ``name`` is its path relative to the root if it lies there, absolute otherwise: what the ledger and messages say.
    """

    path: Path
    name: str
    kind: str
    gzipped: bool
    size: int
    modified_ns: int


def _is_temporary(path: Path, base: Path) -> bool:
    return any(part.startswith(".") or ".tmp-" in part for part in path.relative_to(base).parts)


def _describe(path: Path, root: Path) -> SourceFile:
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    gzipped = path.suffix.lower() == _GZIP
    suffix = Path(path.stem).suffix.lower() if gzipped else path.suffix.lower()
    kind = KINDS.get(suffix)
    if kind is None or (gzipped and kind == "parquet"):
        raise InputError(
            f"{name}: files of this kind cannot be read. Give it one of the endings {', '.join(KINDS)} "
            "(text also gzipped, with .gz after it), or move it out of the source folder."
        )
    status = path.stat()
    return SourceFile(path, name, kind, gzipped, status.st_size, status.st_mtime_ns)


def find_files(pattern: str, root: Path, setting: str) -> list[SourceFile]:
    """Files of a folder (with its subfolders) or a glob, sorted by path.

    Names that start with a dot or hold ``.tmp-`` are being written by somebody and are left alone.

    Args:
        pattern: relative to the root, or absolute.
        root: the recommender's root.
        setting: name of the setting that holds the pattern, for messages.

    Raises:
        InputError: the folder does not exist, or a file has an ending that is not known.
    """
    if glob.has_magic(pattern):
        base = Path(root.anchor) if Path(pattern).is_absolute() else root
        relative = str(Path(pattern).relative_to(base)) if Path(pattern).is_absolute() else pattern
        fixed = base.joinpath(*_fixed_parts(relative))
        found = [Path(name) for name in glob.glob(str(base / relative), recursive=True)]  # noqa: PTH207 - absolute
    else:
        fixed = root / pattern
        if fixed.is_file():
            return [_describe(fixed, root)]
        found = list(fixed.rglob("*"))
    if not fixed.is_dir():
        raise InputError(f"{setting} = {pattern!r}: {fixed} does not exist. Create it, or correct the setting.")
    files = sorted(path for path in found if path.is_file() and not _is_temporary(path, fixed))
    return [_describe(path, root) for path in files]


def _fixed_parts(pattern: str) -> list[str]:
    """The leading folders of a glob that hold no wildcard."""
    parts = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts
