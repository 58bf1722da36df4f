"""The manifest of a snapshot: ``manifest.json`` beside its shards."""

from __future__ import annotations

from datetime import date, datetime
from typing import ClassVar

from hmamba.contracts.document import Document, Part


class SnapshotFile(Part):
    """One Parquet file of a snapshot. ``name`` is relative to the snapshot's folder."""

    name: str
    rows: int
    bytes: int
    sha256: str


class SnapshotManifest(Document):
    """What a snapshot holds.

    Attributes:
        day: the last day of its events.
        end: exclusive upper bound of event times, UTC without offset.
        by_position: whether events are ordered by position and have no times.
        shards: number of files of events.
        users, events, items: totals.
        newest_event: time of the newest event, UTC without offset; None if events have no times.
        batch: id of the newest pull in it.
        files: the shards and the item file.
        digest: content digest.
    """

    CURE: ClassVar[str] = "Run the snapshot step again (python -m jobs.snapshot)."

    day: date
    end: datetime
    by_position: bool
    shards: int
    users: int
    events: int
    items: int
    newest_event: datetime | None
    batch: int
    files: tuple[SnapshotFile, ...]
    digest: str
