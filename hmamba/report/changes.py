"""What changed since the table that was published before."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hmamba.contracts.manifest import Manifest
from hmamba.quality.guards import FIRST, aligned
from hmamba.report.history import Night, night_of
from hmamba.report.statistics import LIMITS
from hmamba.statements import one
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import in_memory


@dataclass(frozen=True)
class Changes:
    """A table compared with the one published before.

    Attributes:
        before, tonight: both nights, from their documents.
        models: the model or baseline of both tables.
        depth: number of ranks that ``churn`` compares.
        churn: of the items among the first ``depth`` of users who are in both tables, the share in [0, 1] that was not
            there before; None if no user is in both.
        users_new, users_gone: users who are in one of the tables only.
    """

    before: Night
    tonight: Night
    models: tuple[str, str]
    depth: int
    churn: float | None
    users_new: int
    users_gone: int


def since_last(layout: Layout, manifest: Manifest, parts: list[Path]) -> Changes | None:
    """Compare a table with the newest one of an earlier day; None if there is none.

    Args:
        layout: the root.
        manifest: the table's.
        parts: its Parquet files.

    Raises:
        InputError: the manifest of the earlier table is damaged.
    """
    day = max((when for when, _ in layout.published_days if when < manifest.day), default=None)
    before = None if day is None else Manifest.read_if_exists(layout.published_manifest(day), layout.storage)
    if day is None or before is None:
        return None
    depth = min(FIRST, manifest.k, before.k)
    found = _counts(parts, _files(layout, day, before), depth)
    return Changes(
        before=night_of(layout, before.day, before.run_id),
        tonight=night_of(layout, manifest.day, manifest.run_id),
        models=(before.model_version, manifest.model_version),
        depth=depth,
        churn=found["new_entries"] / found["entries"] if found["entries"] else None,
        users_new=manifest.users - (found["users_before"] - found["users_lost"]),
        users_gone=found["users_lost"],
    )


def _files(layout: Layout, day: date, manifest: Manifest) -> list[Path]:
    folder = layout.published(day)
    return [layout.storage.local_path(folder / Path(file.path).name) for file in manifest.files]


def _counts(parts: list[Path], earlier: list[Path], depth: int) -> Counter[str]:
    """Sums over groups of parts that can share users."""
    total: Counter[str] = Counter()
    with in_memory(LIMITS) as connection:
        for ours, theirs in aligned(parts, earlier):
            files = {"parts": ours, "earlier": theirs}
            total.update(one(connection, "guards/churn", {**files, "first": depth}))
            total.update(one(connection, "guards/users_lost", files))
    return total
