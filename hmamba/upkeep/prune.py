"""Delete what is older than the days in ``[keep]``.

Never deleted are: the table that readers have, the working folder of its run, which refreshes read; the champion, the
versions that the nights of kept working folders have trained or compare with, and those that made a kept table; working
folders of runs that have not finished; and files of which rows have not been pulled. Of working folders and models, the
documents stay for ``keep.documents`` days, so that ``hmamba history`` lists the nights of a year.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from hmamba.config import Config
from hmamba.contracts.manifest import Manifest
from hmamba.errors import BusyError, HMambaError, InputError
from hmamba.models import promotions
from hmamba.sources.files import find_catalogue
from hmamba.statements import rows
from hmamba.steps import PUBLISHING
from hmamba.storage.layout import Layout
from hmamba.storage.local import sha256
from hmamba.storage.root_locks import tables
from hmamba.storage.run_layout import RunLayout
from hmamba.storage.temporary import claimed
from hmamba.upkeep.sizes import size_of
from hmamba.warehouse.connection import connect

ABANDONED_SECONDS = 7 * 86_400
"""A run that has not finished and has written nothing for so long does not continue."""


@dataclass(frozen=True)
class Doomed:
    """Something that is deleted. ``kind``: a key of ``[keep]``, or states. ``bytes``: its size."""

    kind: str
    path: Path
    bytes: int


@dataclass
class Plan:
    """What is deleted.

    Attributes:
        doomed: each file or folder.
        notes: a sentence for each kind of which nothing is deleted, because a file cannot be read, and for each working
            folder that is kept, because a step works in it.
    """

    doomed: list[Doomed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, *paths: Path) -> None:
        """Plan the deletion of paths."""
        self.doomed += [Doomed(kind, path, size_of(path)) for path in paths]

    @property
    def bytes(self) -> int:
        """Size of everything."""
        return sum(one.bytes for one in self.doomed)


def plan(layout: Layout, config: Config, day: date | None = None) -> Plan:
    """Plan what to delete; changes nothing.

    Args:
        layout: the root.
        config: ``[keep]``, and the source.
        day: a day of which everything is kept, because a night of it is running; None for none.
    """
    found, keep = Plan(), config.keep
    newest = _newest_day(layout)
    if newest is None and layout.published_days:
        found.notes.append(f"{layout.latest} does not lead to a table: nothing but reports is deleted.")
        _plan_reports(layout, found, keep.reports, day)
        return found
    always = {found for found in (day, newest) if found is not None}
    tables = _kept([when for when, _ in layout.published_days], keep.tables, always)
    found.add("tables", *(path for when, path in layout.published_days if when not in tables))
    runs = _plan_runs(layout, found, keep.runs, keep.documents, always)
    _plan_states(layout, found)
    _plan_models(layout, found, config, tables, runs)
    _plan_reports(layout, found, keep.reports, day)
    if keep.landing is not None:
        _plan_landing(layout, found, config, keep.landing)
    found.doomed.sort(key=lambda one: (one.kind, one.path))
    return found


def prune(layout: Layout, config: Config, day: date | None = None) -> Plan:
    """Delete what :func:`plan` finds, and return it. A table disappears as a whole."""
    with tables(layout):
        found = plan(layout, config, day)
        found.doomed = [one for one in found.doomed if _delete(layout, one, found.notes)]
    return found


def _delete(layout: Layout, one: Doomed, notes: list[str]) -> bool:
    """Delete something, unless a step works in its working folder; returns whether it is deleted."""
    with ExitStack() as stack:
        try:
            for run in _runs_of(layout, one.path):
                stack.enter_context(layout.storage.lock(run, wait_seconds=0))
        except BusyError as error:
            notes.append(f"{one.path} is kept: {error}")
            return False
        if one.kind == "tables":
            with claimed(one.path) as aside:
                layout.storage.move(one.path, aside)
                layout.storage.delete(aside)
        else:
            layout.storage.delete(one.path)
        return True


def _runs_of(layout: Layout, path: Path) -> list[Path]:
    """The working folders that a path is, is in, or contains."""
    if not path.is_relative_to(layout.runs):
        return []
    parts = path.relative_to(layout.runs).parts
    return [layout.runs.joinpath(*parts[:2])] if len(parts) > 1 else layout.storage.find(path, "*/")


def _kept(days: Collection[date], most: int, always: Collection[date]) -> set[date]:
    """The newest days, and those that are always kept."""
    return {*sorted(set(days))[-most:], *always}


def _newest_day(layout: Layout) -> date | None:
    """Day of the table that readers have, by the link if its manifest cannot be read; None without one."""
    with suppress(InputError):
        manifest = Manifest.read_if_exists(layout.latest, layout.storage)
        return None if manifest is None else manifest.day
    link = layout.storage.local_path(layout.latest)
    folder = link.resolve().parent if link.exists() else None
    return next((day for day, path in layout.published_days if path.resolve() == folder), None)


def _plan_runs(layout: Layout, found: Plan, most: int, documents: int, always: set[date]) -> set[date]:
    """Plan what goes of working folders; returns the days of which all is kept."""
    runs = {
        day: [RunLayout(path, layout.storage) for path in layout.storage.find(folder, "*/")]
        for day, folder in layout.run_days
    }
    large = {day for day, of_day in runs.items() if any(map(large_parts, of_day))}
    kept = _kept(large, most, always) | layout.claimed_days
    kept |= {day for day in large if not all(map(_has_ended, runs[day]))}
    recorded = _kept(runs, documents, kept)
    for day, of_day in runs.items():
        if day not in recorded:
            found.add("documents", layout.runs / day.isoformat())
        elif day not in kept:
            found.add("runs", *(path for run in of_day for path in large_parts(run)))
    return kept


def large_parts(run: RunLayout) -> list[Path]:
    """Everything in a working folder but its documents."""
    small = {run.verdict, run.metrics, run.failures}
    return [path for path in run.storage.find(run.folder, "*") if path not in small]


def _has_ended(run: RunLayout) -> bool:
    """Whether a run has published, has nothing to lose, or has not written anything for a week."""
    if not large_parts(run) or run.storage.exists(run.step_metrics(PUBLISHING[-1])):
        return True
    written = max((path.lstat().st_mtime for path in run.storage.local_path(run.folder).rglob("*")), default=0.0)
    return time.time() - written > ABANDONED_SECONDS


def _plan_states(layout: Layout, found: Plan) -> None:
    """Plan the carried states of all runs but the one that made the readers' table."""
    newest = _manifest(layout, layout.latest, found)
    if newest is not None:
        kept = layout.run(newest.day, newest.run_id).states
        doomed = {one.path for one in found.doomed}
        found.add("states", *(p for p in layout.carried_states if p != kept and not doomed & {p, *p.parents}))


