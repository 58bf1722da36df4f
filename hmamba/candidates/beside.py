"""The tables beside the candidates, at publication: verified, put into the day's folder, and checked."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import duckdb
import numpy as np
import pyarrow as pa

from hmamba.columns import POINT, TABLES, VECTOR
from hmamba.config import Config
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.manifest import Manifest, PublishedFile
from hmamba.contracts.models import IndexDescription
from hmamba.contracts.scored import ShardMetrics
from hmamba.contracts.steps import IndexMetrics
from hmamba.contracts.tables import VectorSpace, WrittenTable
from hmamba.contracts.verdict import read_serving
from hmamba.errors import InputError
from hmamba.evaluation.gate import is_baseline
from hmamba.quality.candidates import CandidateFiles
from hmamba.quality.expectations import Figure
from hmamba.quality.tables import TableRules, check_table
from hmamba.rules.check import RuledPart, rule_figures
from hmamba.rules.night import NightRules
from hmamba.sequences.files import Snapshot
from hmamba.statements import statement
from hmamba.storage.layout import Layout
from hmamba.tables.files import write
from hmamba.tables.of_items import item_table
from hmamba.tables.settings import PER_SHARD, part_made_with, wanted
from hmamba.tables.vectors import read_space

_ROWS = 1 << 17


@dataclass(frozen=True)
class Beside:
    """Tables in a folder that will be published.

    Attributes:
        files: the files of each table, by its name, with paths relative to the folder of the day.
        vector_space: what vectors mean; None without a table of them.
    """

    files: dict[str, tuple[PublishedFile, ...]]
    vector_space: VectorSpace | None = None

    def below(self, place: str) -> dict[str, tuple[PublishedFile, ...]]:
        """The files with paths below a folder."""
        return {
            name: tuple(file.model_copy(update={"path": f"{place}/{file.path}"}) for file in files)
            for name, files in self.files.items()
        }


class Tables(Protocol):
    """Tables to put beside candidates."""

    def put(self, folder: Path, candidates: CandidateFiles, connection: duckdb.DuckDBPyConnection) -> Beside:
        """Write the tables into a folder and check them.

        Args:
            folder: the new folder of the day.
            candidates: the candidates that they are published with.
            connection: an in-memory DuckDB; temporary tables are created in it.
        """


@dataclass(frozen=True)
class _Source:
    """A file of a table in the working folder.

    Attributes:
        path: local file.
        written: what it was when it was written.
        cure: how to fix it if it is missing or damaged.
    """

    path: Path
    written: WrittenTable
    cure: str

    def copy(self, target: Path) -> None:
        """Copy the file; as :func:`copied`."""
        target.parent.mkdir(parents=True, exist_ok=True)
        copied(self.path, self.written, self.cure, target)


def copied(path: Path, written: HashedFile, cure: str, target: Path) -> Path:
    """Copy a file and return the copy, if it is what was written.

    Readers get the copy that was hashed and is checked, so that nothing can change it in between. It is no hard link,
    because running its step again would change the published file.

    Raises:
        InputError: the file is missing, or has changed since it was written.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist. {cure}")
    shutil.copyfile(path, target)
    return written.verified(target, cure, name=path)


