"""The manifests of a snapshot and of a published table.

That of a table is the content of ``candidates/latest.json`` (docs/candidates.md).
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, ClassVar

from pydantic import Field

from hmamba.columns import CANDIDATES
from hmamba.contracts.contents import HashedFile, digest_of
from hmamba.contracts.document import Document, Moment, Part
from hmamba.contracts.tables import VectorSpace
from hmamba.storage.local import digest
from hmamba.storage.run_layout import ITEMS, RULES

_SHARD = "shard-"
"""First characters of the names of the files of events."""

CHANGES = "changes"
"""Name of the table of users whose rows differ from the table before."""


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
        without_events: whether users of the users file without events get candidates.
        former: digests of the snapshot before users were forgotten, oldest first.
    """

    CURE: ClassVar[str] = "Run the snapshot step again (python -m jobs.snapshot)."

    day: date
    end: datetime
    by_position: bool
    batch: int
    files: tuple[SnapshotFile, ...]
    without_events: bool = False
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

    @property
    def files_digest(self) -> str:
        """Digest of all files."""
        return digest_of(self.files)


class Refresh(Part):
    """The refresh that last changed a night's table."""

    day: date = Field(description="Events up to the end of this UTC day have been read.")
    run_id: str
    users: int = Field(description="Users with new candidates.")
    new_users: int = Field(description="Of them, users that the night's own table did not hold.")


class Experiment(Part):
    """The experiment of a night: a control group that gets the list of a baseline.

    A user is in it if the first 13 hexadecimal digits of SHA-256 of the salt, a colon and the id, divided by 16^13, are
    below ``control``.
    """

    control: float = Field(description="Share of the users in the control group, from 0 to 1.")
    salt: str = Field(description="Text that the hash of a user's id begins with.")
    version: str = Field(description="model_version of the control group's rows.")

    @property
    def limit(self) -> int:
        """Exclusive upper bound of the first 52 bits of the hash in the control group."""
        return int(self.control * 2**52)


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
    columns: tuple[str, ...] = Field(tuple(CANDIDATES), description="Names of the columns of the table.")
    tables: dict[str, tuple[PublishedFile, ...]] = Field(
        default_factory=dict, description="Files of the tables beside the candidates, by the table's name."
    )
    changes_from: str | None = Field(
        None, description="The digest of the table that `tables.changes` is relative to; null without that table."
    )
    vector_space: VectorSpace | None = Field(None, description="What the vectors mean; null without a table of them.")
    experiment: Experiment | None = Field(None, description="Null without a control group.")
    rules: str | None = Field(None, description="Digest of the rules and of what they read; null without rules.")

    @property
    def every_file(self) -> tuple[PublishedFile, ...]:
        """The files of the candidates and of all tables beside them."""
        return (*self.files, *(file for files in self.tables.values() for file in files))

    @property
    def digest(self) -> str:
        """Digest of the content of the candidates, in hex digits. Tables with the same files have the same."""
        return digest([file.sha256 for file in self.files])

    @property
    def last_day(self) -> date:
        """The day up to whose end events are in the table."""
        return self.day if self.refresh is None else self.refresh.day

    def same_content(self, other: Manifest) -> bool:
        """Whether both describe the same table, ignoring run ids, the time of creation and the table before."""
        ignored: Any = {
            "run_id": True,
            "created_at": True,
            "refresh": {"run_id"},
            "tables": {CHANGES},
            "changes_from": True,
        }
        own, others = (one.model_dump(exclude=ignored) for one in (self, other))
        return own == others
