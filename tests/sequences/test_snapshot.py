"""The snapshot holds the whole past of each user, sorted, and no later events."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from hmamba.contracts.manifest import SnapshotManifest
from hmamba.errors import InputError
from hmamba.sequences import snapshot
from hmamba.sequences.snapshot import write_snapshot
from hmamba.storage.local import sha256
from tests.landing import DAY, Root
from tests.scored import fill
from tests.synthetic import make_interactions, write_landing

SHARDS = 3


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    return make_interactions()


@pytest.fixture
def connection(events: pd.DataFrame) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        fill(opened, events)
        yield opened


def shards(folder: Path) -> list[pd.DataFrame]:
    return [pd.read_parquet(folder / snapshot.shard_name(number)) for number in range(SHARDS)]


def expected_shard(user: str) -> int:
    return int(hashlib.md5(user.encode()).hexdigest()[:8], 16) % SHARDS


@pytest.mark.parametrize("rows_per_group", [7, 131_072])
def test_every_event_is_there_once_sorted_and_in_its_users_shard(
    connection: duckdb.DuckDBPyConnection,
    events: pd.DataFrame,
    tmp_path: Path,
    rows_per_group: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot, "ROWS_PER_GROUP", rows_per_group)
    manifest = write_snapshot(connection, tmp_path / "s", DAY, SHARDS)
    frames = shards(tmp_path / "s")
    for number, frame in enumerate(frames):
        assert {expected_shard(user) for user in frame.user_id} == {number}
        assert frame.equals(frame.sort_values(["user_id", "event_time", "item_index"], ignore_index=True))
    items = pd.read_parquet(tmp_path / "s" / "items.parquet")
    assert items.item_index.tolist() == list(range(1, 61))
    whole = pd.concat(frames).merge(items[["item_index", "item_id"]], on="item_index")
    columns = ["user_id", "item_id", "event_time", "weight"]
    scaled = events.assign(weight=np.minimum(np.log2(1 + events.weight), 4).astype("float32"))
    assert sorted(whole[columns].itertuples(index=False)) == sorted(scaled[columns].itertuples(index=False))
    assert [file.rows for file in manifest.files] == [*map(len, frames), 60]


def test_schema(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    write_snapshot(connection, tmp_path / "s", DAY, SHARDS)
    assert pq.read_schema(tmp_path / "s" / "shard-0001.parquet").equals(snapshot.EVENT_SCHEMA)
    assert pq.read_schema(tmp_path / "s" / "items.parquet").equals(snapshot.ITEM_SCHEMA)
    item = pd.read_parquet(tmp_path / "s" / "items.parquet").set_index("item_id").loc["item-005"]
    assert (item.title, list(item.category_path)) == ("Thing 5", ["dairy", "dairy 1"])


def test_the_manifest_says_what_is_there(
    connection: duckdb.DuckDBPyConnection, events: pd.DataFrame, tmp_path: Path
) -> None:
    returned = write_snapshot(connection, tmp_path / "s", DAY, SHARDS)
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert SnapshotManifest.read(tmp_path / "s" / "manifest.json") == returned
    assert {key: manifest[key] for key in ("day", "end", "shards", "users", "events", "items", "newest_event")} == {
        "day": "2024-01-30",
        "end": "2024-01-31T00:00:00",
        "shards": SHARDS,
        "users": 40,
        "events": len(events),
        "items": 60,
        "newest_event": events.event_time.max().isoformat(),
    }
    for file in manifest["files"]:
        path = tmp_path / "s" / file["name"]
        assert (file["bytes"], file["sha256"]) == (path.stat().st_size, sha256(path))


@pytest.mark.parametrize("order", [1, 2])
def test_equal_content_gives_equal_bytes(
    connection: duckdb.DuckDBPyConnection, events: pd.DataFrame, tmp_path: Path, order: int
) -> None:
    rows = list(range(len(events)))
    random.Random(order).shuffle(rows)
    first = write_snapshot(connection, tmp_path / "a", DAY, SHARDS)
    with duckdb.connect() as other:
        fill(other, events.iloc[rows])
        second = write_snapshot(other, tmp_path / "b", DAY, SHARDS)
        other.execute("UPDATE interactions SET weight = weight + 1 WHERE user_id = 'user-007'")
        third = write_snapshot(other, tmp_path / "c", DAY, SHARDS)
    assert first == second
    for file in first.files:
        assert (tmp_path / "a" / file.name).read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert third.digest != first.digest
    changed = [a.name for a, c in zip(first.files, third.files, strict=True) if a != c]
    assert changed == [snapshot.shard_name(expected_shard("user-007"))]


def test_nothing_of_the_future_leaks_in(
    connection: duckdb.DuckDBPyConnection, events: pd.DataFrame, tmp_path: Path
) -> None:
    """With later events in the warehouse, the snapshot is byte for byte what it would be without them."""
    day, end = date(2024, 1, 10), datetime(2024, 1, 11)
    past = events[events.event_time < end]
    with duckdb.connect() as other:
        fill(other, past)
        without = write_snapshot(other, tmp_path / "without", day, SHARDS)
    extra = {"user_id": ["user-000", "u-new"], "item_id": ["item-000", "i-new"]}
    later = pd.DataFrame({**extra, "event_time": [end, end], "weight": [1.0, 1.0]})
    with duckdb.connect() as full:
        fill(full, pd.concat([events, later.astype({"event_time": "datetime64[us]", "weight": "float32"})]))
        full.execute("UPDATE items SET first_seen = TIMESTAMP '2030-01-01' WHERE item_id = 'i-new'")
        # Items that are new on later days have come into the catalogue since.
        full.execute("UPDATE items SET category_path = NULL WHERE first_seen >= $end", {"end": end})
        with_later = write_snapshot(full, tmp_path / "with", day, SHARDS)
    assert len(past) < len(events)
    assert with_later == without


def test_items_count_only_their_past(
    connection: duckdb.DuckDBPyConnection, events: pd.DataFrame, tmp_path: Path
) -> None:
    write_snapshot(connection, tmp_path / "s", date(2024, 1, 10), SHARDS)
    items = pd.read_parquet(tmp_path / "s" / "items.parquet").set_index("item_id")
    past = events[events.event_time < datetime(2024, 1, 11)].groupby("item_id").event_time
    taken = items[items.events > 0]
    assert taken.events.to_dict() == past.count().to_dict()
    assert taken.first_seen.to_dict() == past.min().to_dict()
    described_only = items[items.events == 0]
    assert len(described_only)
    assert described_only.first_seen.isna().all()
    assert set(described_only.index) <= set(events.item_id) - set(taken.index)


def test_more_shards_than_users(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    manifest = write_snapshot(connection, tmp_path / "s", DAY, 100)
    rows = [file.rows for file in manifest.files[:-1]]
    assert len(rows) == 100
    assert 0 in rows
    assert sum(pq.read_metadata(tmp_path / "s" / snapshot.shard_name(n)).num_rows for n in range(100)) == sum(rows)


def test_a_failure_leaves_the_older_snapshot(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    write_landing(root.layout.root, make_interactions(users=5))
    root.configure("[snapshot]\nshards = 1\n")
    root.ok("ingest")
    root.ok("snapshot")
    run = root.layout.run(DAY, "manual")
    before = {path.name: path.read_bytes() for path in run.sequences.iterdir()}

    def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(SnapshotManifest, "write", fail)
    root.configure("[snapshot]\nshards = 2\n")
    with pytest.raises(OSError, match="full"):
        root.step("snapshot")
    assert {path.name: path.read_bytes() for path in run.sequences.iterdir()} == before
    assert not list(run.folder.glob("*.tmp-*"))


def test_no_event_before_the_end(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no event before the end of 2023-12-31"):
        write_snapshot(connection, tmp_path / "s", date(2023, 12, 31), SHARDS)
    assert not (tmp_path / "s").exists()


def test_the_step_after_ingest_and_without_it(root: Root) -> None:
    root.configure("")
    code, _, log = root.step("snapshot")
    assert (code, "Run ingest first" in log) == (2, True), log
    hostile = '\'; drop table "items"; --\n🛒,'
    frame = make_interactions(users=5)
    frame.loc[0, ["user_id", "item_id"]] = hostile
    write_landing(root.layout.root, frame)
    root.configure(f"[snapshot]\nshards = {SHARDS}\n")
    root.ok("ingest")
    metrics = root.ok("snapshot")
    folder = root.layout.run(DAY, "manual").sequences
    manifest = json.loads((folder / "manifest.json").read_text())
    for key in ("users", "events", "items", "shards", "newest_event", "digest"):
        assert metrics[key] == manifest[key]
    (item,) = pd.read_parquet(folder / "items.parquet").query("item_id == @hostile").itertuples()
    assert (item.title, list(item.category_path)) == (hostile, [])
    (event,) = shards(folder)[expected_shard(hostile)].query("user_id == @hostile").itertuples()
    assert event.item_index == item.item_index
    assert root.ok("snapshot")["digest"] == metrics["digest"]
