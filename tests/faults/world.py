"""Undisturbed nights of a small shop, whose states before each step are the starting points of all cases."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb

from hmamba.contracts.manifest import Manifest
from hmamba.errors import InputError
from hmamba.evaluation.gate import is_baseline
from hmamba.storage.layout import Layout
from hmamba.storage.local import sha256
from tests.faults.processes import Ended, run
from tests.synthetic import make_catalogue, make_interactions, write_landing

FIRST, SECOND = date(2024, 1, 28), date(2024, 1, 29)
RUN_ID, REFRESH_ID = "night", "noon"
NIGHT = ("ingest", "snapshot", "train", "gate", "index", "score-0", "score-1", "publish", "report")
STEPS = (*NIGHT, "refresh")
SETTINGS = """
[snapshot]
shards = 2
[model]
dim = 8
category_levels = [1, 2]
d_state = 4
head_dim = 8
[train]
epochs = 4
min_item_events = 3
[candidates]
k = 5
exclude_seen = true
states = true
[gate]
min_users = 5
tolerance = 0.9
[catalogue]
path = "landing/products/*.parquet"
category_path = ["department", "category"]
[warehouse]
threads = 1
memory_limit = "200MB"
wait_seconds = 60
"""


def arguments(root: Path, step: str, day: date, *more: str) -> list[str]:
    """Arguments of a step; "score-1" is the score step of shard 1."""
    name, _, shard = step.partition("-")
    run_id = REFRESH_ID if name == "refresh" else RUN_ID
    given = ["--root", str(root), "--day", day.isoformat(), "--run-id", run_id, *more]
    return [name, *given, *(["--shard", shard] if shard else [])]


@dataclass(frozen=True)
class Published:
    """The table that readers get: its day, the content of its parts, and what the manifest says of it."""

    day: date
    parts: tuple[str, ...]
    version: str
    users: int
    refreshed: bool

    @classmethod
    def of(cls, root: Path) -> Published | None:
        """The newest table of a root, complete and with the checksums that its manifest names; None before the first.

        Raises:
            InputError: readers would see half a table, or a wrong one.
        """
        layout = Layout.at(root)
        manifest = Manifest.read_if_exists(layout.latest)
        if manifest is None:
            return None
        for file in manifest.files:
            path = root / file.path
            if not path.is_file() or sha256(path) != file.sha256:
                raise InputError(f"{path} is not the file that {layout.latest} names.")
        return cls(
            manifest.day,
            tuple(file.sha256 for file in manifest.files),
            manifest.model_version,
            manifest.users,
            manifest.refresh is not None,
        )


def held(root: Path) -> dict[str, Any]:
    """The content of the warehouse, without the times of loading."""
    tables = {
        "interactions": "SELECT * EXCLUDE (loaded_at) FROM interactions ORDER BY ALL",
        "items": "SELECT * FROM items ORDER BY ALL",
        "quarantine": "SELECT count(*) FROM quarantine",
        "batches": "SELECT rows_read, rows_loaded, rows_duplicate, rows_quarantined FROM batches ORDER BY batch_id",
    }
    with duckdb.connect(str(Layout.at(root).warehouse), read_only=True) as connection:
        return {name: connection.execute(query).fetchall() for name, query in tables.items()}


@dataclass(frozen=True)
class World:
    """Copies of a root, and how its undisturbed nights went.

    Attributes:
        folder: ``before/STEP`` for each step of the second night and of the refresh after it, and ``after``.
        seconds: wall time of each step.
        tables: the table of readers before each step and, as "after", at the end.
        held: content of the warehouse after each step.
    """

    folder: Path
    seconds: dict[str, float]
    tables: dict[str, Published | None]
    held: dict[str, dict[str, Any]]

    def before(self, step: str) -> Path:
        """The root as it is before a step."""
        return self.folder / "before" / step

    def copy(self, step: str, target: Path) -> Path:
        """A root of one's own as it is before a step."""
        shutil.copytree(self.before(step), target, symlinks=True)
        return target

    @property
    def night(self) -> Published:
        """The table of the second night."""
        table = self.tables["refresh"]
        assert table is not None
        return table

    @property
    def after(self) -> Published:
        """The table after the refresh."""
        table = self.tables["after"]
        assert table is not None
        return table


def drop_events(root: Path, day: date) -> None:
    """Put the file of a day into landing/, as a source does during the day."""
    frame = make_interactions(users=80, items=80, days=31)
    days = frame.event_time.dt.date
    one = frame[days <= day] if day == FIRST else frame[days == day]
    write_landing(root, one, f"{day}.csv")


def build(folder: Path) -> World:
    """Run a night, a second one and a refresh, and keep a copy of the root before each step."""
    root, seconds = folder / "root", {}
    tables: dict[str, Published | None] = {}
    contents: dict[str, dict[str, Any]] = {}
    root.mkdir(parents=True)
    Layout.at(root).config.write_text(SETTINGS, encoding="utf-8")
    (root / "landing" / "products").mkdir(parents=True)
    make_catalogue(80).to_parquet(root / "landing" / "products" / "products.parquet", index=False)
    drop_events(root, FIRST)
    for step in NIGHT:
        _done(run(arguments(root, step, FIRST)))
    drop_events(root, SECOND)
    for step in STEPS:
        day = SECOND
        if step == "refresh":
            day += timedelta(days=1)
            drop_events(root, day)
            _done(run(arguments(root, "ingest", day)))
        tables[step] = Published.of(root)
        shutil.copytree(root, folder / "before" / step, symlinks=True)
        seconds[step] = _done(run(arguments(root, step, day))).seconds
        contents[step] = held(root)
    tables["after"] = Published.of(root)
    served = tables["refresh"]
    assert served is not None
    assert not is_baseline(served.version), "no model serves the second night: there is little to damage"
    return World(folder, seconds, tables, contents)


def day_of(step: str) -> date:
    """The day that a step of a case processes."""
    return SECOND + timedelta(days=1) if step == "refresh" else SECOND


def _done(ended: Ended) -> Ended:
    assert ended.status == 0, ended.log
    return ended
