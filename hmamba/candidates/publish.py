"""Publishing a night's candidates: checked first, then the day's folder, then the link that readers follow.

Readers start at candidates/latest.json, a link to the manifest inside the newest day's folder. A day that is published
again changes its files and their checksums in the one rename of that folder; a newer day is linked once its folder is
whole; and the link never goes back in days.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq

from hmamba import columns
from hmamba.config import Config
from hmamba.contracts import Manifest, PublishedFile, Refresh, SnapshotManifest
from hmamba.errors import BusyError, InputError
from hmamba.quality.candidates import CandidateFiles, CandidateTotals, ShardFiles, check_candidates
from hmamba.sources.ids import read_ids
from hmamba.storage.base import Storage
from hmamba.storage.layout import Layout, RunLayout
from hmamba.warehouse.connection import in_memory

log = logging.getLogger("hmamba")


@dataclass(frozen=True)
class Published:
    """What publishing did. ``changed`` is false if just this content was there already."""

    totals: CandidateTotals
    files: int
    changed: bool


def candidate_parts(run: RunLayout) -> tuple[Path, ...]:
    """The run's candidate parts, one for each shard of its snapshot: what another snapshot left there does not count.

    Raises:
        InputError: the snapshot is missing, or shards have not been scored.
    """
    shards = SnapshotManifest.read(run.storage.local_path(run.manifest)).shards
    parts = tuple(run.candidate_part(shard) for shard in range(shards))
    missing = [str(shard) for shard, part in enumerate(parts) if not part.is_file()]
    if missing:
        raise InputError(
            f"{parts[int(missing[0])]} does not exist. Run the score step for shard {', '.join(missing)} "
            f"(python -m jobs.score --shard {missing[0]})."
        )
    return parts


def _candidate_files(layout: Layout, run: RunLayout, config: Config) -> CandidateFiles:
    allowed = config.candidates.allowed_items
    parts = enumerate(candidate_parts(run))
    return CandidateFiles(
        shards=tuple(ShardFiles(part, (run.shard(shard),)) for shard, part in parts),
        items=run.items,
        indexed=run.item_points,
        allowed=None
        if allowed is None
        else read_ids(layout.root / allowed, columns.ITEM_ID, "candidates.allowed_items", config.source.null_words),
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
    """Whether every file that a manifest names is there with its content."""
    files = [(storage.root / file.path, file.sha256) for file in manifest.files]
    return all(storage.exists(file) and storage.digest(file) == expected for file, expected in files)


def latest_manifest(layout: Layout) -> Manifest | None:
    """The manifest of the newest published table; None if nothing is published.

    Raises:
        InputError: it is damaged.
    """
    return Manifest.read_if_exists(layout.storage.local_path(layout.latest))


def publish(
    layout: Layout, day: date, run_id: str, config: Config, fallback_users: int, warning: str | None = None
) -> Published:
    """Check the run's candidates and make them the day's, and the newest if no later day is out.

    Args:
        layout: the root.
        day: the night's day.
        run_id: whose candidates.
        config: says k, whether seen items are excluded, what is allowed, and how many days of runs are kept.
        fallback_users: users who got popular items for want of a history, for the manifest.
        warning: what readers have to know of the table, for the manifest; None if nothing.

    Raises:
        InputError: an earlier step has not run.
        QualityError: a rule is broken; what was published before still is.
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
        snapshot=SnapshotManifest.read(layout.storage.local_path(layout.run(day, run_id).manifest)).digest,
        refresh=None,
        created_at=_now(),
        files=_describe(parts, target, layout.storage),
    )
    with layout.storage.lock(layout.candidates):
        return Published(totals, len(parts), _put(layout, manifest, parts))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _readable(path: Path) -> Manifest | None:
    """The manifest of a table that is about to be replaced; None if there is none, or if it cannot be read."""
    try:
        return Manifest.read_if_exists(path)
    except InputError as error:
        log.warning("publish: the table is replaced: %s", error)
        return None


