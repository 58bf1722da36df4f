"""The manifest of a published table: the content of ``candidates/latest.json`` (docs/candidates.md)."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from pydantic import Field

from hmamba.contracts.document import Document, Moment, Part


class PublishedFile(Part):
    """One Parquet file of the table."""

    path: str = Field(description="Path relative to the root.")
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str


class Refresh(Part):
    """The refresh that last changed a night's table."""

    day: date = Field(description="Events up to the end of this UTC day have been read.")
    run_id: str
    users: int = Field(description="Users with new candidates.")
    new_users: int = Field(description="Of them, users that the night's own table did not hold.")


class Manifest(Document):
    """The files of the night's table and their content."""

    CURE: ClassVar[str] = "Publish that night again: hmamba run --root ROOT --day DAY."

    run_id: str = Field(description="The run that published the table.")
    day: date = Field(description="The UTC day whose end the recommendations were made for.")
    model_version: str = Field(description="The model or baseline that serves.")
    k: int = Field(description="Rows per user, at most.")
    rows: int
    users: int
    fallback_users: int = Field(description="Users without usable history, who received popular items.")
    exclude_seen: bool = Field(description="Whether items that a user has interacted with are left out.")
    warning: str | None = Field(description="A sentence for readers of the table; null if there is nothing to know.")
    snapshot: str = Field(description="Digest of the histories that the night was made from.")
    refresh: Refresh | None = Field(description="Null for a night's own table.")
    created_at: Moment
    files: tuple[PublishedFile, ...]

    @property
    def last_day(self) -> date:
        """The day up to whose end events are in the table."""
        return self.day if self.refresh is None else self.refresh.day

    def same_content(self, other: Manifest) -> bool:
        """Whether both describe the same table, ignoring run ids and the time of creation."""
        own, others = (
            one.model_dump(exclude={"run_id": True, "created_at": True, "refresh": {"run_id"}}) for one in (self, other)
        )
        return own == others
