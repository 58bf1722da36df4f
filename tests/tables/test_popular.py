"""Popular items equal their definition, computed in loops over a small shop, by category and segment."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime, timedelta

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.columns import TABLES
from hmamba.config import PopularConfig
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.manifest import SnapshotFile, SnapshotManifest
from hmamba.errors import InputError
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.files import Snapshot
from hmamba.sequences.snapshot import write_snapshot
from hmamba.storage.layout import Layout
from hmamba.tables.files import write
from hmamba.tables.popular import popular
from hmamba.warehouse.connection import in_memory
from tests.scored import SHARDS, fill
from tests.synthetic import make_catalogue, make_interactions

DAY = date(2024, 1, 30)
COUNTRIES = ("NO", "SE", None)


def country(user):
    """The country of a user; every third has none, and some are in no file."""
    number = int(user[-3:])
    return None if number >= 36 else COUNTRIES[number % 3]


def snapshot_of(layout, events, users=True):
    """A snapshot, with a users file whose columns are country and age (a number)."""
    run = layout.run(DAY, "manual")
    with duckdb.connect() as connection:
        fill(connection, events)
        write_snapshot(connection, run.sequences, DAY, SHARDS)
    if users:
        manifest = SnapshotManifest.read(run.manifest)
        added = []
        for shard in range(SHARDS):
            ids = sorted(set(pd.read_parquet(run.shard(shard)).user_id))
            ids = [user for user in ids if int(user[-3:]) < 36]
            path = run.sequences / f"users-{shard:04d}.parquet"
            columns = {"user_id": ids, "country": list(map(country, ids)), "age": [int(user[-3:]) for user in ids]}
            schema = pa.schema({"user_id": "string", "country": "string", "age": "int64"})
            pq.write_table(pa.table(columns, schema=schema), path)
            added.append(SnapshotFile(**HashedFile.of(path).model_dump(), rows=len(ids)))
        manifest.model_copy(update={"files": (*manifest.files, *added)}).write(run.manifest)
    return Snapshot.open(run)


def rows_of(files, eligible, path, **settings):
    with in_memory() as connection:
        write(path, "popular", popular(connection, files, eligible, PopularConfig(**settings)))
    return pq.read_table(path).to_pylist()


def every(files):
    return CandidateItems.only(pq.read_table(files.items)["item_index"].to_numpy(), 1_000)


def expected(events, eligible_ids, by, k, window, half_life):
    catalogue = make_catalogue().set_index("item_id")
    end = datetime(2024, 1, 31)
    counts = defaultdict(lambda: [0, 0.0, 0.0])
    for event in events.itertuples():
        age = (end - event.event_time.to_pydatetime()).total_seconds() / 86_400
        path = (catalogue.department[event.item_id], catalogue.category[event.item_id])
        segments = [(None, None)]
        if by and country(event.user_id) is not None:
            segments.append(("country", country(event.user_id)))
        for segment in segments:
            for level in range(3):
                own = counts[segment, path[:level], event.item_id]
                own[0] += age < window
                own[1] += 2 ** (-age / half_life)
                own[2] += 2 ** (-age / (8 * half_life))
    rankings = defaultdict(list)
    for group in {key[:2] for key in counts if key[2] in eligible_ids}:
        own = {key[2]: value for key, value in counts.items() if key[:2] == group and key[2] in eligible_ids}
        trend = sum(value[1] for value in own.values()) / sum(value[2] for value in own.values())
        for item, (in_window, decayed, slow) in own.items():
            if in_window:
                rankings[(*group, "window")].append((-in_window, -decayed, item))
            rankings[(*group, "decayed")].append((-decayed, -in_window, item))
            if decayed > slow * trend:
                rankings[(*group, "trending")].append((-(decayed + 5) / (slow * trend + 5), -decayed, item))
    return {key: [(item, -score) for score, _, item in sorted(found)[:k]] for key, found in rankings.items()}


@pytest.fixture(scope="module")
def events():
    return make_interactions()


@pytest.mark.parametrize("by", [(), ("country",)])
@pytest.mark.parametrize("k", [3, 100])
def test_rankings_are_those_of_the_definition(layout: Layout, events, tmp_path, by, k):
    files = snapshot_of(layout, events, users=bool(by))
    ids = {f"item-{number:03d}" for number in range(0, 60, 2)} & set(events.item_id)
    items = pd.read_parquet(files.items)
    eligible = CandidateItems.only(items.item_index[items.item_id.isin(ids)].to_numpy(), 1_000)
    rows = rows_of(files, eligible, tmp_path / "popular.parquet", k=k, window_days=5, half_life_days=3, by=by)
    found = defaultdict(list)
    for row in rows:
        key = (row["segment_column"], row["segment"]), tuple(row["category_path"]), row["ranking"]
        assert row["category_level"] == len(row["category_path"])
        found[key].append((row["item_id"], row["score"]))
        assert row["rank"] == len(found[key])
    wanted = expected(events, ids, by, k, 5, 3)
    assert found.keys() == wanted.keys()
    for key, ranking in wanted.items():
        assert [score for _, score in found[key]] == pytest.approx([score for _, score in ranking], rel=1e-6), key
        assert [item for item, _ in found[key]] == [item for item, _ in ranking], key
    countries = {("country", "NO"), ("country", "SE")} if by else set()
    assert {segment for segment, _, _ in found} == {(None, None), *countries}


def test_a_planted_trend_comes_first(layout: Layout, events, tmp_path):
    """An item that was never popular is taken twenty times on the last day; another was, and is not any more."""
    users = [f"user-{number:03d}" for number in range(20)]
    late = pd.DataFrame(
        {"user_id": users, "item_id": "item-058", "event_time": datetime(2024, 1, 30, 12), "weight": 1.0}
    )
    then = [datetime(2024, 1, 5) + timedelta(hours=hour) for hour in range(10)]
    early = pd.concat([late.assign(item_id="item-057", event_time=time) for time in then])
    others = events[~events.item_id.isin(["item-057", "item-058"])]
    files = snapshot_of(layout, pd.concat([others, late, early]), users=False)
    rows = [row for row in rows_of(files, every(files), tmp_path / "popular.parquet") if row["category_level"] == 0]
    first = {row["ranking"]: row["item_id"] for row in rows if row["rank"] == 1}
    assert (first["trending"], first["window"]) == ("item-058", "item-057")
    trending = {row["item_id"]: row["score"] for row in rows if row["ranking"] == "trending"}
    assert "item-057" not in trending
    assert min(trending.values()) > 1


def test_again_gives_the_same_bytes(layout: Layout, events, tmp_path):
    files = snapshot_of(layout, events)
    content = []
    for number in range(2):
        path = tmp_path / f"{number}.parquet"
        rows_of(files, every(files), path, by=["country", "age"])
        content.append(path.read_bytes())
    assert content[0] == content[1]
    assert dict(zip(pq.read_schema(path).names, pq.read_schema(path).types, strict=True)) == TABLES["popular"]
    frame = pd.read_parquet(path)
    assert set(frame.segment_column.dropna()) == {"country", "age"}
    assert set(frame[frame.segment_column == "age"].segment) == {str(number) for number in range(36)}


def test_events_that_are_no_targets_do_not_count(layout: Layout, events, tmp_path):
    is_wanted = events.user_id > "user-020"
    files = snapshot_of(layout, events.assign(weight=is_wanted.astype("float32")), users=False)
    rows = rows_of(files, every(files), tmp_path / "popular.parquet")
    counted = {row["item_id"]: row["score"] for row in rows if row["ranking"] == "window" and not row["category_path"]}
    assert (
        counted == events[is_wanted & (events.event_time >= datetime(2024, 1, 3))].groupby("item_id").size().to_dict()
    )


@pytest.mark.parametrize(
    ("by", "users", "told"),
    [
        ("contry", True, r"publish\.popular\.by names the column 'contry', .* Is 'country' meant\?"),
        ("zzz", True, r"which the users file does not have\. It has user_id, country, age"),
        ("country", False, r'publish\.popular\.by = \["country"\] .* Set users\.path'),
    ],
)
def test_a_column_that_is_not_there_is_named(layout: Layout, events, tmp_path, by, users, told):
    files = snapshot_of(layout, events, users=users)
    with pytest.raises(InputError, match=told):
        rows_of(files, every(files), tmp_path / "popular.parquet", by=[by])
