"""Files as a source: selection of new files by content, and error messages about misplaced files."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path

from hmamba.config import Config
from hmamba.errors import InputError
from hmamba.sources.base import LedgerEntry, Part, Reading, Selection, Source
from hmamba.sources.discover import KINDS, SourceFile, find_files, is_left_alone, kind_of
from hmamba.sources.read import open_file
from hmamba.sources.text import conversion
from hmamba.storage.layout import Layout
from hmamba.storage.local import sha256

SHOWN = 3
_LOOKED_AT = 1_000
"""Maximum number of names outside of the source to examine, since a landing folder may be huge."""


@dataclass(frozen=True, kw_only=True)
class FilePart(Part):
    """A file as a part. Its digest is the SHA-256 of the content, and its lines are lines of the file."""

    file: SourceFile

    @classmethod
    def of(cls, file: SourceFile, digest: str | None = None) -> FilePart:
        """Make a part of a file; without ``digest``, the content is hashed.

        Raises:
            InputError: the file no longer exists, is not readable, or has changed its size since it was found.
        """
        return cls(
            file=file,
            name=file.name,
            size=file.size,
            modified_ns=file.modified_ns,
            digest=hash_of(file) if digest is None else digest,
        )

    def open(self, wanted: Iterable[str]) -> Reading:
        """Open the file for reading, see :func:`hmamba.sources.read.open_file`."""
        return open_file(self.file, wanted)

    def require_unchanged(self) -> None:
        """Check that the content has not changed since selection.

        Raises:
            InputError: the content has changed, or the file no longer exists or is not readable.
        """
        if hash_of(self.file) != self.digest:
            raise _changed(self.file)

    def cure(self, record: str) -> str | None:
        """A sentence that says how to fix an unreadable record of a text file, or None."""
        if "\\x" in record:
            return (
                "Bytes that are not UTF-8 are another encoding's: convert the file "
                f"({conversion(self.file, 'WINDOWS-1252')})."
            )
        if self.file.kind == "csv":
            return (
                "A record has as many fields as the header line; a field that holds the delimiter, quotes or line "
                "breaks is quoted."
            )
        return None


def hash_of(file: SourceFile) -> str:
    """SHA-256 of the current content of a file, in hex digits.

    Raises:
        InputError: the file no longer exists, is not readable, or has changed its size since it was found.
    """
    try:
        found = sha256(file.path)
        size = file.path.stat().st_size
    except OSError as error:
        raise InputError(f"{file.name} cannot be read: {error.strerror}. Restore it, or its permissions.") from None
    if size != file.size:
        raise _changed(file)
    return found


def _changed(file: SourceFile) -> InputError:
    """The error for a file that changes while it is read."""
    return InputError(
        f"{file.name} changed while it was read, and nothing has been loaded. Write it under a name that starts with a "
        "dot and rename it when it is whole; then run ingest again."
    )


class FileSource(Source):
    """The files of ``source.path``, a folder or a glob.

    Raises:
        InputError: the folder does not exist, or a file has an unknown extension.
    """

    def __init__(self, layout: Layout, config: Config) -> None:
        self._layout, self._config = layout, config
        source = config.source
        try:
            self.files = find_files(
                source.path, layout.root, "source.path", follow_links=source.follow_links, limits=source.limits
            )
        except InputError as error:
            raise InputError(f"{error}{self._outside()}") from error

    @property
    def is_empty(self) -> bool:
        """Whether there is no file."""
        return not self.files

    def select(self, entries: Sequence[LedgerEntry], day: date) -> Selection:
        """Select files whose content has not been read under any name, or not through ``day``.

        Files with known content under another name or modification time are selected as duplicates.
        """
        known = {(entry.name, entry.size, entry.modified_ns): entry.digest for entry in entries}
        contents = {entry.digest: entry for entry in entries if entry.state != "duplicate"}
        names = {entry.name for entry in entries if entry.state != "duplicate"}
        taken: dict[str, FilePart] = {}
        duplicates = []
        for file in self.files:
            entered = known.get((file.name, file.size, file.modified_ns))
            if entered is not None and (entered in taken or contents[entered].rest_on(day) is None):
                continue
            part = FilePart.of(file)
            before = contents.get(part.digest)
            rest = None if before is None else before.rest_on(day)
            if part.digest in taken or (before is not None and rest is None):
                duplicates.append(replace(part, state="duplicate", is_new=file.name not in names))
            else:
                is_new = before is None and file.name not in names
                taken[part.digest] = replace(part, is_new=is_new, rest=rest)
        return Selection((*taken.values(), *duplicates), len(self.files) - len(taken))

    def nothing(self, parts: Sequence[Part]) -> InputError:
        """The error if there are no files, or only files without rows; names the pattern and the folder."""
        if parts:
            return no_rows([part.name for part in parts])
        path = self._config.source.path
        place = self._layout.root / path
        where = f"no file matches {place}" if glob.has_magic(path) else f"{place} holds no file, nor do its subfolders"
        return InputError(
            f"Nothing to start from: {where} (source.path = {path!r}; looked for names that end in {', '.join(KINDS)}, "
            "the text ones also with .gz). Put the first files there, or correct the setting."
            f"{self._outside()}"
        )

    def explained(self, error: InputError, parts: Sequence[Part]) -> InputError:
        """Add to an error about a missing column the folders of files that have it, or the setting that was used."""
        files = [part.file for part in parts if isinstance(part, FilePart)]
        failed = next((file for file in files if str(error).startswith(f"{file.name} has no column")), None)
        if failed is None:
            return error
        others = [file for file in files if file.path.parent != failed.path.parent]
        good = sorted({str(Path(file.name).parent) for file in others if self._has_columns(file)})
        if good:
            hint = (
                f"Files that have it lie in {', '.join(good[:SHOWN])}: if {Path(failed.name).parent} holds something "
                f"else, set source.path = {good[0]!r}, or move the file out."
            )
        else:
            hint = f"It was read because source.path = {self._config.source.path!r} includes it and all subfolders."
        return InputError(f"{error} {hint}")

    def _has_columns(self, file: SourceFile) -> bool:
        """Whether a file has the columns of interactions; False for JSON, whose records may all differ."""
        try:
            return open_file(file, self._config.source.columns.wanted).columns is not None
        except (InputError, OSError):
            return False

    def _outside(self) -> str:
        """A sentence that names readable files outside of the source; empty if there are none."""
        layout, catalogue = self._layout, self._config.catalogue.path
        source = layout.root / self._config.source.path
        known = set()
        if catalogue is not None:
            pattern = layout.root / catalogue
            known = {pattern, *map(Path, glob.glob(str(pattern), recursive=True))}  # noqa: PTH207 - absolute
        candidates = [*_entries(layout.root, "*"), *_entries(layout.landing, "**/*")]
        found = [
            path
            for path in dict.fromkeys(candidates)
            if path.is_file()
            and kind_of(path)[0] is not None
            and not is_left_alone(path.name)
            and not known & {path, *path.parents}
            and source not in path.parents
            and path not in (layout.warehouse, layout.config)
        ]
        if not found:
            return ""
        names = ", ".join(path.relative_to(layout.root).as_posix() for path in found[:SHOWN])
        return (
            f" Outside of it lies {names}{_and_more(len(found))}: move files of interactions there, or let source.path "
            "name their folder."
        )


def no_rows(names: Sequence[str]) -> InputError:
    """The error if all files are without rows and the warehouse is empty."""
    return InputError(
        f"Nothing to start from: {', '.join(names[:SHOWN])}{_and_more(len(names))} "
        f"{'holds' if len(names) == 1 else 'hold'} no rows. Put files with the first events there."
    )


def _and_more(count: int) -> str:
    return f" and {count - SHOWN} more" if count > SHOWN else ""


def _entries(folder: Path, pattern: str) -> list[Path]:
    return sorted(islice(folder.glob(pattern), _LOOKED_AT)) if folder.is_dir() else []


def find_catalogue(layout: Layout, config: Config) -> list[SourceFile]:
    """All files of ``catalogue.path``, new or not; empty if the setting is absent.

    Raises:
        InputError: the folder does not exist, or a file has an unknown extension.
    """
    if config.catalogue.path is None:
        return []
    source = config.source
    return find_files(
        config.catalogue.path, layout.root, "catalogue.path", follow_links=source.follow_links, limits=source.limits
    )


def select_catalogue(entries: Sequence[LedgerEntry], files: Sequence[SourceFile], read_as: str) -> Selection:
    """Select all catalogue files if one of them, or ``read_as``, has changed since it was last applied; else none.

    Later files override earlier ones, so they must be applied together. ``read_as`` is a digest of the settings that
    determine how they are read.

    Raises:
        InputError: a file cannot be read.
    """
    last = {entry.name: entry for entry in entries}
    taken = []
    is_new = False
    for file in files:
        before = last.get(file.name)
        is_same = before is not None and (file.size, file.modified_ns) == (before.size, before.modified_ns)
        part = FilePart.of(file, before.digest if before is not None and is_same else None)
        is_new = is_new or before is None or (part.digest, read_as) != (before.digest, before.read_as)
        taken.append(replace(part, is_new=before is None, read_as=read_as))
    return Selection(tuple(taken), 0) if is_new else Selection((), len(files))
