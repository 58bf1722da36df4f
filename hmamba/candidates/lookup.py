"""Look up a user's published candidates through ``candidates/latest.json``, as any consumer does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import duckdb

from hmamba import columns
from hmamba.contracts.manifest import Manifest
from hmamba.errors import InputError
from hmamba.sequences.files import Snapshot
from hmamba.statements import statement
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import in_memory

SUGGESTIONS = 5


@dataclass(frozen=True)
class Recommendation:
    """One recommended item.

    Attributes:
        rank, item_id, score: as in the table.
        title, category: None if the night's item metadata has been deleted.
        because, because_item: as in the table; None in a table without reasons.
        because_title: title of ``because_item``; None without one.
    """

    rank: int
    item_id: str
    score: float
    title: str | None
    category: str | None
    because: str | None = None
    because_item: str | None = None
    because_title: str | None = None


@dataclass(frozen=True)
class PastEvent:
    """An event of a user. ``time``: naive UTC; None if events are ordered by position and have no times."""

    time: datetime | None
    item_id: str
    title: str
    category: str
    weight: float


@dataclass(frozen=True)
class Recommendations:
    """A user's best items.

    Attributes:
        user: the user's id.
        day: the night's day.
        model_version: that of the user's rows; for a user without usable history it names the fallback.
        warning: the manifest's warning to readers, such as that no model serves yet; None without one.
        rows: the items, best first.
        history: the user's newest events in the night's snapshot, newest first; None if they were not requested, or the
            working folder of the night has been deleted.
    """

    user: str
    day: str
    model_version: str
    warning: str | None
    rows: tuple[Recommendation, ...]
    history: tuple[PastEvent, ...] | None = None


def recommend(layout: Layout, user: str, most: int, *, with_history: bool = False) -> Recommendations:
    """Return the user's ``most`` best published items, best first.

    Args:
        layout: the root.
        user: the user's id.
        most: maximum number of items, and of events of the history.
        with_history: whether to read the user's newest events as well.

    Raises:
        InputError: ``most`` is not positive, nothing is published, a published file is missing or cut short, or the
            user has no candidates (the message lists similar user ids).
    """
    if most < 1:
        raise InputError(f"{most} items: ask for 1 or more.")
    manifest = published_manifest(layout)
    files = [str(layout.storage.local_path(layout.root / file.path)) for file in manifest.files]
    with in_memory() as connection:
        bound = {"files": files, "user": user, "most": most}
        rows = connection.execute(statement("published/of_user"), bound).fetchall()
        if not rows:
            raise unknown_user(connection, layout, manifest, user)
        reasons: list[tuple[str | None, str | None]] = [(None, None)] * len(rows)
        if columns.BECAUSE in manifest.columns:
            reasons = connection.execute(statement("published/reasons_of_user"), bound).fetchall()
        shown = {*(row[1] for row in rows), *(item for _, item in reasons if item is not None)}
        names = names_of(connection, layout, manifest, sorted(shown))
        history = history_of(connection, layout, manifest, user, most) if with_history else None
    return Recommendations(
        user,
        manifest.day.isoformat(),
        rows[0][3],
        manifest.warning,
        tuple(
            Recommendation(rank, item, score, *names.get(item, (None, None)), *why, names.get(why[1] or "", (None,))[0])
            for (rank, item, score, _), why in zip(rows, reasons, strict=True)
        ),
        history,
    )


def unknown_user(connection: duckdb.DuckDBPyConnection, layout: Layout, manifest: Manifest, user: str) -> InputError:
    """The error of a user without candidates, with similar ids."""
    files = [str(layout.storage.local_path(layout.root / file.path)) for file in manifest.files]
    bound = {"files": files, "user": user, "most": SUGGESTIONS}
    similar = connection.execute(statement("published/similar_users"), bound).fetchall()
    return InputError(
        f"user {user!r} is not among the {manifest.users:,} users published for {manifest.day}. "
        f"Most similar ids: {', '.join(repr(row[0]) for row in similar)}. A user appears on the night after "
        "their first event."
    )


def example_user(layout: Layout) -> str | None:
    """Return the id of a user with candidates, served by the model if there is one; None if the table has no rows.

    Raises:
        InputError: nothing is published, or a published file is missing or cut short.
    """
    files = [str(layout.storage.local_path(layout.root / file.path)) for file in published_manifest(layout).files]
    bound = {"files": files, "fallback": columns.FALLBACK_VERSION}
    with in_memory() as connection:
        found = connection.execute(statement("published/first_user"), bound).fetchone()
    return None if found is None else str(found[0])


def published_manifest(layout: Layout, day: date | None = None) -> Manifest:
    """Read a published manifest, and check that every file it names exists in its full size.

    Args:
        layout: the root.
        day: night of the table; None for the newest.

    Raises:
        InputError: there is no such manifest, or a file is missing or has another size.
    """
    path = layout.latest if day is None else layout.published_manifest(day)
    manifest = Manifest.read_if_exists(path, layout.storage)
    if manifest is None:
        shown = "YYYY-MM-DD" if day is None else day.isoformat()
        raise InputError(
            f"{path} does not exist: nothing is published{'' if day is None else f' for {day}'} under {layout.root}. "
            f"Run a night first: {layout.command('run', '--day', shown)}."
        )
    for file in manifest.files:
        part = layout.storage.local_path(layout.root / file.path)
        if not part.is_file() or part.stat().st_size != file.bytes:
            raise InputError(
                f"{part} is named by {path} but is missing or cut short. Publish the day again: "
                f"{layout.command('run', '--day', manifest.day.isoformat())}."
            )
    return manifest


def names_of(
    connection: duckdb.DuckDBPyConnection, layout: Layout, manifest: Manifest, items: list[str]
) -> dict[str, tuple[str | None, str | None]]:
    """Title and category of items, from that night's snapshot; empty if the working folder has been deleted."""
    run = layout.run(manifest.day, manifest.run_id)
    file = run.storage.local_path(run.items)
    if not file.exists():
        return {}
    rows = connection.execute(statement("published/items"), {"file": str(file), "items": items}).fetchall()
    return {item: (title, category) for item, title, category in rows}


def history_of(
    connection: duckdb.DuckDBPyConnection, layout: Layout, manifest: Manifest, user: str, most: int
) -> tuple[PastEvent, ...] | None:
    """The user's newest events in that night's snapshot; None if the working folder has been deleted."""
    run = layout.run(manifest.day, manifest.run_id)
    if not run.storage.exists(run.manifest):
        return None
    files = Snapshot.open(run)
    bound = {"shards": list(map(str, files.shards)), "items": str(files.items), "user": user, "most": most}
    rows = connection.execute(statement("published/events_of_user"), bound).fetchall()
    return tuple(PastEvent(None if files.manifest.by_position else time, *event) for time, *event in rows)
