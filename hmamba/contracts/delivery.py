"""What a target of ``hmamba deliver`` holds. Redis and folders of files keep it as JSON, PostgreSQL as a row."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import ClassVar, Literal

from pydantic import Field

from hmamba.contracts.contents import HashedFile
from hmamba.contracts.document import Document, Moment

Way = Literal["whole", "changes", "nothing"]
"""How a table was delivered: all users, the changed ones, or nobody because the target held it already."""


class Delivered(Document):
    """A delivered table."""

    CURE: ClassVar[str] = "Remove it, and deliver again."

    day: date = Field(description="Day of the table.")
    run_id: str
    model_version: str
    last_day: date = Field(description="The day up to whose end events are in the table.")
    digest: str = Field(description="Manifest.digest of the table.")
    settings: str = Field(description="Digest of the columns and of the settings that decide what is delivered.")
    users: int
    rows: int
    delivered_at: Moment = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def same_table(self, other: Delivered) -> bool:
        """Whether both are the same rows, written in the same way."""
        return (self.digest, self.settings) == (other.digest, other.settings)


class DeliveredVersions(Delivered):
    """The content of ``PREFIX:current`` in Redis."""

    versions: tuple[str, ...] = Field(
        description="Versions that readers look up in this order; the last has all users."
    )


class DeliveredFiles(Delivered):
    """The content of ``delivery.json`` in a folder of files."""

    files: tuple[HashedFile, ...]
