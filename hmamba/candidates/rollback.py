"""Undo everything that nights after a given day published and promoted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

from hmamba.contracts.manifest import Manifest
from hmamba.errors import InputError
from hmamba.models import promotions
from hmamba.storage.layout import Layout


def roll_back(layout: Layout, day: date, *, delete: bool) -> Iterator[str]:
    """Undo everything that was published and promoted after a day.

    The order is promotions, the link that readers follow, published folders, working folders: readers find a complete
    table at any moment, and a rollback that was killed can be run again. Events stay in the warehouse; models and
    reports stay on disk.

    Args:
        layout: the root.
        day: the last day that is kept.
        delete: whether folders are deleted; otherwise they are moved to ``ROOT/.rolled-back``.

    Yields:
        A message for each change, as it is made.

    Raises:
        InputError: the folder is not a root, or a manifest or the list of promotions is damaged.
    """
    if not any(map(layout.storage.exists, (layout.config, layout.warehouse, layout.candidates))):
        raise InputError(
            f"--root {layout.root}: no recommender's folder, as it has neither {layout.config.name} nor "
            f"{layout.warehouse.name} nor candidates/. Correct the path."
        )
    with layout.storage.lock(layout.candidates):
        for promotion in promotions.take_back(layout, day):
            yield f"took back the promotion of {promotion.version} on {promotion.day}"
        kept = [when for when, _ in layout.published_days if when <= day]
        yield from _relink(layout, [when for when in kept if layout.storage.exists(layout.published_manifest(when))])
        for when, path in (*layout.published_days, *layout.run_days):
            if when > day:
                yield _remove(path, layout, delete)
        champion = promotions.promotions(layout)
        yield f"champion: {champion[-1].version}, since {champion[-1].day}" if champion else "champion: none"


def _relink(layout: Layout, kept: list[date]) -> Iterator[str]:
    """Point the link that readers follow to the newest table that is kept."""
    name = layout.latest.relative_to(layout.root)
    if not kept:
        if layout.latest.is_symlink() or layout.latest.exists():
            layout.storage.delete(layout.latest)
            yield f"{name}: removed, because nothing published stays"
        return
    when = max(kept)
    layout.storage.point(layout.latest, layout.published_manifest(when))
    yield f"{name}: leads to {when}"
    manifest = Manifest.read(layout.published_manifest(when), layout.storage)
    if manifest.last_day > when:
        yield (
            f"note: the table of {when} has been refreshed up to {manifest.last_day}. To have the night's own again: "
            f"python -m jobs.publish --root {layout.root} --day {when} --run-id {manifest.run_id}"
        )


def _remove(path: Path, layout: Layout, delete: bool) -> str:
    name = path.relative_to(layout.root)
    if delete:
        layout.storage.delete(path)
        return f"{name}: deleted"
    aside = layout.rolled_back / name
    target, number = aside, 1
    while layout.storage.exists(target):
        number += 1
        target = aside.with_name(f"{path.name}.{number}")
    layout.storage.move(path, target)
    return f"{name}: moved to {target.relative_to(layout.root)}"
