"""Erase users from a root: from the warehouse and from everything that nights have made of it.

The warehouse comes first and leaves a tombstone, so that no later pull brings the user back. Then working folders,
published tables and texts are written again without the user, each exchanged as a whole: readers find the old or the
new one. Everything is found by looking, not by a list of what has been done, so that an erasure that was killed is
finished by the same command. Models know items and no users; their weights stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from hmamba.columns import FALLBACK_VERSION, MODEL_VERSION, RANK, USER_ID
from hmamba.config import Config
from hmamba.contracts.contents import HashedFile, digest_of
from hmamba.contracts.guards import Acceptance
from hmamba.contracts.manifest import CHANGES, Manifest, PublishedFile, SnapshotFile, SnapshotManifest
from hmamba.contracts.receipt import ErasedUser, Receipt
from hmamba.contracts.scored import ShardMetrics
from hmamba.contracts.steps import IndexMetrics, SnapshotMetrics
from hmamba.errors import InputError
from hmamba.report.examples import without_users
from hmamba.storage.base import write_text
from hmamba.storage.layout import Layout
from hmamba.storage.local import LOCAL, digest
from hmamba.storage.root_locks import quiet, tables
from hmamba.storage.run_layout import RunLayout, shard_name
from hmamba.storage.temporary import sweep
from hmamba.tables.files import described
from hmamba.upkeep.names import SUFFIXES, Names
from hmamba.upkeep.rewriting import holds, linked, without
from hmamba.upkeep.sources import erase_from_files, files_that_name
from hmamba.warehouse.connection import connect
from hmamba.warehouse.forgotten import Tombstone, erase
from hmamba.warehouse.rewrite import rewrite


class _Erasure:
    """An erasure in progress: the root, the users, and the receipt.

    The receipt is written before each change, so that it names every file even if the erasure is killed and run again.
    """

    def __init__(self, layout: Layout, config: Config, users: tuple[str, ...], tombstones: Sequence[Tombstone]) -> None:
        self.layout, self.config, self.users = layout, config, users
        self.ids, self.names = pa.array(users, pa.string()), Names(users)
        self._place = layout.receipts / f"forget-{digest([one.user_hash for one in tombstones])[:16]}.json"
        erased = tuple(
            ErasedUser(
                user_hash=one.user_hash,
                forgotten_at=one.forgotten_at.isoformat(),
                events=one.events,
                quarantined=one.quarantined,
            )
            for one in tombstones
        )
        before = Receipt.read_if_exists(self._place, layout.storage)
        self.receipt = Receipt(begun_at=_now(), users=erased) if before is None else before
        self.record(users=erased, ended_at=None)

    def record(self, **changes: object) -> None:
        """Change the receipt, and write it."""
        self.receipt = self.receipt.model_copy(update=changes)
        self.receipt.write(self._place, self.layout.storage)

    def rewrites(self, *paths: Path) -> None:
        """Record files or folders that are about to be written again."""
        self.record(rewritten=tuple(sorted({*self.receipt.rewritten, *map(self.shown, paths)})))

    def deletes(self, *paths: Path) -> None:
        """Record files or folders that are about to be deleted."""
        self.record(deleted=tuple(sorted({*self.receipt.deleted, *map(self.shown, paths)})))

    def shown(self, path: Path | str) -> str:
        """A path as the receipt names it."""
        name = Path(path)
        inside = name.relative_to(self.layout.root) if name.is_relative_to(self.layout.root) else name
        return self.names.removed(inside.as_posix())

    def holding(self, folder: Path) -> list[Path]:
        """Files of a folder that hold or name one of the users."""
        found = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
            if path.suffix == ".parquet":
                if holds(path, self.ids):
                    found.append(path)
            elif path.suffix in SUFFIXES and self.names.are_in(path):
                found.append(path)
        return found


def forget(layout: Layout, config: Config, users: Sequence[str], *, landing: bool = False) -> Receipt:
    """Erase users.

    Args:
        layout: the root.
        config: the settings of the source.
        users: ids, as ``hmamba recommend`` takes them.
        landing: whether to write source files with rows of the users again without these; otherwise the receipt names
            the files.

    Returns:
        The receipt, as written under ``receipts/``.

    Raises:
        BusyError: a night, a refresh or a step of this root is still running after ``warehouse.wait_seconds``.
        InputError: no id is given, there is no warehouse, or a file is damaged.
    """
    given = tuple(dict.fromkeys(user.strip() for user in users if user.strip()))
    if not given:
        raise InputError("No user is given. Name at least one id.")
    if not layout.warehouse.is_file():
        raise InputError(f"{layout.warehouse} does not exist: there is nothing to erase. Correct --root.")
    wait = config.warehouse.wait_seconds
    with ExitStack() as stack:
        stack.enter_context(quiet(layout, wait))
        work = _Erasure(layout, config, given, _erase_from_warehouse(layout, config, given))
        work.rewrites(layout.warehouse)
        for step in (_delete_leftovers, _erase_from_runs, _erase_from_tables, _erase_from_texts):
            step(work)
        if landing:
            work.rewrites(*erase_from_files(layout, config, given))
        held, unreadable = files_that_name(layout, config, given)
        work.record(
            ended_at=_now(),
            landing=tuple(map(work.shown, held)),
            unreadable=tuple(map(work.names.removed, unreadable)),
        )
    return work.receipt


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _erase_from_warehouse(layout: Layout, config: Config, users: Sequence[str]) -> list[Tombstone]:
    """Erase the users' rows, and write the file again."""
    with connect(layout.warehouse, config.warehouse) as connection:
        connection.begin()
        try:
            tombstones = erase(connection, users, config.source.columns.user_id)
        except BaseException:
            connection.rollback()
            raise
        connection.commit()
        rewrite(connection, layout.warehouse)
    return tombstones


