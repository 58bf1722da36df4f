"""Publish a night's candidates: check them, write the day's folder, then move the link that readers follow.

Readers start at candidates/latest.json, a link to the manifest inside the newest day's folder. Publishing a day again
replaces its files and checksums in one rename of that folder. A newer day is linked after its folder is complete. The
link never moves to an earlier day.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa

from hmamba.candidates import guarding
from hmamba.candidates.beside import CarriedTables, NightTables, Tables, copied
from hmamba.candidates.changes import with_changes
from hmamba.candidates.experiment import experiment_of
from hmamba.candidates.part import plain
from hmamba.candidates.parts import Part, Ruled, candidate_parts, ruled_parts
from hmamba.candidates.served import item_points
from hmamba.columns import GROUP, REASON
from hmamba.config import Config
from hmamba.contracts.manifest import CHANGES, Experiment, Manifest, PublishedFile, Refresh
from hmamba.contracts.scored import RuleEffects
from hmamba.contracts.verdict import Verdict
from hmamba.errors import BusyError, InputError
from hmamba.quality.candidates import CandidateFiles, CandidateTotals, Ruling, ShardFiles, check_candidates
from hmamba.quality.guards import Guarding
from hmamba.sequences.files import Snapshot
from hmamba.sources.ids import allowed_items
from hmamba.storage.base import Storage
from hmamba.storage.layout import Layout
from hmamba.storage.root_locks import tables
from hmamba.warehouse.connection import in_memory

log = logging.getLogger("hmamba")


@dataclass(frozen=True)
class Published:
    """Result of publishing. ``changed`` is false if the same content was already published.

    ``tables``: rows of each table beside the candidates.
    """

    totals: CandidateTotals
    files: int
    changed: bool
    tables: dict[str, int]


@dataclass(frozen=True)
class _Table:
    """A table to publish.

    Attributes:
        parts: its parts.
        histories: the events of the users of each part.
        files: the night's snapshot.
        allowed: ids of the items that may be recommended; None for all.
        columns: names of the columns.
        k, exclude_seen: settings that it was made with.
        name: name of the check in Data Docs.
        guarding: bounds of the guards, and the table before.
        beside: the tables beside it.
        experiment: the experiment; None without one.
        rules: the rules and the parts that were made under them; None without rules.
    """

    parts: tuple[Part, ...]
    histories: list[tuple[Path, ...]]
    files: Snapshot
    allowed: pa.ChunkedArray | None
    columns: tuple[str, ...]
    k: int
    exclude_seen: bool
    name: str
    guarding: Guarding
    beside: Tables
    experiment: Experiment | None
    rules: Ruled | None = None

    @property
    def ruling(self) -> Ruling | None:
        """What the rules change in the check of the candidates."""
        effects = RuleEffects.sum_of([part.effects for part in self.parts])
        if effects is None and self.rules is None:
            return None
        effects = effects or RuleEffects()
        figures = () if self.rules is None else self.rules.figures
        return Ruling(effects.short_users, effects.users_without_rows, figures)

    def copied(self, folder: Path) -> CandidateFiles:
        """Copy the parts into a folder."""
        pairs = zip(self.parts, self.histories, strict=True)
        shards = tuple(
            ShardFiles(
                copied(part.path, part.written, part.cure, folder / part.path.name),
                histories,
                self.files.users_without_events(part.shard),
            )
            for part, histories in pairs
        )
        items, points = self.files.items, item_points(self.files.run)
        return CandidateFiles(shards, items, points, self.allowed, self.columns, self.experiment)

    def published(self, target: Path, storage: Storage) -> tuple[PublishedFile, ...]:
        """The parts as a manifest names them."""
        return tuple(
            PublishedFile(
                path=(target / part.path.name).relative_to(storage.root).as_posix(),
                rows=part.rows,
                bytes=part.written.bytes,
                sha256=part.written.sha256,
            )
            for part in self.parts
        )


def publish(layout: Layout, day: date, run_id: str, config: Config, warning: str | None = None) -> Published:
    """Check the run's candidates and publish them for the day, and as the newest unless a later day is published.

    Args:
        layout: the root.
        day: the night's day.
        run_id: the run whose candidates are published.
        config: settings of the candidates and the warehouse.
        warning: a warning to readers of the table, for the manifest; None without one.

    Raises:
        BusyError: another table was being published for longer than ``warehouse.wait_seconds``.
        InputError: an earlier step has not run, or a file is damaged.
        QualityError: a rule is broken; the table published before stays.
    """
    files, settings = Snapshot.open(layout.run(day, run_id)), config.candidates
    parts, experiment = candidate_parts(files), experiment_of(config, Verdict.read(files.run.verdict, layout.storage))
    for part in parts:
        if part.experiment != experiment:
            raise InputError(f"{part.path} was scored with other settings under [experiment]. {part.cure}")
    table = _Table(
        parts=parts,
        histories=[(shard,) for shard in files.shards],
        files=files,
        allowed=allowed_items(layout, config),
        columns=tuple(plain([*(REASON if settings.because else ()), *(GROUP if experiment else ())]).names),
        k=settings.k,
        exclude_seen=settings.exclude_seen,
        name=f"{day} {run_id}",
        guarding=guarding.of_night(layout, config.publish.guards, day, run_id, [part.written for part in parts]),
        beside=NightTables(layout, files, config, f"{day} {run_id}"),
        experiment=experiment,
        rules=ruled_parts(files),
    )

    def manifest(totals: CandidateTotals) -> Manifest:
        return Manifest(
            run_id=run_id,
            day=day,
            model_version=totals.model_version,
            k=table.k,
            rows=totals.rows,
            users=totals.users,
            fallback_users=sum(part.fallback_users for part in table.parts),
            exclude_seen=table.exclude_seen,
            warning=warning,
            snapshot=files.digest,
            refresh=None,
            created_at=_now(),
            files=table.published(layout.published(day), layout.storage),
            columns=table.columns,
            experiment=experiment,
            rules=files.manifest.rules_digest,
        )

    with tables(layout, config.warehouse.wait_seconds):
        return _put(layout, config, day, table, manifest)


def _is_whole(manifest: Manifest, storage: Storage) -> bool:
    """Whether every file that a manifest names exists with the recorded digest."""
    files = [(storage.root / file.path, file.sha256) for file in manifest.every_file]
    return all(storage.exists(file) and storage.digest(file) == expected for file, expected in files)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _readable(place: Path, storage: Storage) -> Manifest | None:
    """Read a manifest that publishing can do without; None if it is missing or, with a warning, unreadable."""
    try:
        return Manifest.read_if_exists(place, storage)
    except InputError as error:
        log.warning("publish: a table's manifest is ignored: %s", error)
        return None


def _newest_day(layout: Layout, manifest: Manifest | None) -> date | None:
    """Day of the newest published table, by the link's target if its manifest cannot be read; None if there is none."""
    if manifest is not None:
        return manifest.day
    link = layout.storage.local_path(layout.latest)
    folder = link.resolve().parent.name if link.exists() else None
    return next((day for day, path in layout.published_days if path.name == folder), None)