@dataclass(frozen=True)
class NightTables:
    """The tables of a run.

    Attributes:
        layout: the root.
        files: the run's snapshot.
        config: the settings.
        name: name of the checks in Data Docs.
    """

    layout: Layout
    files: Snapshot
    config: Config
    name: str

    def put(self, folder: Path, candidates: CandidateFiles, connection: duckdb.DuckDBPyConnection) -> Beside:
        """As :meth:`Tables.put`.

        Raises:
            InputError: an earlier step has not written a table with the settings, or a file is damaged.
            QualityError: a table broke a rule.
        """
        names = wanted(self.config, has_model=not is_baseline(read_serving(self.files.run)))
        night = NightRules.open(self.files, self.config.warehouse) if names else None
        denied = None if night is None else pa.array(np.flatnonzero(night.always), pa.int32())
        found: dict[str, tuple[PublishedFile, ...]] = {}
        space = None
        for name in names:
            parts = self._copied(name, folder)
            figures: tuple[Figure, ...] = ()
            if name == "segments":
                figures = self._broken_rules(night, parts, candidates)
                parts = [self._merged(parts, connection)]
            if {POINT, VECTOR} <= TABLES[name].keys():
                space = read_space(parts[0])
            rules = TableRules(candidates, parts, *self._bounds(name), space, denied, figures)
            rows = check_table(self.layout.checks, connection, name, rules, self.name)
            found[name] = tuple(
                PublishedFile(
                    path=path.relative_to(folder).as_posix(), rows=number, bytes=file.bytes, sha256=file.sha256
                )
                for path, number, file in zip(parts, rows, map(HashedFile.of, parts), strict=True)
            )
        return Beside(found, space)

    def _bounds(self, name: str) -> tuple[int | None, bool]:
        """The most rows of a ranking of a table, and whether seen items are excluded."""
        section = getattr(self.config.publish, name, None)
        return None if section is None else section.k, self.config.candidates.exclude_seen

    def _copied(self, name: str, folder: Path) -> list[Path]:
        parts = []
        for number, source in enumerate(self._sources(name)):
            parts.append(self.layout.published_table(folder, name, number))
            source.copy(parts[-1])
        return parts

    def _broken_rules(
        self, night: NightRules | None, parts: list[Path], candidates: CandidateFiles
    ) -> tuple[Figure, ...]:
        """Rows of segments that a rule should have removed. Caps are about the items of a user and do not count."""
        if night is None:
            return ()
        filters = replace(night, book=night.book.model_copy(update={"cap": ()}))
        shards = zip(parts, candidates.shards, strict=True)
        return tuple(rule_figures(filters, [RuledPart(n, part, of.events) for n, (part, of) in enumerate(shards)]))

    def _merged(self, parts: Sequence[Path], connection: duckdb.DuckDBPyConnection) -> Path:
        """The best users of each item among those of all shards, in the place of the first part."""
        target = parts[0].with_name(f".{parts[0].name}")
        bound = {"parts": list(map(str, parts)), "k": self.config.publish.segments.k}
        write(target, "segments", connection.execute(statement("tables/merge_segments"), bound).to_arrow_reader(_ROWS))
        for part in parts:
            part.unlink()
        return target.rename(parts[0])

    def _sources(self, name: str) -> list[_Source]:
        run = self.files.run
        metrics = IndexMetrics.read(run.step_metrics("index"), run.storage)
        if name not in PER_SHARD:
            path, written = item_table(self.files, metrics, self.config, name)
            return [_Source(path, written, IndexDescription.CURE)]
        if name == "segments":
            item_table(self.files, metrics, self.config, name)
        sources = []
        for shard in range(self.files.manifest.shards):
            record = run.step_metrics("score", shard)
            cure = f"Run the score step for shard {shard} again (python -m jobs.score --shard {shard})."
            part = ShardMetrics.read(record, run.storage).tables.get(name)
            if part is None or part.made_with != part_made_with(self.config, name, metrics):
                why = "has no part of this shard" if part is None else "of this shard was made with other settings"
                raise InputError(f"{record}: the table {name} {why} (publish.tables). {cure}")
            sources.append(_Source(run.storage.local_path(run.table(name, shard)), part, cure))
        return sources


@dataclass(frozen=True)
class CarriedTables:
    """The tables of the published table that a refresh replaces. They are those of the night, and were checked then."""

    layout: Layout
    base: Manifest

    def put(self, folder: Path, candidates: CandidateFiles, connection: duckdb.DuckDBPyConnection) -> Beside:
        """As :meth:`Tables.put`.

        Raises:
            InputError: a published file is missing or damaged.
        """
        storage, place = self.layout.storage, self.layout.published(self.base.day)
        found = {}
        for name in (name for name in self.base.tables if name in TABLES):
            kept = []
            for file in self.base.tables[name]:
                source = self.layout.root / file.path
                inside = source.relative_to(place).as_posix()
                written = WrittenTable(name=inside, bytes=file.bytes, sha256=file.sha256, rows=file.rows)
                _Source(storage.local_path(source), written, Manifest.CURE).copy(folder / inside)
                kept.append(file.model_copy(update={"path": inside}))
            found[name] = tuple(kept)
        return Beside(found, self.base.vector_space)
