"""Which files there are, and what each claims to be."""

from __future__ import annotations

import glob
import os
from collections import deque
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


def is_left_alone(name: str) -> bool:
    """Whether a file or folder of this name is none of ours: a marker, or something that is still being written."""
    return name.startswith((".", "_")) or ".tmp-" in name


def find_files(pattern: str, root: Path, setting: str, *, follow_links: bool = False) -> list[SourceFile]:
    """Files of a folder (with its subfolders) or a glob, sorted by path.

    Names that start with a dot or an underscore, or hold ``.tmp-``, are left alone, folders with all that they hold.
    Links are followed; a file or folder that several names lead to is read once, under its own name if that is found.

    Args:
        pattern: relative to the root, or absolute; what exists by just this name is no glob, whatever it holds.
        root: the recommender's root.
        setting: name of the setting that holds the pattern, for messages.
        follow_links: whether a link may lead out of the root and of the folder that the pattern names.

    Raises:
        InputError: the folder does not exist or cannot be listed, a file has an ending that is not known or a name that
            is not UTF-8, a link leads nowhere or out of the root, or
            something is no file, such as a named pipe.
    """
    if "://" in pattern:
        raise InputError(
            f"{setting} = {pattern!r}: only files of this machine are read. Mount them, or copy them here."
        )
    if glob.has_magic(pattern) and not (root / pattern).exists():
        base = Path(root.anchor) if Path(pattern).is_absolute() else root
        relative = str(Path(pattern).relative_to(base)) if Path(pattern).is_absolute() else pattern
        fixed = base.joinpath(*_fixed_parts(relative))
        starts = [base / name for name in glob.glob(relative, root_dir=base, recursive=True)]  # noqa: PTH207 - root_dir
        starts = [path for path in starts if not any(map(is_left_alone, path.relative_to(fixed).parts))]
    else:
        fixed = root / pattern
        if fixed.is_file():
            return [_describe(fixed, root)]
        starts = [fixed]
    if not fixed.is_dir():
        raise InputError(f"{setting} = {pattern!r}: {fixed} does not exist. Create it, or correct the setting.")
    search = _Search(root, fixed, follow_links)
    return [_describe(path, root) for path in sorted(search.files(starts))]


def _fixed_parts(pattern: str) -> list[str]:
    """The leading folders of a glob that hold no wildcard."""
    parts = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return parts


class _Search:
    """Files under some folders, each real file and folder once.

    Links wait until everything that needs none has been seen, so that a file keeps its own name, and a link back to a
    folder above it ends there.
    """

    def __init__(self, root: Path, fixed: Path, follow_links: bool) -> None:
        self._root, self._fixed = root, fixed
        self._home = fixed.resolve()
        self._inside = None if follow_links else (root.resolve(), self._home)
        self._seen: set[str] = set()
        self._links: deque[Path] = deque()
        self._found: list[Path] = []

    def files(self, starts: list[Path]) -> list[Path]:
        for start in sorted(starts, key=lambda path: (self._is_by_link(path), len(path.parts), path)):
            self._take(start)
        while self._links:
            self._take(self._links.popleft())
        return self._found

    def _is_by_link(self, path: Path) -> bool:
        """Whether a link lies between the folder that the pattern names and this path."""
        return Path(os.path.realpath(path)) != self._home / path.relative_to(self._fixed)

    def _take(self, path: Path) -> None:
        """A file, a folder, or what a link leads to, unless that holds the folder that the pattern names: a circle."""
        try:
            real = Path(os.path.realpath(path, strict=True))
        except OSError:
            raise InputError(
                f"{shown(path, self._root)} is a link that leads nowhere. Restore what it points to, or remove it."
            ) from None
        if self._inside is not None and not any(real.is_relative_to(folder) for folder in self._inside):
            raise InputError(
                f"{shown(path, self._root)} is a link that leads out of the root, to {real}. Move the files into the "
                "root, or set source.follow_links = true to read them where they are."
            )
        if str(real) in self._seen or real in self._home.parents:
            return
        self._seen.add(str(real))
        if real.is_dir():
            self._list(path)
        elif real.is_file():
            self._found.append(path)
        else:
            raise InputError(
                f"{shown(path, self._root)} is neither a file nor a folder, so it cannot be read. Move it out of the "
                "source."
            )

    def _list(self, folder: Path) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(
                f"{shown(folder, self._root)} cannot be listed: {error.strerror}. Restore its permissions."
            ) from None
        for entry in entries:
            if is_left_alone(entry.name):
                continue
            if entry.is_symlink():
                self._links.append(Path(entry.path))
            else:
                self._take(Path(entry.path))


def shown(path: Path, root: Path) -> str:
    """A path for messages: relative to the root if it lies there. Bytes that are not UTF-8 become backslash escapes."""
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _describe(path: Path, root: Path) -> SourceFile:
    name = shown(path, root)
    if not str(path).isprintable() and any("\udc80" <= character <= "\udcff" for character in str(path)):
        raise InputError(f"{name}: the name is not UTF-8, so no table can hold it. Rename the file or its folder.")
    gzipped = path.suffix.lower() == _GZIP
    suffix = Path(path.stem).suffix.lower() if gzipped else path.suffix.lower()
    kind = KINDS.get(suffix)
    if kind is None or (gzipped and kind == "parquet"):
        raise InputError(
            f"{name}: files of this kind cannot be read. Give it one of the endings {', '.join(KINDS)} "
            "(text also gzipped, with .gz after it), or move it out of the source folder."
        )
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}. Restore it, or its permissions.") from None
    return SourceFile(path, name, kind, gzipped, status.st_size, status.st_mtime_ns)