class _PublishedAlready(Exception):  # noqa: N818 - no error: it leaves the new folder unused
    """The same table is published already, and whole."""


def _put(
    layout: Layout, config: Config, day: date, table: _Table, describe: Callable[[CandidateTotals], Manifest]
) -> Published:
    """Copy and check a table, publish it for the day, and as the newest unless a later day is."""
    target, storage, own = layout.published(day), layout.storage, layout.published_manifest(day)
    # Read before the folder is replaced: after that the link leads to the new manifest.
    before, base = _readable(own, storage), _readable(layout.latest, storage)
    newest = _newest_day(layout, base)
    changed = False
    with suppress(_PublishedAlready), storage.write_folder(target) as folder:
        candidates = table.copied(folder)
        with in_memory(config.warehouse) as connection:
            totals = check_candidates(
                layout.checks,
                connection,
                candidates,
                table.k,
                table.exclude_seen,
                table.name,
                table.guarding,
                table.ruling,
            )
            beside = table.beside.put(folder, candidates, connection)
        besides = beside.below(target.relative_to(layout.root).as_posix())
        manifest = describe(totals).model_copy(update={"tables": besides, "vector_space": beside.vector_space})
        if before is not None and before.same_content(manifest) and _is_whole(before, storage):
            raise _PublishedAlready
        if config.publishes_changes and base is not None and base.day <= day and _is_whole(base, storage):
            manifest = with_changes(layout, config, manifest, base, folder, table.name)
        manifest.write(folder / own.name)
        changed = True
    if newest is None or newest <= day:
        storage.point(layout.latest, own)
        changed = changed or newest != day
    else:
        log.info("the table of %s stays the newest; the table of %s is published as well", newest, day)
    rows = {name: sum(file.rows for file in files) for name, files in besides.items()}
    return Published(totals, len(table.parts), changed, rows)


