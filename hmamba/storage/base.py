"""The storage interface through which files that steps exchange or publish are written, listed and removed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from hmamba.storage.locks import WAIT_SECONDS


class Storage(Protocol):
    """Storage of the files of a root.

    A place is a path under ``root`` that :class:`hmamba.storage.layout.Layout` builds. Content is written atomically: a
    reader finds the old content or the new content. For remote storage, ``root`` is the folder of local copies.
    Documents, models and published tables are read through :meth:`local_path`; the Parquet files of a run's working
    folder are read in place, so a remote storage must keep their copies.

    Plain local files under ``root`` are only those that a library needs in place or that one process keeps for itself:
    ``hmamba.toml``, the DuckDB file and the checkpoints of a training.

    To add a storage, write a module with such a class and register it in :mod:`hmamba.storage.registry`.
    """

    @property
    def root(self) -> Path:
        """The folder that contains every place."""

    def exists(self, place: Path) -> bool:
        """Whether a file or folder exists at ``place``."""

    def find(self, folder: Path, pattern: str) -> list[Path]:
        """Sorted places in a folder whose relative path matches a glob; empty if the folder does not exist.

        Files that are still being written are not listed.
        """

    def local_path(self, place: Path) -> Path:
        """A local file or folder with the content of ``place``, for libraries that read files; do not modify it.

        If ``place`` does not exist, neither does the returned path.
        """

    def digest(self, place: Path, /) -> str:
        """SHA-256 of a file's content, in hex digits."""

    def write_file(self, place: Path, /) -> AbstractContextManager[Path]:
        """Yield a local path for writing; the file appears at ``place`` if the block succeeds and is deleted if not."""

    def write_folder(self, place: Path, /) -> AbstractContextManager[Path]:
        """Yield an empty local folder; it replaces ``place`` as a whole if the block succeeds and is deleted if not."""

    def point(self, pointer: Path, target: Path) -> None:
        """Atomically make ``pointer`` a reference to the file ``target``, which lies below the pointer's folder."""

    def move(self, place: Path, target: Path) -> None:
        """Move a file or folder to a place that does not exist yet."""

    def delete(self, place: Path) -> None:
        """Remove a file, a pointer, or a folder with its content; no error if it does not exist."""

    def lock(
        self, folder: Path, name: str = ".lock", wait_seconds: float = WAIT_SECONDS, *, shared: bool = False
    ) -> AbstractContextManager[None]:
        """Hold a lock during the block, across threads and processes.

        Args:
            folder: folder of the lock; created if missing.
            name: name of the lock; a folder may have several.
            wait_seconds: maximum wait.
            shared: whether others may hold the lock at the same time, if they ask for it as shared too.

        Raises:
            BusyError: another thread or process still holds the lock after the wait.
        """


def write_text(storage: Storage, place: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically."""
    with storage.write_file(place) as path:
        path.write_text(text, encoding="utf-8")
