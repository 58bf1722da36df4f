"""Group the given files by their columns, and find a path or pattern that names exactly one group."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import duckdb
import pyarrow as pa

from hmamba.errors import HMambaError, InputError
from hmamba.sources.discover import KINDS, SourceFile, find_files, is_left_alone, kind_of
from hmamba.survey.roles import Profile, Role, candidates, profiles
from hmamba.survey.sample import PEEK, read, samples_of, spread

HEAD_ROWS = 20_000
"""Number of rows that columns are recognised from."""
_MOST_SHAPES = 200
MOST_EMPTY = 10
"""Files of one shape that are opened in search of rows."""
_VARYING = re.compile(r"[0-9a-f]{8,}|\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Group:
    """Files with the same columns. ``head`` holds the first rows; ``roles`` the candidate columns of each role."""

    files: tuple[SourceFile, ...]
    head: pa.Table
    columns: dict[str, Profile]
    roles: dict[Role, list[str]]

    @property
    def size(self) -> int:
        """Size of all files in bytes."""
        return sum(file.size for file in self.files)

    @property
    def shown(self) -> str:
        """The display name."""
        first = self.files[0].path.name
        return first if len(self.files) == 1 else f"{first} and {len(self.files) - 1} more"

    @property
    def is_events(self) -> bool:
        """Whether the files can be interactions: a user, an item, and a time or position."""
        timed = self.roles["event_time"] or self.roles["position"]
        return bool(self.roles["user_id"] and self.roles["item_id"] and timed)


def _is_data(path: Path) -> bool:
    return path.is_file() and kind_of(path)[0] is not None and not is_left_alone(path.name)


def gather(places: Sequence[str]) -> list[Path]:
    """Data files among files, folders (with their subfolders) and globs, sorted. Other files are ignored.

    Raises:
        InputError: a place does not exist, a folder has a link out of it to a file that is not itself a place, or there
            is no data file.
    """
    found: set[Path] = set()
    links: dict[Path, str] = {}
    for place in places:
        path = Path(place).expanduser()
        if path.is_dir():
            inside, outside = files_of(path)
            found.update(inside)
            links.update(dict.fromkeys(outside, place))
        elif path.is_file():
            found.update(filter(_is_data, [path]))
        else:
            matches = [Path(name) for name in glob.glob(str(path), recursive=True)]  # noqa: PTH207 - may be absolute
            if not matches:
                raise InputError(f"--from {place}: no such file or folder. Correct the path.")
            found.update(filter(_is_data, matches))
    for path in links.keys() - found:
        raise InputError(
            f"--from {links[path]}: {path} is a link that leads out of the folder, to {path.resolve()}. Name the link "
            "with --from as well, or remove it."
        )
    if not found:
        raise InputError(
            f"--from {' '.join(places)}: no file with one of the endings {', '.join(KINDS)} (text also with .gz after "
            "it). Give the files or the folder of an export."
        )
    return sorted(path.absolute() for path in found)


def files_of(folder: Path) -> tuple[list[Path], list[Path]]:
    """Data files in a folder and its subfolders, and links to data files out of it."""
    home, paths = folder.resolve(), list(filter(_is_data, folder.rglob("*")))
    inside = {path for path in paths if path.resolve().is_relative_to(home)}
    return sorted(inside), sorted(set(paths) - inside)


def describe(paths: Iterable[Path], root: Path) -> list[SourceFile]:
    """Describe each path as the pull does.

    Raises:
        InputError: the ending of a file is unknown.
    """
    return [file for path in paths for file in find_files(glob.escape(str(path)), root, "--from", follow_links=True)]


def group(
    connection: duckdb.DuckDBPyConnection, files: Sequence[SourceFile], null_words: Sequence[str]
) -> tuple[list[Group], list[str]]:
    """Group files by their columns, the largest group first; also messages about unreadable files.

    Files whose names differ in numbers only are assumed to have the same columns, so one of thousands of parts is read.
    """
    shapes: dict[str, list[SourceFile]] = {}
    for file in files:
        shapes.setdefault(_VARYING.sub("#", str(file.path)), []).append(file)
    groups: dict[tuple[str, ...], Group] = {}
    unreadable = [f"{len(shapes)} kinds of file names: only {_MOST_SHAPES} were read"] * (len(shapes) > _MOST_SHAPES)
    for alike in list(shapes.values())[:_MOST_SHAPES]:
        try:
            head = _head(alike)
            columns = profiles(connection, head, null_words)
        except (HMambaError, OSError, duckdb.Error) as error:
            unreadable.append(str(error).splitlines()[0])
            continue
        key = (alike[0].kind, *sorted(columns))
        before = groups.get(key)
        together = tuple(sorted((*(before.files if before else ()), *alike), key=lambda file: file.path))
        groups[key] = Group(
            together, before.head if before else head, before.columns if before else columns, candidates(columns)
        )
    return sorted(groups.values(), key=lambda one: -one.size), unreadable


def _head(alike: Sequence[SourceFile]) -> pa.Table:
    """The first rows of the first file that has any."""
    for file in alike[:MOST_EMPTY]:
        with samples_of([file], PEEK) as (sample,):
            head = read(sample.file, None, HEAD_ROWS)
        if head.num_rows:
            break
    return head


def pattern_of(files: Sequence[SourceFile], root: Path, given: Sequence[str] = ()) -> str:
    """The value of ``source.path`` that matches exactly these files: a file, a folder or a glob.

    A single file is named itself, unless its folder is among the ``given`` places and holds nothing else: later files
    will be put there. The path is relative to the root if the files are under it, and absolute otherwise.

    Raises:
        InputError: no such path or pattern matches exactly these files.
    """
    under = all(file.path.is_relative_to(root) for file in files)
    paths = [file.path.relative_to(root) if under else file.path for file in files]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    names = [path.name for path in paths]
    start = "".join(first[0] for first in takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False)))
    endings = {"".join(re.findall(r"\.(?:parquet|csv|json|jsonl|ndjson)(?:\.gz)?$", name.lower())) for name in names}
    ending = endings.pop() if len(endings) == 1 else ""
    start = start[: len(start) - len(ending)].rstrip("0123456789") if start.lower().endswith(ending) else start
    folders = [Path(place).expanduser().absolute() for place in given]
    escaped = Path(glob.escape(str(common)))
    tries = [
        *([common] if len(paths) > 1 or root / common in folders else []),
        *([paths[0]] if len(paths) == 1 else []),
        escaped / f"*{ending}",
        escaped / f"{glob.escape(start)}*{ending}",
        escaped / f"**/*{ending}",
        escaped / f"**/{glob.escape(start)}*{ending}",
    ]
    for pattern in map(Path.as_posix, tries):
        if {file.path for file in _matches(pattern, root)} == {root / path for path in paths}:
            return pattern
    raise InputError(
        f"No folder or pattern matches {files[0].path} and the {len(paths) - 1} other files with its columns, and no "
        "others. Put them into a folder of their own and give that."
    )


def widened(file: Path, root: Path) -> str | None:
    """A pattern for ``source.path`` that matches a file and later ones beside it; None if it matches other columns too.

    The pattern replaces a date or number at the end of the name by ``*``.
    """
    start, dot, endings = file.name.partition(".")
    folder = file.parent.relative_to(root) if file.is_relative_to(root) else file.parent
    name = f"{glob.escape(start.rstrip('0123456789-_'))}*{dot}{endings}"
    pattern = (Path(glob.escape(str(folder))) / name).as_posix()
    found = {_columns(one) for one in spread(_matches(pattern, root))}
    return pattern if len(found) == 1 and None not in found else None


def _columns(file: SourceFile) -> frozenset[str] | None:
    """Names of a file's columns; None if it cannot be read."""
    try:
        return frozenset(_head([file]).column_names)
    except (HMambaError, OSError):
        return None


def needs_links(pattern: str, root: Path) -> bool:
    """Whether a pattern matches files through links, which ``source.follow_links`` must allow."""
    try:
        find_files(pattern, root, "source.path")
    except InputError:
        return True
    return False


def _matches(pattern: str, root: Path) -> list[SourceFile]:
    try:
        return find_files(pattern, root, "source.path", follow_links=True)
    except InputError:  # the folder holds files of other kinds too
        return []
