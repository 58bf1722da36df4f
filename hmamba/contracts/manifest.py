"""The manifests of a snapshot and of a published table.

That of a table is the content of ``candidates/latest.json`` (docs/candidates.md).
"""

from __future__ import annotations

from datetime import date, datetime
from typing import ClassVar

from pydantic import Field

from hmamba.contracts.contents import HashedFile, digest_of
from hmamba.contracts.document import Document, Moment, Part
from hmamba.storage.layout import ITEMS, RULES

_SHARD = "shard-"
"""First characters of the names of the files of events."""


class PublishedFile(Part):
    """One Parquet file of the table."""

    path: str = Field(description="Path relative to the root.")
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)
    sha256: str


class SnapshotFile(HashedFile):
    """One Parquet file of a snapshot. ``name`` is relative to the snapshot's folder."""

    rows: int


class SnapshotTotals(Part):
    """Totals of a snapshot.

    Attributes:
        users, events, items: totals.
        shards: number of files of events.
        newest_event: time of the newest event, UTC without offset; None if events have no times.
        digest: content digest.
    """

    users: int
    events: int
    items: int
    shards: int
    newest_event: datetime | None
    digest: str


class SnapshotManifest(Document, SnapshotTotals):
    """What a snapshot holds: ``manifest.json`` beside its shards.

    Attributes:
        day: the last day of its events.
        end: exclusive upper bound of event times, UTC without offset.
        by_position: whether events are ordered by position and have no times.
        batch: id of the newest pull in it.
        files: the shards and the item file, and the files that describe items and users for rules.
        former: digests of the snapshot before users were forgotten, oldest first.
    """

    CURE: ClassVar[str] = "Run the snapshot step again (python -m jobs.snapshot)."

    day: date
    end: datetime
    by_position: bool
    batch: int
    files: tuple[SnapshotFile, ...]
    former: tuple[str, ...] = ()

    @property
    def content_digest(self) -> str:
        """Digest of the events and items. Descriptions and rules do not count: they change nothing that is learnt."""
        return digest_of(file for file in self.files if self._is_content(file))

    @property
    def rules_digest(self) -> str | None:
        """Digest of the rules, and of all that they read; None without rules."""
        if not any(file.name == RULES for file in self.files):
            return None
        return digest_of(file for file in self.files if not self._is_content(file))

    @staticmethod
    def _is_content(file: SnapshotFile) -> bool:
        return file.name == ITEMS or file.name.startswith(_SHARD)


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
    rules: str | None = Field(None, description="Digest of the rules and of what they read; null without rules.")

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
