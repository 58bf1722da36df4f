"""Examples of users: their history beside their recommendations.

They are personal data. Each example on a page is an element of its own that carries a digest of the user's id, so that
an erasure finds and removes it whole, whatever the id looks like.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

from hmamba.columns import FALLBACK_VERSION
from hmamba.contracts.manifest import SnapshotManifest
from hmamba.report.statistics import LIMITS
from hmamba.statements import rows
from hmamba.warehouse.connection import in_memory

DEPTH = 10
"""Items of the history, and recommendations, that are shown."""

NEW_DAYS = 7
"""A user whose first event is in so many last days is new."""

SHORT = 4
"""A history of so many events is short, also if more than a tenth of all users have fewer."""

Kind = Literal["long", "short", "new"]
_KINDS: tuple[Kind, ...] = ("long", "short", "new")
_EXAMPLE = re.compile(r'<article class="example" data-user="([0-9a-f]{64})">.*?</article>', re.DOTALL)
_REMOVED = '<article class="example"><p>This user has been forgotten.</p></article>'


@dataclass(frozen=True)
class Taken:
    """An item of the history: number of events, and day of the latest one (None if events have no times)."""

    title: str
    category: str
    times: int
    latest: date | None


@dataclass(frozen=True)
class Shown:
    """A recommended item. ``is_known``: whether it is in the user's history."""

    title: str
    category: str
    is_known: bool


@dataclass(frozen=True)
class Example:
    """One user.

    Attributes:
        kind: length of the history: long (of the longest tenth), short, or new (first event in the last week).
        user_id: external id.
        events: number of events of the whole history.
        history: the items that the user had last, latest first.
        shown: the best recommendations, best first.
        is_fallback: whether these are popular items, because the model knows nothing of the user's history.
    """

    kind: Kind
    user_id: str
    events: int
    history: tuple[Taken, ...]
    shown: tuple[Shown, ...]
    is_fallback: bool

    @property
    def digest(self) -> str:
        """The digest that marks the example on a page."""
        return digest_of(self.user_id)


def digest_of(user_id: str) -> str:
    """SHA-256 of an id, in hex digits."""
    return hashlib.sha256(user_id.encode("utf-8", "surrogatepass")).hexdigest()


def choose(manifest: SnapshotManifest, parts: list[Path], shards: list[Path], items: Path, most: int) -> list[Example]:
    """Choose users by the length of their history and a hash of their id, long histories first.

    Args:
        manifest: of the snapshot.
        parts: Parquet files of the candidates, at least one.
        shards: the snapshot's sequences, at least one.
        items: its items.
        most: users of each kind, at least 1.
    """
    files = {"candidates": list(map(str, parts)), "shards": list(map(str, shards))}
    new_time: datetime | None = None if manifest.by_position else manifest.end - timedelta(days=NEW_DAYS)
    with in_memory(LIMITS) as connection:
        chosen = rows(connection, "report/example_users", {**files, "new_time": new_time, "short": SHORT, "most": most})
        if not chosen:
            return []
        users = {"users": [row["user_id"] for row in chosen], "items": str(items), "depth": DEPTH}
        taken = rows(connection, "report/example_histories", {"shards": files["shards"], **users})
        shown = rows(connection, "report/example_candidates", {**files, **users})
    found = []
    for row in sorted(chosen, key=lambda row: _KINDS.index(row["kind"])):
        own = [one for one in shown if one["user_id"] == row["user_id"]]
        history = [one for one in taken if one["user_id"] == row["user_id"]]
        found.append(
            Example(
                kind=row["kind"],
                user_id=row["user_id"],
                events=row["events"],
                history=tuple(
                    Taken(
                        one["title"],
                        one["category"],
                        one["times"],
                        None if manifest.by_position else one["latest"].date(),
                    )
                    for one in history
                ),
                shown=tuple(Shown(one["title"], one["category"], one["is_known"]) for one in own),
                is_fallback=any(one["model_version"] == FALLBACK_VERSION for one in own),
            )
        )
    return found


def without_users(page: str, users: Collection[str]) -> str:
    """A page of the report without the examples of some users."""
    gone = set(map(digest_of, users))
    return _EXAMPLE.sub(lambda found: _REMOVED if found[1] in gone else found[0], page)