def _erase_from_runs(work: _Erasure) -> None:
    layout = work.layout
    for _, folder in (*layout.run_days, *layout.rolled_back_days):
        for path in layout.storage.find(folder, "*/"):
            run = RunLayout(path, layout.storage)
            with layout.storage.lock(path, wait_seconds=work.config.warehouse.wait_seconds):
                found = work.holding(path)
                if found:
                    work.rewrites(path)
                    _write_run(work, run, found)


def _write_run(work: _Erasure, run: RunLayout, found: Sequence[Path]) -> None:
    """Exchange a working folder for one without the users.

    A refresh that was killed leaves files that nothing reads, and carried states can be computed again: both are left
    out.
    """
    useless = {run.refresh.folder, *_states(run, found)}
    besides = [path.relative_to(run.folder).as_posix() for path in (*found, *useless)]
    with run.storage.write_folder(run.folder) as folder:
        linked(run.folder, folder, besides)
        new = RunLayout(folder, LOCAL)
        changed = [path for path in found if not any(path.is_relative_to(left_out) for left_out in useless)]
        removed = {}
        for path in changed:
            target = folder / path.relative_to(run.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".parquet":
                removed[path] = without(path, target, work.ids)
            else:
                target.write_text(work.names.rewritten(path), encoding="utf-8")
        _describe_run(run, new, removed, changed)


def _states(run: RunLayout, found: Sequence[Path]) -> Iterator[Path]:
    """The states of the shards of which a file is rewritten; a refresh encodes these users from their histories."""
    for path in found:
        if path.parent == run.states:
            number = path.name.partition("-")[2]
            yield from (run.states / f"{kind}-{number}" for kind in ("part", "users"))


def _describe_run(run: RunLayout, new: RunLayout, removed: dict[Path, pa.Table], changed: Sequence[Path]) -> None:
    """Enter the new files of a run into its documents.

    Args:
        run: the old folder.
        new: the new one, whose documents are those of the old one.
        removed: the rows that were left out, by file of the old folder.
        changed: files of the old folder that were written again.
    """
    before = SnapshotManifest.read_if_exists(run.manifest, run.storage)
    after = before
    if before is not None and any(path.parent == run.sequences for path in changed):
        after = _write_manifest(before, run, new, removed)
    index = IndexMetrics.read_if_exists(run.step_metrics("index"), run.storage)
    if before is not None and after is not None and index is not None and index.snapshot == before.files_digest:
        # The tables about items name no user, and stay.
        index.model_copy(update={"snapshot": after.files_digest}).write(new.step_metrics("index"))
    for path in run.storage.find(run.metrics, "score-*.json"):
        old = ShardMetrics.read(path, run.storage)
        part, points = run.candidate_part(old.shard), run.user_points(old.shard)
        shard = removed.get(run.shard(old.shard))
        changes: dict[str, object] = {}
        if before is not None and after is not None and old.snapshot == before.digest:
            changes["snapshot"] = after.digest
            if old.rules == before.rules_digest != after.rules_digest:
                changes["rules"] = after.rules_digest
        if part in removed:
            rows = removed[part]
            changes["part"] = HashedFile.of(new.candidate_part(old.shard), part.name)
            changes["rows"] = old.rows - len(rows)
            changes["fallback_users"] = old.fallback_users - _fallback_users(rows)
        if points in removed:
            changes["points"] = HashedFile.of(new.user_points(old.shard), points.name)
        if any(run.table(name, old.shard) in removed for name in old.tables):
            changes["tables"] = {
                name: described(new.table(name, old.shard), written.name, written.made_with)
                for name, written in old.tables.items()
            }
        if shard is not None or part in removed:  # a user without events is in the part only
            changes["users"] = old.users - _users(*(rows for rows in (shard, removed.get(part)) if rows is not None))
        if changes:
            old.model_copy(update=changes).write(new.metrics / path.name)
    _accept_still(run, new)


def _accept_still(run: RunLayout, new: RunLayout) -> None:
    """Let what was accepted for the candidates of a run hold for them without the users."""
    found = Acceptance.read_if_exists(run.accepted, run.storage)
    if found is not None and found.table == _candidates_digest(run):
        found.model_copy(update={"table": _candidates_digest(new)}).write(new.accepted)


def _candidates_digest(run: RunLayout) -> str:
    scored = (ShardMetrics.read_if_exists(path, run.storage) for path in run.score_metrics)
    return digest_of(one.part for one in scored if one is not None)


def _write_manifest(
    before: SnapshotManifest, run: RunLayout, new: RunLayout, removed: dict[Path, pa.Table]
) -> SnapshotManifest:
    """Write the manifest of a snapshot, and the metrics of its step, with the digests of the new files."""
    files, users, events = [], before.users, before.events
    shards = {shard_name(shard) for shard in range(before.shards)}
    for file in before.files:
        rows = removed.get(run.sequences / file.name)
        written = HashedFile.of(new.sequences / file.name)
        left_out = 0 if rows is None else len(rows)
        files.append(SnapshotFile(**written.model_dump(), rows=file.rows - left_out))
        if rows is None:
            continue
        if file.name in shards:
            users, events = users - _users(rows), events - len(rows)
    after = before.model_copy(update={"files": tuple(files)})
    totals: dict[str, object] = {"users": users, "events": events, "digest": after.content_digest}
    if after.content_digest != before.digest:
        totals["former"] = (*before.former, before.digest)
    after = after.model_copy(update=totals)
    after.write(new.manifest)
    metrics = SnapshotMetrics.read_if_exists(run.step_metrics("snapshot"), run.storage)
    if metrics is not None and metrics.digest == before.digest:
        totals.pop("former", None)
        metrics.model_copy(update=totals).write(new.step_metrics("snapshot"))
    return after


def _users(*tables: pa.Table) -> int:
    """Number of users of all tables together."""
    return len(
        pc.unique(pa.chunked_array([chunk.cast(pa.string()) for rows in tables for chunk in rows[USER_ID].chunks]))
    )


def _fallback_users(rows: pa.Table) -> int:
    """Number of users with popular items among candidates."""
    first = pc.and_(pc.equal(rows[RANK], 1), pc.equal(rows[MODEL_VERSION], FALLBACK_VERSION))
    return int(pc.sum(first).as_py() or 0)


def _erase_from_tables(work: _Erasure) -> None:
    """Exchange published tables for ones without the users; their manifests name the new snapshots."""
    layout, storage = work.layout, work.layout.storage
    with tables(layout, work.config.warehouse.wait_seconds):
        for folder in (*(path for _, path in layout.published_days), *layout.rolled_back_tables):
            local = storage.local_path(folder)
            # Changes are left out: with fewer rows they would leave the user in what was delivered before.
            changes = layout.published_table(local, CHANGES).parent
            held = [path for path in work.holding(local) if path.suffix == ".parquet"]
            found = [path for path in held if not path.is_relative_to(changes)]
            own = local / layout.published_manifest(datetime.min.date()).name
            manifest = Manifest.read_if_exists(own)
            snapshot = None if manifest is None else _snapshot_now(layout, manifest)
            if not held and (manifest is None or snapshot == manifest.snapshot):
                continue
            work.rewrites(folder)
            with storage.write_folder(folder) as target:
                linked(local, target, [path.relative_to(local).as_posix() for path in (*found, own, changes)])
                removed = {}
                for path in found:
                    name = path.relative_to(local)
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    removed[name] = without(path, target / name, work.ids)
                if manifest is not None and snapshot is not None:
                    place = layout.published(manifest.day).relative_to(layout.root)
                    _without_rows(manifest, snapshot, removed, target, place).write(target / own.name)


def _snapshot_now(layout: Layout, manifest: Manifest) -> str:
    """The digest of a table's snapshot after the erasure; as it was if its working folder is gone."""
    for folder in (
        layout.run(manifest.day, manifest.run_id).folder,
        *(path / manifest.run_id for day, path in layout.rolled_back_days if day == manifest.day),
    ):
        run = RunLayout(folder, layout.storage)
        snapshot = SnapshotManifest.read_if_exists(run.manifest, layout.storage)
        if snapshot is not None and manifest.snapshot in snapshot.former:
            return snapshot.digest
    return manifest.snapshot


def _without_rows(
    manifest: Manifest, snapshot: str, removed: dict[Path, pa.Table], folder: Path, place: Path
) -> Manifest:
    """A manifest with the new files.

    Args:
        manifest: the manifest before.
        snapshot: digest of the snapshot.
        removed: the rows that were left out, by the files' paths relative to the folder of the day.
        folder: the new folder.
        place: where that folder will be, relative to the root.
    """

    def new(files: tuple[PublishedFile, ...]) -> tuple[PublishedFile, ...]:
        found = []
        for file in files:
            name = Path(file.path).relative_to(place)
            changes: dict[str, object] = {}
            if name in removed:
                written = HashedFile.of(folder / name)
                changes = {"rows": file.rows - len(removed[name]), "bytes": written.bytes, "sha256": written.sha256}
            found.append(file.model_copy(update=changes))
        return tuple(found)

    rows = [removed[name] for file in manifest.files if (name := Path(file.path).relative_to(place)) in removed]
    return manifest.model_copy(
        update={
            "files": new(manifest.files),
            "tables": {name: new(files) for name, files in manifest.tables.items() if name != CHANGES},
            "changes_from": None,
            "snapshot": snapshot,
            "rows": manifest.rows - sum(map(len, rows)),
            "users": manifest.users - sum(map(_users, rows)),
            "fallback_users": manifest.fallback_users - sum(map(_fallback_users, rows)),
        }
    )


def _erase_from_texts(work: _Erasure) -> None:
    """Remove examples from reports, replace the ids in texts, and delete backtests that hold the users."""
    layout, storage = work.layout, work.layout.storage
    for place in (*(layout.report(day) for day, _ in layout.report_days), layout.all_reports):
        path = storage.local_path(place)
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            if (changed := work.names.removed(without_users(text, work.users))) != text:
                work.rewrites(place)
                write_text(storage, place, changed)
    for place in (layout.checks.folder, layout.models):
        for path in work.holding(storage.local_path(place)):
            if path.suffix != ".parquet":
                work.rewrites(path)
                write_text(storage, path, work.names.rewritten(path))
    for folder in storage.find(layout.backtests, "*/"):
        if work.holding(folder):
            work.deletes(folder)
            storage.delete(folder)


def _delete_leftovers(work: _Erasure) -> None:
    """Delete what killed steps have left, except in the folder of the source, which is not ours."""
    layout = work.layout
    sweep(layout.root, below=False)
    for place in (layout.runs, layout.candidates, layout.models, layout.reports, layout.checks.folder):
        sweep(place)
    sweep(layout.rolled_back)
