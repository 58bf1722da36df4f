"""Publish a night's candidates: check them, write the day's folder, then move the link that readers follow.

Readers start at candidates/latest.json, a link to the manifest inside the newest day's folder. Publishing a day again
replaces its files and checksums in one rename of that folder. A newer day is linked after its folder is complete. The
link never moves to an earlier day.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq

from hmamba.config import Config
from hmamba.contracts.manifest import Manifest, PublishedFile, Refresh, SnapshotManifest
from hmamba.errors import BusyError, InputError
from hmamba.quality.candidates import CandidateFiles, CandidateTotals, ShardFiles, check_candidates
from hmamba.sources.ids import allowed_items
from hmamba.storage.base import Storage
from hmamba.storage.layout import Layout, RunLayout
from hmamba.warehouse.connection import in_memory

log = logging.getLogger("hmamba")


@dataclass(frozen=True)
class Published:
    """Result of publishing. ``changed`` is false if the same content was already published."""

    totals: CandidateTotals
    files: int
    changed: bool


def candidate_parts(run: RunLayout) -> tuple[Path, ...]:
    """Paths of the run's candidate parts, one per shard of its snapshot; parts of an earlier snapshot are ignored.

    Raises:
        InputError: the snapshot is missing, or shards have not been scored.
    """
    shards = SnapshotManifest.read(run.manifest, run.storage).shards
    parts = tuple(run.candidate_part(shard) for shard in range(shards))
    missing = [str(shard) for shard, part in enumerate(parts) if not part.is_file()]
    if missing:
        raise InputError(
            f"{parts[int(missing[0])]} does not exist. Run the score step for shard {', '.join(missing)} "
            f"(python -m jobs.score --shard {missing[0]})."
        )
    return parts


def _candidate_files(layout: Layout, run: RunLayout, config: Config) -> CandidateFiles:
    parts = enumerate(candidate_parts(run))
    return CandidateFiles(
        shards=tuple(ShardFiles(part, (run.shard(shard),)) for shard, part in parts),
        items=run.items,
        indexed=run.item_points,
        allowed=allowed_items(layout, config),
    )


def _describe(parts: Sequence[Path], target: Path, storage: Storage) -> tuple[PublishedFile, ...]:
    return tuple(
        PublishedFile(
            path=(target / part.name).relative_to(storage.root).as_posix(),
            rows=pq.read_metadata(part).num_rows,
            bytes=part.stat().st_size,
            sha256=storage.digest(part),
        )
        for part in parts
    )


def _is_whole(manifest: Manifest, storage: Storage) -> bool:
    """Whether every file that a manifest names exists with the recorded digest."""
    files = [(storage.root / file.path, file.sha256) for file in manifest.files]
    return all(storage.exists(file) and storage.digest(file) == expected for file, expected in files)


def publish(
    layout: Layout, day: date, run_id: str, config: Config, fallback_users: int, warning: str | None = None
) -> Published:
    """Check the run's candidates and publish them for the day, and as the newest unless a later day is published.

    Args:
        layout: the root.
        day: the night's day.
        run_id: the run whose candidates are published.
        config: settings of the candidates and the warehouse.
        fallback_users: users without usable history, who received popular items; for the manifest.
        warning: a warning to readers of the table, for the manifest; None without one.

    Raises:
        InputError: an earlier step has not run.
        QualityError: a rule is broken; the table published before stays.
    """
    files = _candidate_files(layout, layout.run(day, run_id), config)
    settings = config.candidates
    with in_memory(config.warehouse) as connection:
        totals = check_candidates(
            layout.expectations, connection, files, settings.k, settings.exclude_seen, f"{day} {run_id}"
        )
    target, parts = layout.published(day), tuple(shard.part for shard in files.shards)
    manifest = Manifest(
        run_id=run_id,
        day=day,
        model_version=totals.model_version,
        k=settings.k,
        rows=totals.rows,
        users=totals.users,
        fallback_users=fallback_users,
        exclude_seen=settings.exclude_seen,
        warning=warning,
        snapshot=SnapshotManifest.read(layout.run(day, run_id).manifest, layout.storage).digest,
        refresh=None,
        created_at=_now(),
        files=_describe(parts, target, layout.storage),
    )
    with layout.storage.lock(layout.candidates):
        return Published(totals, len(parts), _put(layout, manifest, parts))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _readable(place: Path, storage: Storage) -> Manifest | None:
    """Read a manifest that publishing can do without; None if it is missing or, with a warning, unreadable."""
    try:
        return Manifest.read_if_exists(place, storage)
    except InputError as error:
        log.warning("publish: a table's manifest is ignored: %s", error)
        return None


def _newest_day(layout: Layout) -> date | None:
    """Day of the newest published table, by the link's target if its manifest cannot be read; None if there is none."""
    if (manifest := _readable(layout.latest, layout.storage)) is not None:
        return manifest.day
    link = layout.storage.local_path(layout.latest)
    folder = link.resolve().parent.name if link.exists() else None
    return next((day for day, path in layout.published_days if path.name == folder), None)


