"""The files of a pull, and what to say where they do not lie where they should."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hmamba.config import Config
from hmamba.errors import InputError
from hmamba.sources.discover import KINDS, SourceFile, find_files, is_left_alone
from hmamba.sources.read import open_file
from hmamba.storage.layout import Layout

SHOWN = 3
_LOOKED_AT = 1_000
"""Names outside of the source that are looked at, at most: a landing folder may be huge."""


@dataclass(frozen=True)
class Found:
    """Files that are there, whether or not they are new."""

    interactions: tuple[SourceFile, ...]
    catalogue: tuple[SourceFile, ...]


def find(layout: Layout, config: Config) -> Found:
    """Look for files, without reading any.

    Raises:
        InputError: a folder does not exist, or a file has an unknown ending.
    """
    follow_links = config.source.follow_links
    try:
        interactions = find_files(config.source.path, layout.root, "source.path", follow_links=follow_links)
    except InputError as error:
        raise InputError(f"{error}{_outside(layout, config)}") from error
    catalogue = []
    if config.catalogue.path is not None:
        catalogue = find_files(config.catalogue.path, layout.root, "catalogue.path", follow_links=follow_links)
    return Found(tuple(interactions), tuple(catalogue))


def nothing_found(layout: Layout, config: Config) -> InputError:
    """The error where there is no file at all, and nothing in the warehouse either: what was looked for, and where."""
    path = config.source.path
    place = layout.root / path
    where = f"no file matches {place}" if glob.has_magic(path) else f"{place} holds no file, nor do its subfolders"
    return InputError(
        f"Nothing to start from: {where} (source.path = {path!r}; looked for names that end in {', '.join(KINDS)}, the "
        f"text ones also with .gz). Put the first files there, or correct the setting.{_outside(layout, config)}"
    )


def no_rows(files: Sequence[SourceFile]) -> InputError:
    """The error where there are files, but not one row in any, and nothing in the warehouse either."""
    names = ", ".join(file.name for file in files[:SHOWN])
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return InputError(
        f"Nothing to start from: {names}{more} {'holds' if len(files) == 1 else 'hold'} no rows. Put files with the "
        "first events there."
    )


def _outside(layout: Layout, config: Config) -> str:
    """A sentence about files that could be read, but lie outside of the source; empty if there are none."""
    source = layout.root / config.source.path
    known = set()
    if config.catalogue.path is not None:
        pattern = layout.root / config.catalogue.path
        known = {pattern, *map(Path, glob.glob(str(pattern), recursive=True))}  # noqa: PTH207 - absolute
    candidates = [*_entries(layout.root, "*"), *_entries(layout.landing, "**/*")]
    found = [
        path
        for path in dict.fromkeys(candidates)
        if path.is_file()
        and _is_readable(path)
        and not known & {path, *path.parents}
        and source not in path.parents
        and path not in (layout.warehouse, layout.config)
    ]
    if not found:
        return ""
    names = ", ".join(path.relative_to(layout.root).as_posix() for path in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f" Outside of it lies {names}{more}: move files of interactions there, or let source.path name their folder."


def _entries(folder: Path, pattern: str) -> list[Path]:
    return sorted(islice(folder.glob(pattern), _LOOKED_AT)) if folder.is_dir() else []


def _is_readable(path: Path) -> bool:
    """Whether the name ends as that of a source file does, and is of nothing half written."""
    ending = Path(path.stem).suffix if path.suffix.lower() == ".gz" else path.suffix
    return ending.lower() in KINDS and not is_left_alone(path.name)


def misplaced(error: InputError, files: Sequence[SourceFile], config: Config) -> str | None:
    """What to add to an error about a file of a pull that lacks a column; None if the error is about something else.

    Says where the files lie that have it, or why the file was read at all.
    """
    failed = next((file for file in files if str(error).startswith(f"{file.name} has no column")), None)
    if failed is None:
        return None
    others = [file for file in files if file.path.parent != failed.path.parent]
    good = sorted({str(Path(file.name).parent) for file in others if _has_columns(file, config)})
    if good:
        return (
            f"Files that have it lie in {', '.join(good[:SHOWN])}: if {Path(failed.name).parent} holds something else, "
            f"set source.path = {good[0]!r}, or move the file out."
        )
    return f"It was read because source.path = {config.source.path!r} includes it, subfolders and all."


def _has_columns(file: SourceFile, config: Config) -> bool:
    """Whether a file can be read as interactions. Of JSON, whose records have their own members, nothing is known."""
    try:
        return open_file(file, config.source.columns.wanted).columns is not None
    except (InputError, OSError):
        return False
