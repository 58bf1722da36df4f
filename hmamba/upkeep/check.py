"""Verify a root: every digest, every sum of the ledger, every document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from hmamba.config import load
from hmamba.contracts.contents import Contents
from hmamba.contracts.document import Document
from hmamba.contracts.guards import Acceptance
from hmamba.contracts.manifest import Manifest, SnapshotManifest
from hmamba.contracts.models import IndexDescription
from hmamba.contracts.receipt import Receipt
from hmamba.contracts.scored import ShardMetrics
from hmamba.contracts.step import StepFailure
from hmamba.contracts.steps import KEPT_METRICS, IndexMetrics
from hmamba.contracts.verdict import Verdict
from hmamba.errors import HMambaError, InputError
from hmamba.models import files as model_files
from hmamba.models import promotions
from hmamba.models.verify import verified
from hmamba.rules.document import read as read_rules
from hmamba.sequences.files import Snapshot
from hmamba.statements import one, rows
from hmamba.storage.layout import Layout
from hmamba.storage.local import sha256
from hmamba.storage.run_layout import CONTENTS, INDEX_DESCRIPTION, RunLayout
from hmamba.text import counted
from hmamba.warehouse.connection import connect
from hmamba.warehouse.tables import is_empty


@dataclass(frozen=True)
class Area:
    """A part of a root.

    Attributes:
        name: such as warehouse.
        looked: what was looked at, in words.
        wrong: a sentence for each thing that is wrong, with what to do.
    """

    name: str
    looked: str
    wrong: tuple[str, ...]


def check(layout: Layout) -> Iterator[Area]:
    """Verify a root, area by area. Files are read and nothing is changed.

    A night that runs meanwhile may be found half-way: check while none runs.
    """
    yield _area("configuration", _configuration, layout)
    yield _area("warehouse", _warehouse, layout)
    yield _area("models", _models, layout)
    yield _area("tables", _tables, layout)
    yield _area("working folders", _runs, layout)
    yield _area("receipts", _receipts, layout)


@dataclass
class _Findings:
    """What is wrong in an area; ``looked`` is set by its check."""

    wrong: list[str]
    looked: str = ""

    def attempt(self, verify: Callable[[], object]) -> bool:
        """Call a check; whether it found nothing. An error is a finding, because it says what to do."""
        try:
            verify()
        except (HMambaError, OSError) as error:
            self.wrong.append(str(error))
            return False
        return True


def _area(name: str, find: Callable[[Layout, _Findings], None], layout: Layout) -> Area:
    found = _Findings([])
    found.attempt(partial(find, layout, found))
    return Area(name, found.looked, tuple(dict.fromkeys(found.wrong)))


def _configuration(layout: Layout, found: _Findings) -> None:
    found.looked = layout.config.name if layout.config.exists() else "none; the defaults are used"
    load(None, layout)
    if layout.rules.exists():
        found.looked += f" and {layout.rules.name}"
        read_rules(layout.rules)


def _warehouse(layout: Layout, found: _Findings) -> None:
    path = layout.warehouse
    if not path.exists():
        found.looked = "none"
        if layout.published_days:
            found.wrong.append(
                f"{path} does not exist, but tables are published. Restore it: hmamba restore BACKUP --root NEW."
            )
        return
    try:
        with connect(path, load(None, layout).warehouse, read_only=True) as connection:
            if is_empty(connection):
                found.looked = "empty"
                return
            size = one(connection, "upkeep/warehouse_size")
            found.looked = f"{counted(size['batches'], 'pull')}, {counted(size['events'], 'event')}"
            cure = f"{path.name} was changed by hand, or is damaged: restore a backup (hmamba restore)."
            for row in rows(connection, "upkeep/ledger_differences"):
                counts = ", ".join(f"{name} {value:,}" for name, value in row.items() if name != "batch_id")
                found.wrong.append(f"batch {row['batch_id']}: the ledger does not add up ({counts}). {cure}")
            for row in rows(connection, "upkeep/strays"):
                if row["rows"]:
                    found.wrong.append(f"{path.name}: {row['rows']:,} {row['what']}. {cure}")
            numbers = one(connection, "upkeep/item_numbers")
            if len({numbers["indexed"], numbers["highest"], numbers["distinct_indices"]}) > 1 or numbers["repeated"]:
                found.wrong.append(f"{path.name}: item_index is not unique and without gaps ({numbers}). {cure}")
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        found.wrong.append(f"{path} is damaged ({first}). Restore a backup: hmamba restore BACKUP --root NEW.")


def _models(layout: Layout, found: _Findings) -> None:
    stored = [path.name for path in layout.storage.find(layout.models, "*/")]
    whole = [name for name in stored if not layout.is_pruned(name)]
    found.looked = counted(len(whole), "version")
    for name in stored:
        found.attempt(partial(model_files.read_metrics, layout, name))
    for name in whole:
        found.attempt(partial(verified, layout, name))
    found.attempt(partial(promotions.require, layout))
    history = promotions.promotions(layout)
    if history and history[-1].version not in whole:
        found.attempt(partial(verified, layout, history[-1].version))


def _tables(layout: Layout, found: _Findings) -> None:
    days = layout.published_days
    found.looked = counted(len(days), "table")
    for day, folder in days:
        again = f"Publish that night again: {layout.command('run', '--day', str(day))}."
        found.attempt(partial(_table, layout, folder, layout.published_manifest(day), again))
    link = layout.latest
    if days and not layout.storage.exists(link):
        found.wrong.append(
            f"{link} leads to no table. Go back to one: {layout.command('rollback', '--table', str(days[-1][0]))}."
        )
    elif layout.storage.exists(link):
        manifest = Manifest.read(link, layout.storage)
        if Manifest.read(layout.published_manifest(manifest.day), layout.storage) != manifest:
            found.wrong.append(f"{link} is not the manifest of {manifest.day}, to which it belongs.")


def _table(layout: Layout, folder: Path, place: Path, cure: str) -> None:
    """Verify the files of a table.

    Raises:
        InputError: one is missing, damaged or too many, or their rows do not add up.
    """
    manifest = Manifest.read(place, layout.storage)
    total = sum(file.rows for file in manifest.files)
    for file in manifest.every_file:
        part = layout.storage.local_path(layout.root / file.path)
        if not part.is_file():
            raise InputError(f"{part} does not exist. {cure}")
        if (part.stat().st_size, sha256(part)) != (file.bytes, file.sha256):
            raise InputError(f"{part} is damaged: its content is not what the manifest says (SHA-256). {cure}")
        if pq.read_metadata(part).num_rows != file.rows:
            raise InputError(f"{part} has other rows than its manifest says. {cure}")
    if total != manifest.rows:
        raise InputError(f"{place}: the files have {total} rows, and the manifest says {manifest.rows}. {cure}")
    known = {layout.root / file.path for file in manifest.every_file}
    more = [path for path in layout.storage.find(folder, "**/*.parquet") if path not in known]
    if more:
        raise InputError(f"{more[0]} does not belong there: {place} does not name it. {cure}")


def _runs(layout: Layout, found: _Findings) -> None:
    runs = [
        RunLayout(path, layout.storage) for _, folder in layout.run_days for path in layout.storage.find(folder, "*/")
    ]
    found.looked = counted(len(runs), "run")
    for run in runs:
        for path in run.storage.find(run.metrics, "*.json"):
            kind = KEPT_METRICS.get(path.stem.partition("-")[0])
            if kind is not None:
                found.attempt(partial(kind.read, path, run.storage))
        for path in run.failed:
            found.attempt(partial(StepFailure.read, path, run.storage))
        found.attempt(partial(_if_exists, Verdict, run.verdict, run))
        found.attempt(partial(_if_exists, Acceptance, run.accepted, run))
        found.attempt(partial(_snapshot, run))
        found.attempt(partial(_folder, run.model, CONTENTS, "Run the gate step again (python -m jobs.gate)."))
        found.attempt(partial(_index, run))
        for path in run.storage.find(run.metrics, "score-*.json"):
            found.attempt(partial(_scored, run, path))
    if layout.storage.exists(layout.latest):
        found.attempt(partial(_refreshable, layout))


def _if_exists(kind: type[Document], place: Path, run: RunLayout) -> object:
    return kind.read_if_exists(place, run.storage)


def _snapshot(run: RunLayout) -> None:
    if run.storage.exists(run.sequences):
        files = Snapshot.open(run)
        assert files.shards
        assert files.items
        files.verify_descriptions()
        if files.manifest.content_digest != files.digest:
            raise InputError(f"{run.manifest}: its digest is not that of its files. {SnapshotManifest.CURE}")


def _folder(folder: Path, name: str, cure: str) -> None:
    """Verify a folder of files with their description, if there is one."""
    if folder.is_dir():
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} does not exist. {cure}")
        Contents.read(folder / name).verify(folder, cure)


def _index(run: RunLayout) -> None:
    if run.storage.exists(run.index):
        description = IndexDescription.read(run.index_description, run.storage)
        folder = run.storage.local_path(run.index)
        digests = {path.name: sha256(path) for path in folder.iterdir() if path.name != INDEX_DESCRIPTION}
        if digests != description.sha256:
            (name, *_) = sorted(name for name, _ in digests.items() ^ description.sha256.items())
            raise InputError(f"{folder / name} is not the file that was written. {IndexDescription.CURE}")
    metrics = IndexMetrics.read_if_exists(run.step_metrics("index"), run.storage)
    if metrics is not None and run.storage.exists(run.item_points.parent):
        metrics.points.verified(run.storage.local_path(run.item_points), IndexDescription.CURE)
        for name, written in metrics.tables.items():
            written.verified(run.storage.local_path(run.table(name)), IndexDescription.CURE)


def _scored(run: RunLayout, place: Path) -> None:
    """Verify the candidates and points of a shard, unless the large files of the run were pruned."""
    scored = ShardMetrics.read(place, run.storage)
    if not run.storage.exists(run.candidates):
        return
    cure = f"Run the score step for shard {scored.shard} (python -m jobs.score --shard {scored.shard})."
    scored.part.verified(run.storage.local_path(run.candidate_part(scored.shard)), cure)
    scored.points.verified(run.storage.local_path(run.user_points(scored.shard)), cure)
    for name, written in scored.tables.items():
        written.verified(run.storage.local_path(run.table(name, scored.shard)), cure)


def _refreshable(layout: Layout) -> None:
    """Whether a refresh can resume from the run that made the readers' table."""
    manifest = Manifest.read(layout.latest, layout.storage)
    run = layout.run(manifest.day, manifest.run_id)
    snapshot = SnapshotManifest.read_if_exists(run.manifest, run.storage)
    if snapshot is None or snapshot.digest != manifest.snapshot:
        why = "is gone" if snapshot is None else "does not belong to the published table"
        again = layout.command("run", "--day", str(manifest.day), "--run-id", manifest.run_id)
        raise InputError(f"{run.folder} {why}, so that refreshes cannot use it. Run that night again: {again}.")


def _receipts(layout: Layout, found: _Findings) -> None:
    places = layout.storage.find(layout.receipts, "*.json")
    found.looked = counted(len(places), "receipt")
    for place in places:
        receipt = Receipt.read(place, layout.storage)
        if receipt.ended_at is None:
            found.wrong.append(f"{place}: the erasure was stopped. Run hmamba forget with the same users again.")