@dataclass(frozen=True)
class Refreshed:
    """A night's table with the candidates of some users replaced.

    Attributes:
        base: manifest of the currently published table, of the night or of an earlier refresh.
        refresh: the refresh, for the new manifest.
        parts: the new table, one part per shard.
        changed: per shard, the complete histories of the users whose candidates are replaced.
        rules: the rules of the refresh and its parts; None without rules.
    """

    base: Manifest
    refresh: Refresh
    parts: tuple[Part, ...]
    changed: tuple[Path, ...]
    rules: Ruled | None = None


def publish_refresh(layout: Layout, config: Config, refreshed: Refreshed) -> Published:
    """Check a refreshed table with the rules of a night's, and publish it in its place.

    Raises:
        BusyError: another table was published in the meantime.
        InputError: a file of the night is damaged.
        QualityError: a rule is broken; the table published before stays.
    """
    base, refresh, target = refreshed.base, refreshed.refresh, layout.published(refreshed.base.day)
    files = Snapshot.open(layout.run(base.day, base.run_id))
    table = _Table(
        parts=refreshed.parts,
        # The night's shards hold the older events of these users; the checks need both files.
        histories=[(old, new) for old, new in zip(files.shards, refreshed.changed, strict=True)],
        files=files,
        allowed=allowed_items(layout, config),
        columns=base.columns,
        k=base.k,
        exclude_seen=base.exclude_seen,
        name=f"{base.day} {base.run_id} refreshed to {refresh.day} by {refresh.run_id}",
        guarding=guarding.of_refresh(
            layout, config.publish.guards, base, [part.written for part in candidate_parts(files)]
        ),
        beside=CarriedTables(layout, base),
        experiment=base.experiment,
        rules=refreshed.rules,
    )

    def manifest(totals: CandidateTotals) -> Manifest:
        changes = {
            "model_version": totals.model_version,
            "rows": totals.rows,
            "users": totals.users,
            "fallback_users": sum(part.fallback_users for part in table.parts),
            "refresh": refresh,
            "created_at": _now(),
            "files": table.published(target, layout.storage),
            "tables": {name: files for name, files in base.tables.items() if name != CHANGES},
            "changes_from": None,
            "rules": None if refreshed.rules is None else refreshed.rules.files.manifest.rules_digest,
        }
        return base.model_copy(update=changes)

    with tables(layout, config.warehouse.wait_seconds):
        if Manifest.read(layout.published_manifest(base.day), layout.storage) != base:
            raise BusyError(f"{target} has been published again during this refresh. Run refresh again.")
        return _put(layout, config, base.day, table, manifest)