def _manifest(layout: Layout, place: Path, found: Plan) -> Manifest | None:
    try:
        return Manifest.read_if_exists(place, layout.storage)
    except InputError as error:
        found.notes.append(str(error))
        return None


def _plan_models(layout: Layout, found: Plan, config: Config, tables: set[date], runs: set[date]) -> None:
    """Plan the versions that neither serve, nor made a kept table, nor are needed to run a kept night again."""
    manifests = [_manifest(layout, layout.published_manifest(day), found) for day in tables]
    try:
        history = promotions.promotions(layout)
        champions = {promotions.champion_before(layout, day) for day in runs}
    except InputError as error:
        found.notes.append(str(error))
        return
    if any(layout.storage.exists(layout.published(day)) for day in tables) and None in manifests:
        found.notes.append("No model is deleted, because the manifest of a kept table cannot be read.")
        return
    needed = {manifest.model_version for manifest in manifests if manifest is not None}
    needed |= {one.version for one in history[-1:]}
    needed |= {version for version in champions if version is not None}
    stored = layout.model_days
    known = [day for day, _ in stored]
    # A kept working folder may be that of a night between train and gate.
    kept, recorded = (_kept(known, most, runs) for most in (config.keep.models, config.keep.documents))
    for day, folder in stored:
        if day in kept or folder.name in needed:
            continue
        files = [path for path in layout.storage.find(folder, "*") if path != layout.model_metrics(folder.name)]
        if day not in recorded:
            found.add("documents", folder)
        else:
            found.add("models", *files)


def _plan_reports(layout: Layout, found: Plan, most: int, day: date | None) -> None:
    kept = _kept([when for when, _ in layout.report_days], most, {day} if day is not None else ())
    found.add("reports", *(path for when, path in layout.report_days if when not in kept))


def _plan_landing(layout: Layout, found: Plan, config: Config, most: int) -> None:
    """Plan the files of which all rows have been pulled, and none on the newest days of pulls.

    Files outside of ``landing``, links, catalogues and files that have changed since they were pulled stay.
    """
    if not layout.warehouse.is_file():
        return
    at_once = config.warehouse.model_copy(update={"wait_seconds": 0.0})
    try:
        with connect(layout.warehouse, at_once, read_only=True) as connection:
            taken = rows(connection, "upkeep/taken_files")
            days = {row["day"] for row in rows(connection, "upkeep/pull_days", {"days": most})}
    except HMambaError as error:
        found.notes.append(f"No landing file is deleted: {error}")
        return
    catalogue = {file.path for file in find_catalogue(layout, config)}
    for row in taken:
        path = layout.root / row["name"]
        if row["state"] != "loaded" or row["day"] in days or path in catalogue or not _is_inside(path, layout.landing):
            continue
        status = path.lstat()
        if (status.st_size, status.st_mtime_ns) == (row["size"], row["modified_ns"]) and sha256(path) == row["digest"]:
            found.add("landing", path)


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is a file of its own in a folder, without links on the way."""
    return path.is_file() and not path.is_symlink() and path.resolve().is_relative_to(folder.resolve())
