"""Digests of files that one step writes and another reads.

A reader verifies a file when it opens it, so that damage ends the step instead of changing its results.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Self

from hmamba.contracts.document import Document, Part
from hmamba.errors import InputError
from hmamba.storage.local import digest, sha256
from hmamba.storage.run_layout import CONTENTS


class HashedFile(Part):
    """A file with its size and digest. ``name`` is relative to a folder that the document defines."""

    name: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path, name: str | None = None) -> HashedFile:
        """Describe a local file; ``name`` is its own name if None."""
        return HashedFile(name=name or path.name, bytes=path.stat().st_size, sha256=sha256(path))

    def verified(self, path: Path, cure: str, name: Path | None = None) -> Path:
        """Return ``path`` if it is this file.

        Args:
            path: a local file.
            cure: what to do otherwise; the last sentence of the error message.
            name: the file to name in the message, if ``path`` is a copy of it.

        Raises:
            InputError: it is missing, is no file, or its content has another digest.
        """
        shown = name or path
        if not path.is_file():
            raise InputError(f"{shown} does not exist. {cure}")
        size = path.stat().st_size
        if size != self.bytes:
            raise InputError(f"{shown} is damaged: it has {size} bytes and was written with {self.bytes}. {cure}")
        if sha256(path) != self.sha256:
            raise InputError(f"{shown} is damaged: its content is not what was written (SHA-256). {cure}")
        return path


class Contents(Document):
    """The files of a folder, which are complete and unchanged if :meth:`verify` returns."""

    files: tuple[HashedFile, ...]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Describe all files of a local folder and of the folders in it, but no earlier description."""
        paths = [path for path in _files(folder) if path != folder / CONTENTS]
        return cls(files=tuple(HashedFile.of(path, path.relative_to(folder).as_posix()) for path in paths))

    @property
    def digest(self) -> str:
        """Digest of names and contents, in hex digits."""
        return digest_of(self.files)

    def verify(self, folder: Path, cure: str, others: Collection[str] = ()) -> None:
        """Compare a local folder with this description.

        Args:
            folder: the folder.
            cure: the last sentence of the error message.
            others: names of files in the folder that are not described.

        Raises:
            InputError: a file is missing, changed, or too many.
        """
        for file in self.files:
            file.verified(folder / file.name, cure)
        known = {file.name for file in self.files} | {CONTENTS, *others}
        for path in _files(folder):
            if path.relative_to(folder).as_posix() not in known:
                raise InputError(f"{path} does not belong there: {folder / CONTENTS} does not name it. {cure}")


def _files(folder: Path) -> list[Path]:
    """All files of a folder, without hidden ones, which are being written or were left by a killed process."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def digest_of(files: Iterable[HashedFile]) -> str:
    """Digest of the names and contents of files, in hex digits."""
    return digest([[file.name, file.sha256] for file in files])
