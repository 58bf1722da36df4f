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
        InputError: the folder is not a root, no manifest of a kept table can be read, or the list of promotions is
            damaged; nothing has been changed.
    """
    if not any(map(layout.storage.exists, (layout.config, layout.warehouse, layout.candidates))):
        raise InputError(
            f"--root {layout.root}: no recommender's folder, as it has neither {layout.config.name} nor "
            f"{layout.warehouse.name} nor candidates/. Correct the path."
        )
    with layout.storage.lock(layout.candidates):
        # Read before anything is changed: a rollback must not stop half-way at a damaged manifest.
        table, passed_over = _newest_readable(layout, day)
        yield from passed_over
        for promotion in promotions.take_back(layout, day):
            yield f"took back the promotion of {promotion.version} on {promotion.day}"
        yield from _relink(layout, table)
        for when, path in (*layout.published_days, *layout.run_days):
            if when > day:
                yield _remove(path, layout, delete)
        champion = promotions.promotions(layout)
        yield f"champion: {champion[-1].version}, since {champion[-1].day}" if champion else "champion: none"


def _newest_readable(layout: Layout, last: date) -> tuple[Manifest | None, list[str]]:
    """The newest table up to a day whose manifest can be read, None without a table; and a line per newer table.

    Raises:
        InputError: there are tables, and no manifest can be read.
    """
    passed_over: list[str] = []
    for day, _ in reversed(layout.published_days):
        place = layout.published_manifest(day)
        if day > last or not layout.storage.exists(place):
            continue
        try:
            return Manifest.read(place, layout.storage), passed_over
        except InputError as error:
            passed_over.append(f"note: the table of {day} is passed over: {error}")
    if passed_over:
        raise InputError(
            f"No table up to {last} has a manifest that can be read; nothing has been changed. {passed_over[0]}"
        )
    return None, passed_over


def _relink(layout: Layout, table: Manifest | None) -> Iterator[str]:
    """Point the link that readers follow to a table that is kept; remove it if there is none."""
    name = layout.latest.relative_to(layout.root)
    if table is None:
        if layout.latest.is_symlink() or layout.latest.exists():
            layout.storage.delete(layout.latest)
            yield f"{name}: removed, because nothing published stays"
        return
    layout.storage.point(layout.latest, layout.published_manifest(table.day))
    yield f"{name}: leads to {table.day}"
    if table.last_day > table.day:
        yield (
            f"note: the table of {table.day} has been refreshed up to {table.last_day}. To have the night's own again: "
            f"python -m jobs.publish --root {layout.root} --day {table.day} --run-id {table.run_id}"
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