def _put(layout: Layout, manifest: Manifest, parts: Sequence[Path]) -> bool:
    """Publish checked parts for the day, and as the newest unless a later day is; returns whether anything changed."""
    target, storage = layout.published(manifest.day), layout.storage
    own = layout.published_manifest(manifest.day)
    # Read before the folder is replaced: after that the link leads to the new manifest.
    before, newest = _readable(own, storage), _newest_day(layout)
    if before is not None and before.same_content(manifest) and _is_whole(before, storage):
        manifest, changed = before, False
    else:
        changed = True
        with storage.write_folder(target) as folder:
            for part in parts:
                shutil.copyfile(
                    part, folder / part.name
                )  # not a hard link: scoring again would change the published file
            manifest.write(folder / own.name)
    if newest is None or newest <= manifest.day:
        storage.point(layout.latest, own)
        changed = changed or newest != manifest.day
    else:
        log.info("the table of %s stays the newest; the table of %s is published as well", newest, manifest.day)
    return changed


@dataclass(frozen=True)
class Refreshed:
    """A night's table with the candidates of some users replaced.

    Attributes:
        base: manifest of the currently published table, of the night or of an earlier refresh.
        refresh: the refresh, for the new manifest.
        parts: the new table, one part per shard.
        changed: per shard, the complete histories of the users whose candidates are replaced.
        fallback_users: number of fallback users in the whole table.
    """

    base: Manifest
    refresh: Refresh
    parts: tuple[Path, ...]
    changed: tuple[Path, ...]
    fallback_users: int


def publish_refresh(layout: Layout, config: Config, refreshed: Refreshed) -> Published:
    """Check a refreshed table with the rules of a night's, and publish it in its place.

    Raises:
        BusyError: another table was published in the meantime.
        QualityError: a rule is broken; the table published before stays.
    """
    base, refresh, target = refreshed.base, refreshed.refresh, layout.published(refreshed.base.day)
    night = _candidate_files(layout, layout.run(base.day, base.run_id), config)
    # The night's shards hold the older events of these users; the checks need both files.
    shards = zip(refreshed.parts, night.shards, refreshed.changed, strict=True)
    files = replace(night, shards=tuple(ShardFiles(part, (*old.events, new)) for part, old, new in shards))
    with in_memory(config.warehouse) as connection:
        name = f"{base.day} {base.run_id} refreshed to {refresh.day} by {refresh.run_id}"
        totals = check_candidates(layout.expectations, connection, files, base.k, base.exclude_seen, name)
    changes = {
        "model_version": totals.model_version,
        "rows": totals.rows,
        "users": totals.users,
        "fallback_users": refreshed.fallback_users,
        "refresh": refresh,
        "created_at": _now(),
        "files": _describe(refreshed.parts, target, layout.storage),
    }
    with layout.storage.lock(layout.candidates):
        if Manifest.read(layout.published_manifest(base.day), layout.storage) != base:
            raise BusyError(f"{target} has been published again during this refresh. Run refresh again.")
        changed = _put(layout, base.model_copy(update=changes), refreshed.parts)
        return Published(totals, len(refreshed.parts), changed)


def prune_states(layout: Layout) -> list[Path]:
    """Delete the carried states of all runs except the one that latest.json names; returns their folders.

    Nothing is deleted if latest.json cannot be read.
    """
    newest = _readable(layout.latest, layout.storage)
    if newest is None:
        return []
    kept = layout.run(newest.day, newest.run_id).states
    expired = [path for path in layout.carried_states if path != kept]
    for path in expired:
        layout.storage.delete(path)
    return expired


def prune_runs(layout: Layout, day: date, keep: int) -> list[Path]:
    """Delete working folders of old days; returns their paths.

    The newest ``keep`` days, ``day``, the days of runs that have not ended and the day that latest.json names are kept.
    """
    days = layout.run_days[::-1]
    kept = {day, _newest_day(layout), *layout.claimed_days, *(found for found, _ in days[:keep])}
    expired = [path for found, path in days if found not in kept]
    for path in expired:
        layout.storage.delete(path)
    return expired
