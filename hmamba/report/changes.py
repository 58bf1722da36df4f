"""What changed since the table that was published before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hmamba.contracts.manifest import Manifest
from hmamba.report.history import Night, night_of
from hmamba.report.statistics import LIMITS
from hmamba.statements import one
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import in_memory

DEPTH = 10
"""Ranks that are compared, or fewer if a table has fewer."""


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
    depth = min(DEPTH, manifest.k, before.k)
    found = _churn(parts, _files(layout, day, before), depth)
    return Changes(
        before=night_of(layout, before.day, before.run_id),
        tonight=night_of(layout, manifest.day, manifest.run_id),
        models=(before.model_version, manifest.model_version),
        depth=depth,
        churn=1 - found["kept"] / found["pairs"] if found["pairs"] else None,
        users_new=found["users_new"],
        users_gone=found["users_gone"],
    )


def _files(layout: Layout, day: date, manifest: Manifest) -> list[Path]:
    folder = layout.published(day)
    return [layout.storage.local_path(folder / Path(file.path).name) for file in manifest.files]


def _churn(parts: list[Path], earlier: list[Path], depth: int) -> dict[str, int]:
    """Sums over parts. With equally many parts, a user is in the same part of both tables: one pair at a time."""
    same = len(parts) == len(earlier)
    pairs = [([one], [other]) for one, other in zip(parts, earlier, strict=True)] if same else [(parts, earlier)]
    total = dict.fromkeys(("users_new", "users_gone", "pairs", "kept"), 0)
    with in_memory(LIMITS) as connection:
        for ours, theirs in pairs:
            bound = {"candidates": list(map(str, ours)), "earlier": list(map(str, theirs)), "depth": depth}
            for key, number in one(connection, "report/churn", bound).items():
                total[key] += number
    return total
