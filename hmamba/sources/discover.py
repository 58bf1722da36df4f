"""Find the files of a source, with the format that their names indicate."""

from __future__ import annotations

import glob
import os
from collections import deque
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from hmamba.config import Limits
from hmamba.errors import InputError
from hmamba.text import escaped

KINDS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
_LIMITS = Limits()


@dataclass(frozen=True)
class SourceFile:
    """A file as it was when it was found.

    ``name``, used in the ledger and messages, is the path relative to the root if it is inside, else the absolute path.
    ``limits`` bound what reading it may take.
    """

    path: Path
    name: str
    kind: str
    gzipped: bool
    size: int
    modified_ns: int
    limits: Limits = _LIMITS


def is_left_alone(name: str) -> bool:
    """Whether a file or folder with this name is ignored: a marker, or a file that is still being written."""
    return name.startswith((".", "_")) or ".tmp-" in name


def kind_of(path: Path) -> tuple[str | None, bool]:
    """The format that a file's name indicates, None if it is unknown, and whether the file is gzipped."""
    gzipped = path.suffix.lower() == ".gz"
    return KINDS.get((Path(path.stem) if gzipped else path).suffix.lower()), gzipped


def find_files(
    pattern: str, root: Path, setting: str, *, follow_links: bool = False, limits: Limits = _LIMITS
) -> list[SourceFile]:
    """Find the files of a folder (with its subfolders) or a glob, sorted by path.

    Files and folders whose names start with a dot or an underscore, or contain ``.tmp-``, are ignored. Symbolic links
    are followed. A file or folder with several names is read once, under its real name if that is found.

    Args:
        pattern: relative to the root, or absolute; an existing path is not a glob, even if it contains wildcards.
        root: the recommender's root.
        setting: name of the setting that contains the pattern, for messages.
        follow_links: whether links may point outside of both the root and the folder in the pattern.
        limits: bounds on what reading each file may take.

    Raises:
        InputError: the folder does not exist or cannot be listed; a file has an unknown extension or a name that is not
            UTF-8; a link is dangling or points outside of the root; or an entry is not a file, such as a named pipe.
    """
    if "://" in pattern:
        raise InputError(
            f"{setting} = {pattern!r}: only files of this machine are read. Mount them, or copy them here."
        )
    if glob.has_magic(pattern) and not (root / pattern).exists():
        base = Path(root.anchor) if Path(pattern).is_absolute() else root
        relative = str(Path(pattern).relative_to(base)) if Path(pattern).is_absolute() else pattern
        fixed = base.joinpath(*takewhile(lambda part: not glob.has_magic(part), Path(relative).parts[:-1]))
        starts = [base / name for name in glob.glob(relative, root_dir=base, recursive=True)]  # noqa: PTH207 - root_dir
        starts = [path for path in starts if not any(map(is_left_alone, path.relative_to(fixed).parts))]
    else:
        fixed = root / pattern
        if fixed.is_file():
            return [_describe(fixed, root, limits)]
        starts = [fixed]
    if not fixed.is_dir():
        raise InputError(f"{setting} = {pattern!r}: {fixed} does not exist. Create it, or correct the setting.")
    search = _Search(root, fixed, follow_links)
    return [_describe(path, root, limits) for path in sorted(search.files(starts))]


class _Search:
    """Search for the files under some folders; each real file and folder is visited once.

    Links are followed after everything that is reachable without them, so that a file keeps its real name, and a link
    to a parent folder adds nothing.
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
        """Whether the path below the folder in the pattern contains a link."""
        return Path(os.path.realpath(path)) != self._home / path.relative_to(self._fixed)

    def _take(self, path: Path) -> None:
        """Visit a file, a folder, or the target of a link, except a parent of the searched folder (a cycle)."""
        try:
            real = Path(os.path.realpath(path, strict=True))
        except OSError:
            raise InputError(
                f"{shown(path, self._root)} is a link that leads nowhere. Restore what it points to, or remove it."
            ) from None
        if self._inside is not None and not any(real.is_relative_to(folder) for folder in self._inside):
            raise InputError(
                f"{shown(path, self._root)} is a link that leads out of the root, to {escaped(str(real))}. Move the "
                "files into the root, or set source.follow_links = true to read them where they are."
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
    """A path for messages, relative to the root if inside. Controls and bytes that are not UTF-8 become escapes."""
    return escaped(os.fsencode(_name(path, root)).decode("utf-8", "backslashreplace"))


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _describe(path: Path, root: Path, limits: Limits) -> SourceFile:
    name = shown(path, root)
    if not str(path).isprintable() and any("\udc80" <= character <= "\udcff" for character in str(path)):
        raise InputError(f"{name}: the name is not UTF-8, so it cannot be stored. Rename the file or its folder.")
    if name != _name(path, root):
        raise InputError(
            f"{name}: the name has characters that control a terminal or the direction of text. Rename the file or its "
            "folder."
        )
    kind, gzipped = kind_of(path)
    if kind is None or (gzipped and kind == "parquet"):
        raise InputError(
            f"{name}: files of this kind cannot be read. Give it one of the endings {', '.join(KINDS)} "
            "(text also gzipped, with .gz after it), or move it out of the source folder."
        )
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}. Restore it, or its permissions.") from None
    return SourceFile(path, name, kind, gzipped, status.st_size, status.st_mtime_ns, limits)
