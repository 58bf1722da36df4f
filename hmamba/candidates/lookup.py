"""Look a user up in the published candidates, as any consumer would: through ``candidates/latest.json``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import duckdb

from hmamba import columns
from hmamba.contracts.manifest import Manifest
from hmamba.errors import InputError
from hmamba.statements import statement
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import in_memory

SUGGESTIONS = 5


@dataclass(frozen=True)
class Recommendation:
    """One row. ``title`` and ``category`` are None where the names of the items are not known any more."""

    rank: int
    item_id: str
    score: float
    title: str | None
    category: str | None


@dataclass(frozen=True)
class Recommendations:
    """A user's best items.

    ``model_version`` is that of the user's own rows: a user without usable history has the fallback's beside a model's
    table. ``warning`` is what the manifest says that readers have to know, such as that no model serves yet; None if
    nothing.
    """

    user: str
    day: str
    model_version: str
    warning: str | None
    rows: tuple[Recommendation, ...]


def recommend(layout: Layout, user: str, most: int) -> Recommendations:
    """The user's ``most`` best published items, best first.

    Raises:
        InputError: nothing is published, a published file is missing or cut short, or the user has no candidates (the
            message names users whose ids look alike).
    """
    manifest = published_manifest(layout)
    files = [str(layout.storage.local_path(layout.root / file.path)) for file in manifest.files]
    with in_memory() as connection:
        bound = {"files": files, "user": user, "most": most}
        rows = connection.execute(statement("published/of_user"), bound).fetchall()
        if not rows:
            alike = connection.execute(
                statement("published/similar_users"), {"files": files, "user": user, "most": SUGGESTIONS}
            ).fetchall()
            raise InputError(
                f"user {user!r} is not among the {manifest.users} users published for {manifest.day}. "
                f"Ids that look alike: {', '.join(repr(row[0]) for row in alike)}. A user appears on the night after "
                "their first event."
            )
        names = _names(connection, layout, manifest, [row[1] for row in rows])
    return Recommendations(
        user,
        manifest.day.isoformat(),
        rows[0][3],
        manifest.warning,
        tuple(Recommendation(rank, item, score, *names.get(item, (None, None))) for rank, item, score, _ in rows),
    )


def example_user(layout: Layout) -> str:
    """Somebody who has candidates, served by the model if anybody is.

    Raises:
        InputError: nothing is published, or a published file is missing or cut short.
    """
    files = [str(layout.storage.local_path(layout.root / file.path)) for file in published_manifest(layout).files]
    bound = {"files": files, "fallback": columns.FALLBACK_VERSION}
    with in_memory() as connection:
        found = connection.execute(statement("published/first_user"), bound).fetchone()
    if found is None:
        raise InputError(f"{layout.latest} names no user: the published table is empty. Run a night with events.")
    return str(found[0])


def published_manifest(layout: Layout, day: date | None = None) -> Manifest:
    """A manifest, once each file it names is there in its full size.

    Args:
        layout: the root.
        day: whose; None for the newest.

    Raises:
        InputError: there is none, or a file is not as the manifest says.
    """
    path = layout.latest if day is None else layout.published_manifest(day)
    manifest = Manifest.read_if_exists(layout.storage.local_path(path))
    if manifest is None:
        wanted = "YYYY-MM-DD" if day is None else day.isoformat()
        raise InputError(
            f"{path} does not exist: nothing is published{'' if day is None else f' for {day}'} under {layout.root}. "
            f"Run a night first: {layout.command('run', '--day', wanted)}."
        )
    for file in manifest.files:
        part = layout.storage.local_path(layout.root / file.path)
        if not part.is_file() or part.stat().st_size != file.bytes:
            raise InputError(
                f"{part} is named by {path} but is missing or cut short. Publish the day again: "
                f"{layout.command('run', '--day', manifest.day.isoformat())}."
            )
    return manifest


def _names(
    connection: duckdb.DuckDBPyConnection, layout: Layout, manifest: Manifest, items: list[str]
) -> dict[str, tuple[str | None, str | None]]:
    """Title and category of items, from that night's snapshot; nothing if its folder has been cleaned up."""
    run = layout.run(manifest.day, manifest.run_id)
    file = run.storage.local_path(run.items)
    if not file.exists():
        return {}
    rows = connection.execute(statement("published/items"), {"file": str(file), "items": items}).fetchall()
    return {item: (title, category) for item, title, category in rows}
