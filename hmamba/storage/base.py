"""What a root is kept in: the one interface through which everything under it is written, listed and removed."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol


class Storage(Protocol):
    """Where everything under a root is kept.

    A place is a path under ``root`` that :class:`hmamba.storage.layout.Layout` builds. What lies there is read through
    :meth:`local_path`, and is written whole or not at all: a reader finds the old content or the new one. Of a storage
    that is no local folder, ``root`` is the folder in which it keeps local copies.

    What only the process that writes it reads, such as the checkpoints of a training, may lie beside it as local files.

    A further storage is a module with such a class and a line in :mod:`hmamba.storage.registry`.
    """

    @property
    def root(self) -> Path:
        """The folder that every place lies under."""

    def exists(self, place: Path) -> bool:
        """Whether there is a file or a folder."""

    def find(self, folder: Path, pattern: str) -> list[Path]:
        """Places in a folder whose path from there matches a glob, sorted; none if there is no folder.

        What is being written is never among them.
        """

    def local_path(self, place: Path) -> Path:
        """A local file or folder with what lies at ``place``, for libraries that read files; it is not to be changed.

        Of a place that does not exist it is a path that does not exist.
        """

    def digest(self, place: Path, /) -> str:
        """SHA-256 of a file's content, in hex digits."""

    def write_file(self, place: Path, /) -> AbstractContextManager[Path]:
        """Yield a local path to write a file to, which is at ``place`` once the block succeeds, and nowhere if not."""

    def write_folder(self, place: Path, /) -> AbstractContextManager[Path]:
        """Yield an empty local folder to fill, which is at ``place`` once the block succeeds, and nowhere if not.

        What was at ``place`` before is replaced as a whole.
        """

    def point(self, pointer: Path, target: Path) -> None:
        """Make ``pointer`` lead to the file ``target``, which lies in a folder beside it, in one step."""

    def move(self, place: Path, target: Path) -> None:
        """Give a file or folder another place, where nothing is yet."""

    def delete(self, place: Path) -> None:
        """Remove a file, a pointer or a folder with all that it holds; one that is not there is none the less gone."""

    def lock(
        self, folder: Path, name: str = ".lock", wait_seconds: float | None = None
    ) -> AbstractContextManager[None]:
        """Keep others out of such a block of the same folder and name, in this process and in all others.

        Args:
            folder: is made if it is not there.
            name: of the lock; a folder may have several.
            wait_seconds: how long to wait; None: until the lock is free.

        Raises:
            BusyError: another one still has the lock.
        """
