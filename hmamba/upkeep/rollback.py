"""Go back to an earlier model and table.

A rollback names a day, a model version or a published table. It sets the champion, moves the link that readers follow,
and moves the tables and working folders of later days aside. It is recorded with the promotions, and can itself be
rolled back: what was moved aside comes back when it is named.

The order is table, promotions, link, later folders: readers find a complete table at any moment, and a rollback that
was killed can be run again. Events stay in the warehouse; models and reports stay on disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hmamba.columns import FALLBACK_VERSION
from hmamba.contracts.manifest import Manifest
from hmamba.contracts.models import Promotion
from hmamba.errors import InputError
from hmamba.evaluation.gate import is_baseline
from hmamba.models import promotions
from hmamba.models.verify import verified
from hmamba.storage.layout import Layout
from hmamba.storage.root_locks import tables

BUSY_SECONDS = 60.0
"""Maximum wait for a night, a refresh, and each step that works in a folder of a later day."""


@dataclass(frozen=True)
class Table:
    """A published table. ``folder``: where it is now, which differs from its own place if it was moved aside."""

    manifest: Manifest
    folder: Path


@dataclass(frozen=True)
class Target:
    """What a rollback goes back to.

    Attributes:
        day: the last day whose promotions are kept.
        version: the champion from then on; None for none.
        table: the table that readers get; None for none.
        keeps_tables: whether readers keep the table that they have, because no table of the version is left.
        notes: a line for each table that was passed over.
    """

    day: date
    version: str | None
    table: Table | None
    keeps_tables: bool = False
    notes: tuple[str, ...] = ()


def to_day(layout: Layout, day: date) -> Target:
    """The state at the end of a day: the champion of that night, and the newest readable table up to it.

    Raises:
        InputError: there are tables up to that day, and no manifest can be read.
    """
    table, notes = _newest_readable(layout, day)
    return Target(day, _champion_on(layout, day), table, notes=notes)


def to_version(layout: Layout, version: str) -> Target:
    """A model version, with the newest table that it made, even if it is aside.

    Raises:
        InputError: there is no such version, or it is damaged.
    """
    if layout.model(version) not in layout.storage.find(layout.models, "*/"):
        raise InputError(
            f"--to {version}: there is no such day or model version. {layout.command('models')} lists the versions."
        )
    trained = verified(layout, version).day
    found = next((table for table in _tables(layout) if table.manifest.model_version == version), None)
    if found is not None:
        return Target(found.manifest.day, version, found)
    promoted = [one.day for one in promotions.promotions(layout) if one.version == version]
    return Target(max(promoted, default=trained), version, None, keeps_tables=True)


def to_table(layout: Layout, day: date) -> Target:
    """The table of a day, even if it is aside, with the model that made it.

    Raises:
        InputError: there is no such table with a readable manifest, or its model is gone or damaged.
    """
    found = next((table for table in _tables(layout) if table.manifest.day == day), None)
    if found is None:
        days = sorted({table.manifest.day for table in _tables(layout)})
        listed = f"Tables that can be read: {', '.join(map(str, days))}" if days else "No table can be read"
        raise InputError(f"--table {day}: there is no published table of that day that can be read. {listed}.")
    version: str | None = found.manifest.model_version
    if version == FALLBACK_VERSION or is_baseline(str(version)):
        version = _champion_on(layout, day)
    if version is not None:
        verified(layout, version)
    return Target(day, version, found)


def roll_back(layout: Layout, target: Target, *, delete: bool = False) -> Iterator[str]:
    """Go back. The caller keeps nights and refreshes from starting, from before the target is looked up.

    Args:
        layout: the root.
        target: as :func:`to_day`, :func:`to_version` or :func:`to_table` returned it.
        delete: whether later folders are deleted; otherwise they are moved to ``ROOT/.rolled-back``.

    Yields:
        A message for each change, as it is made.

    Raises:
        BusyError: a step still works in a working folder of a later day; nothing has been changed.
        InputError: the list of promotions is damaged; nothing has been changed.
    """
    with ExitStack() as stack:
        if not target.keeps_tables:
            _lock_later_runs(layout, target.day, stack)  # before the tables, as a step does that publishes
        stack.enter_context(tables(layout, BUSY_SECONDS))
        yield from target.notes
        if target.table is not None:
            yield from _restore(layout, target.table)
        before = _readers(layout)
        for promotion in _promote(layout, target, before):
            yield f"took back the promotion of {promotion.version} on {promotion.day}"
        if target.keeps_tables:
            has = "no table" if before is None else f"the table of {before.day}, made by {before.model_version}"
            yield f"note: no table of {target.version} is left; readers keep {has}, until the next night has run"
        else:
            yield from _relink(layout, target.table)
            for when, path in (*layout.published_days, *layout.run_days):
                if when > target.day:
                    yield _remove(path, layout, delete)
        champion = promotions.promotions(layout)
        yield f"champion: {champion[-1].version}, since {champion[-1].day}" if champion else "champion: none"


def _lock_later_runs(layout: Layout, day: date, held: ExitStack) -> None:
    """Wait for the steps that work in folders that will be moved."""
    for when, folder in layout.run_days:
        if when > day:
            for run in layout.storage.find(folder, "*/"):
                held.enter_context(layout.storage.lock(run, wait_seconds=BUSY_SECONDS))


def require_root(layout: Layout) -> None:
    """Check that the folder is a root, before anything in it is changed.

    Raises:
        InputError: it is not.
    """
    if not any(map(layout.storage.exists, (layout.config, layout.warehouse, layout.candidates))):
        raise InputError(
            f"--root {layout.root}: no recommender's folder, as it has neither {layout.config.name} nor "
            f"{layout.warehouse.name} nor candidates/. Correct the path."
        )


def _champion_on(layout: Layout, day: date) -> str | None:
    """The version that served at the end of a day."""
    kept = [one.version for one in promotions.promotions(layout) if one.day <= day]
    return kept[-1] if kept else None


def _tables(layout: Layout) -> Iterator[Table]:
    """Tables with a readable manifest: published ones, newest first, then those that were moved aside."""
    live = [path for _, path in reversed(layout.published_days)]
    for folder in (*live, *reversed(layout.rolled_back_tables)):
        try:
            manifest = Manifest.read_if_exists(folder / layout.published_manifest(date.min).name, layout.storage)
        except InputError:
            continue
        if manifest is not None:
            yield Table(manifest, folder)


def _newest_readable(layout: Layout, last: date) -> tuple[Table | None, tuple[str, ...]]:
    """The newest table up to a day whose manifest can be read, None without a table; and a line per newer table.

    Raises:
        InputError: there are tables, and no manifest can be read.
    """
    passed_over: list[str] = []
    for day, folder in reversed(layout.published_days):
        place = layout.published_manifest(day)
        if day > last or not layout.storage.exists(place):
            continue
        try:
            return Table(Manifest.read(place, layout.storage), folder), tuple(passed_over)
        except InputError as error:
            passed_over.append(f"note: the table of {day} is passed over: {error}")
    if passed_over:
        raise InputError(
            f"No table up to {last} has a manifest that can be read; nothing has been changed. {passed_over[0]}"
        )
    return None, ()


def _readers(layout: Layout) -> Manifest | None:
    """The manifest that readers have; None if there is none, or it cannot be read."""
    try:
        return Manifest.read_if_exists(layout.latest, layout.storage)
    except InputError:
        return None


def _restore(layout: Layout, table: Table) -> Iterator[str]:
    """Bring a table and its working folder back from where an earlier rollback has moved them."""
    day, run_id, storage = table.manifest.day, table.manifest.run_id, layout.storage
    place = layout.published(day)
    if table.folder != place:
        if storage.exists(place):
            # Readers may follow the link into this folder: it is copied aside, and exchanged in one rename.
            with storage.write_folder(_aside(layout, place)) as copy:
                shutil.copytree(storage.local_path(place), copy, dirs_exist_ok=True)
            with storage.write_folder(place) as copy:
                shutil.copytree(storage.local_path(table.folder), copy, dirs_exist_ok=True)
            storage.delete(table.folder)
        else:
            storage.move(table.folder, place)
        yield f"{place.relative_to(layout.root)}: back from {table.folder.relative_to(layout.root)}"
    run = layout.run(day, run_id).folder
    if not storage.exists(run):
        asides = [path / run_id for when, path in reversed(layout.rolled_back_days) if when == day]
        found = next((path for path in asides if storage.exists(path)), None)
        if found is None:
            yield f"note: {run.relative_to(layout.root)} is gone, so that refreshes wait for the next night"
            return
        storage.move(found, run)
        yield f"{run.relative_to(layout.root)}: back from {found.relative_to(layout.root)}"


def _promote(layout: Layout, target: Target, before: Manifest | None) -> tuple[Promotion, ...]:
    """Enter the rollback into the promotions; returns the promotions that it takes back."""
    changes_table = not target.keeps_tables and (None if before is None else before.day) != (
        None if target.table is None else target.table.manifest.day
    )
    return promotions.roll_back(
        layout,
        target.day,
        target.version,
        table=None if target.table is None else target.table.manifest.day,
        from_table=None if before is None else before.day,
        changes_table=changes_table,
        newest=None if before is None else before.created_at,
    )


def _relink(layout: Layout, table: Table | None) -> Iterator[str]:
    """Point the link that readers follow to a table; remove it if there is none."""
    name = layout.latest.relative_to(layout.root)
    if table is None:
        if layout.latest.is_symlink() or layout.latest.exists():
            layout.storage.delete(layout.latest)
            yield f"{name}: removed, because nothing published stays"
        return
    manifest = table.manifest
    layout.storage.point(layout.latest, layout.published_manifest(manifest.day))
    yield f"{name}: leads to {manifest.day}"
    if manifest.last_day > manifest.day:
        yield (
            f"note: the table of {manifest.day} has been refreshed up to {manifest.last_day}. To have the night's own "
            f"again: python -m jobs.publish --root {layout.root} --day {manifest.day} --run-id {manifest.run_id}"
        )


def _aside(layout: Layout, path: Path) -> Path:
    """A place for a folder under ``ROOT/.rolled-back`` that is free."""
    aside = layout.rolled_back / path.relative_to(layout.root)
    target, number = aside, 1
    while layout.storage.exists(target):
        number += 1
        target = aside.with_name(f"{path.name}.{number}")
    return target


def _remove(path: Path, layout: Layout, delete: bool) -> str:
    name = path.relative_to(layout.root)
    if delete:
        layout.storage.delete(path)
        return f"{name}: deleted"
    target = _aside(layout, path)
    layout.storage.move(path, target)
    return f"{name}: moved to {target.relative_to(layout.root)}"
