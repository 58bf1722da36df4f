"""The description of a backup."""

from __future__ import annotations

from typing import ClassVar

from hmamba.contracts.contents import HashedFile
from hmamba.contracts.document import Document, Moment


class Backup(Document):
    """``backup.json``, the last file of a backup.

    Attributes:
        made_at: when the backup was complete.
        version: version of the program that made it.
        files: every file, by its path relative to the root.
        links: every symbolic link, with the path that it leads to.
    """

    CURE: ClassVar[str] = "Use another backup: this one is not whole."

    made_at: Moment
    version: str
    files: tuple[HashedFile, ...]
    links: dict[str, str]