def _put(layout: Layout, manifest: Manifest, parts: Sequence[Path]) -> bool:
    """Make checked parts the day's, and the newest if no later day is out; returns whether anything changed."""
    target, storage = layout.published(manifest.day), layout.storage
    own = layout.published_manifest(manifest.day)
    # Read before the exchange, after which the link leads to the new manifest.
    before = _readable(storage.local_path(own))
    is_newest = storage.local_path(layout.latest).resolve() == storage.local_path(own).resolve()
    latest = before if is_newest else latest_manifest(layout)
    if before is not None and before.same_content(manifest) and _is_whole(before, storage):
        manifest, changed = before, False
    else:
        changed = True
        with storage.write_folder(target) as folder:
            for part in parts:
                shutil.copyfile(part, folder / part.name)  # a link could be changed by whoever writes the part again
            manifest.write(folder / own.name)
    if latest is None or latest.day <= manifest.day:
        storage.point(layout.latest, own)
        changed = changed or latest != manifest
    else:
        log.info("%s stays the newest: %s is published beside it", latest.day, manifest.day)
    return changed


@dataclass(frozen=True)
class Refreshed:
    """A night's table in which some users' candidates are new.

    Attributes:
        base: the manifest of the day's table that is out, night or refresh.
        day: events up to its end have been read.
        run_id: of the refresh.
        parts: the new table, one part a shard.
        changed: shards with the whole histories of the users whose candidates are new.
        users: how many they are.
        new_users: of them, those whom the night had not served.
        fallback_users: in the whole table.
    """

    base: Manifest
    day: date
    run_id: str
    parts: tuple[Path, ...]
    changed: tuple[Path, ...]
    users: int
    new_users: int
    fallback_users: int


def publish_refresh(layout: Layout, config: Config, refreshed: Refreshed) -> Published:
    """Check a refreshed table as a night's is, and put it in the place of the night's.

    Raises:
        BusyError: something else has been published in the meantime.
        QualityError: a rule is broken; what was published before still is.
    """
    base, target = refreshed.base, layout.published(refreshed.base.day)
    night = _candidate_files(layout, layout.run(base.day, base.run_id), config)
    # Touched users are in the night's shards too, with less: together that is what they have had.
    shards = zip(refreshed.parts, night.shards, refreshed.changed, strict=True)
    files = replace(night, shards=tuple(ShardFiles(part, (*old.events, new)) for part, old, new in shards))
    with in_memory(config.warehouse) as connection:
        name = f"{base.day} {base.run_id} refreshed to {refreshed.day} by {refreshed.run_id}"
        totals = check_candidates(layout.expectations, connection, files, base.k, base.exclude_seen, name)
    changes = {
        "model_version": totals.model_version,
        "rows": totals.rows,
        "users": totals.users,
        "fallback_users": refreshed.fallback_users,
        "refresh": Refresh(
            day=refreshed.day, run_id=refreshed.run_id, users=refreshed.users, new_users=refreshed.new_users
        ),
        "created_at": _now(),
        "files": _describe(refreshed.parts, target, layout.storage),
    }
    with layout.storage.lock(layout.candidates):
        if Manifest.read(layout.storage.local_path(layout.published_manifest(base.day))) != base:
            raise BusyError(f"{target} has been published again during this refresh. Run refresh again.")
        changed = _put(layout, base.model_copy(update=changes), refreshed.parts)
        return Published(totals, len(refreshed.parts), changed)


def prune_states(layout: Layout) -> list[Path]:
    """Delete carried states of all runs but the one that latest.json names; returns their folders."""
    newest = latest_manifest(layout)
    if newest is None:
        return []
    kept = layout.run(newest.day, newest.run_id).states
    doomed = [path for path in layout.carried_states if path != kept]
    for path in doomed:
        layout.storage.delete(path)
    return doomed


def prune_runs(layout: Layout, day: date, keep: int) -> list[Path]:
    """Delete working folders of old days; returns them.

    Kept are the newest ``keep`` days, ``day`` itself and the day that latest.json names.
    """
    days = layout.run_days[::-1]
    kept = {day, *(found for found, _ in days[:keep])}
    if (latest := latest_manifest(layout)) is not None:
        kept.add(latest.day)
    doomed = [path for found, path in days if found not in kept]
    for path in doomed:
        layout.storage.delete(path)
    return doomed
