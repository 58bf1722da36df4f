"""Tables beside the candidates, through the steps: whole, checked, bound to what they were made from, and optional."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import hmamba
from hmamba.columns import TABLES
from hmamba.contracts import Manifest
from hmamba.contracts.contents import HashedFile
from hmamba.errors import InputError
from hmamba.rules.night import BlockRules
from hmamba.storage.layout import Layout
from hmamba.storage.local import LocalStorage, sha256
from jobs import gate, index, ingest, publish, refresh, score, snapshot, train
from tests.documents import edit
from tests.landing import TINY, TINY_ONCE
from tests.nights import FIRST, QUIET, SETTINGS, newcomers
from tests.synthetic import make_interactions, write_landing


@pytest.fixture
def shop(tabled: Path, tmp_path: Path) -> Layout:
    shutil.copytree(tabled, tmp_path / "root", symlinks=True)
    return Layout.at(tmp_path / "root")


def run(layout: Layout, *steps: Any, day: Any = FIRST, run_id: str = "one") -> int:
    """Run steps until one fails; its exit status, or 0."""
    for step in steps:
        arguments = ["--root", str(layout.root), "--day", str(day), "--run-id", run_id]
        for more in [["--shard", "0"], ["--shard", "1"]] if step is score else [[]]:
            code: int = step.main([*arguments, *more])
            if code:
                return code
    return 0


def metrics(layout: Layout, step: str, run_id: str = "one") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(layout.run(FIRST, run_id).step_metrics(step).read_text())
    return found


def manifest(layout: Layout) -> Manifest:
    """What readers find; every file has the content that it says."""
    found = Manifest.read(layout.latest)
    for file in found.every_file:
        assert sha256(layout.root / file.path) == file.sha256
    return found


def frame(layout: Layout, name: str) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(layout.root / file.path) for file in manifest(layout).tables[name]])


def content(layout: Layout) -> dict[str, bytes]:
    """Every file of the published day."""
    folder = layout.published(FIRST)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def configure(layout: Layout, old: str, new: str) -> None:
    assert old in SETTINGS
    layout.config.write_text(SETTINGS.replace(old, new))


def test_duckdb_alone_reads_every_table(shop: Layout) -> None:
    root = str(shop.root)
    found = manifest(shop)
    assert found.tables.keys() == TABLES.keys()
    for name, columns in TABLES.items():
        with duckdb.connect() as connection:
            query = f"SELECT list($root || '/' || file.path) FROM (SELECT unnest(tables.{name}) AS file FROM $latest)"
            (files,) = connection.execute(query.replace("$latest", f"'{shop.latest}'"), {"root": root}).fetchall()[0]
            relation = connection.execute(
                "SELECT * FROM read_parquet($files, hive_partitioning = false)", {"files": files}
            )
            assert [column[0] for column in relation.description or ()] == list(columns)
            rows = len(relation.fetchall())
        assert rows == sum(file.rows for file in found.tables[name]) == metrics(shop, "publish")["tables"][name]
        assert rows > 0


def test_globs_over_the_candidates_do_not_find_the_tables(shop: Layout) -> None:
    for pattern in ("*/part-*.parquet", "*/*.parquet"):
        paths = list(shop.candidates.glob(pattern))
        assert paths
        assert not [path for path in paths if "_tables" in path.parts]


def test_the_space_of_the_vectors_is_that_of_their_files(shop: Layout) -> None:
    found = manifest(shop)
    space = found.vector_space
    assert space is not None
    for name in ("user_vectors", "item_vectors"):
        for file in found.tables[name]:
            raw = pq.read_metadata(shop.root / file.path).metadata
            assert {key: raw[key].decode() for key in (b"hmamba.K", b"hmamba.model_version")} == {
                b"hmamba.K": str(space.K),
                b"hmamba.model_version": found.model_version,
            }
        vectors = frame(shop, name).vector
        assert set(vectors.map(len)) == {space.dimensions}


def test_users_of_an_item_are_those_of_no_other_shard_alone(shop: Layout) -> None:
    """Each item has the best of both shards."""
    segments = frame(shop, "segments")
    parts = pd.concat([pd.read_parquet(shop.run(FIRST, "one").table("segments", shard)) for shard in (0, 1)])
    assert segments.groupby("item_id").size().tolist() == [30] * 10
    for item, own in segments.groupby("item_id"):
        best = parts[parts.item_id == item].sort_values(["score", "user_id"], ascending=[False, True]).head(30)
        assert own.user_id.tolist() == best.user_id.tolist()
    popular = frame(shop, "popular")
    most = pd.read_parquet(shop.run(FIRST, "one").items).sort_values(["events", "item_index"], ascending=[False, True])
    assert set(segments.item_id) == set(most.item_id.head(10))
    assert set(popular.category_level) == {0, 1, 2}


def test_the_same_night_again_changes_nothing(shop: Layout) -> None:
    before = content(shop)
    assert run(shop, index, score, publish) == 0
    assert not metrics(shop, "publish")["changed"]
    assert content(shop) == before


@pytest.mark.parametrize(
    ("old", "new", "told", "cure"),
    [
        ("k = 30", "k = 7", "[publish.segments] has changed since the table was written", [index, score]),
        ("items = 10", "items = 3", "[publish.segments] has changed since the table was written", [index, score]),
        (
            "[publish.segments]",
            "[publish.popular]\nk = 3\n[publish.segments]",
            "[publish.popular] has changed",
            [index],
        ),
        ("k = 5", "k = 4", "users_with_wrong_count", [score]),
    ],
)
def test_settings_that_have_changed_since_are_named(
    shop: Layout, caplog: pytest.LogCaptureFixture, old: str, new: str, told: str, cure: list[Any]
) -> None:
    before = content(shop)
    configure(shop, old, new)
    assert run(shop, publish) in (2, 3)
    assert told in caplog.text
    if cure[0] is index:
        assert "Run the index step again (python -m jobs.index)." in caplog.text
    assert content(shop) == before
    assert run(shop, *cure, publish) == 0
    assert content(shop) != before


def test_a_score_step_of_before_the_index_step_is_named(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    configure(shop, "k = 30", "k = 7")
    assert run(shop, index, publish) == 2
    assert "the table segments of this shard was made with other settings" in caplog.text
    assert "Run the score step for shard 0 again (python -m jobs.score --shard 0)." in caplog.text
    assert run(shop, score, publish) == 0
    assert frame(shop, "segments").groupby("item_id").size().tolist() == [7] * 10


def test_a_table_that_is_switched_on_late_is_named(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    tables = SETTINGS[SETTINGS.index("[publish]") :]
    shop.config.write_text(SETTINGS.replace(tables, ""))
    assert run(shop, index, score, publish) == 0
    assert not (shop.published(FIRST) / "_tables").exists()
    assert (manifest(shop).tables, manifest(shop).vector_space) == ({}, None)
    for names, told, cure in (
        ('["popular"]', "names popular, which the index step has not written. Run the index step again", index),
        ('["user_vectors"]', "the table user_vectors has no part of this shard", score),
    ):
        shop.config.write_text(SETTINGS.replace(tables, f"[publish]\ntables = {names}\n"))
        caplog.clear()
        assert run(shop, publish) == 2
        assert told in caplog.text
        assert run(shop, cure, publish) == 0
        assert manifest(shop).tables.keys() == set(json.loads(names))


@pytest.mark.parametrize(("name", "shard", "cure"), [("similar_items", None, index), ("user_vectors", 1, score)])
@pytest.mark.parametrize("damage", ["flip", "missing"])
def test_a_damaged_table_is_not_published(
    shop: Layout, caplog: pytest.LogCaptureFixture, name: str, shard: int | None, cure: Any, damage: str
) -> None:
    before = content(shop)
    path = shop.run(FIRST, "one").table(name, shard)
    raw = path.read_bytes()
    path.unlink()
    if damage == "flip":
        path.write_bytes(raw[:200] + bytes([raw[200] ^ 1]) + raw[201:])
    assert run(shop, publish) == 2
    assert f"{path} {'is damaged' if damage == 'flip' else 'does not exist'}" in caplog.text
    assert content(shop) == before
    assert run(shop, cure, publish) == 0
    assert content(shop) == before


def test_a_published_table_that_is_damaged_is_published_again(shop: Layout) -> None:
    before = content(shop)
    path = shop.root / manifest(shop).tables["segments"][0].path
    path.unlink()
    path.write_bytes(b"damaged")
    assert run(shop, publish) == 0
    assert metrics(shop, "publish")["changed"]
    after = content(shop)
    assert after.pop("_manifest.json") != before.pop("_manifest.json")  # of another time
    assert after == before


def test_a_table_that_breaks_a_rule_publishes_nothing(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    before = content(shop)
    night = shop.run(FIRST, "one")
    path = night.table("popular")
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    written = HashedFile.of(path).model_dump() | {"rows": len(table) - 1}
    tables = metrics(shop, "index")["tables"]
    edit(night.step_metrics("index"), tables={**tables, "popular": {**tables["popular"], **written}})
    assert run(shop, publish) == 3
    assert (
        "The table popular broke its rules and nothing has been published: rankings_with_wrong_ranks is 1"
        in caplog.text
    )
    assert "remove 'popular' from publish.tables. Details: " in caplog.text
    assert content(shop) == before
    configure(shop, '"popular", ', "")  # as the message says
    assert run(shop, publish) == 0
    assert "popular" not in manifest(shop).tables


def test_killed_before_the_folder_is_exchanged_readers_keep_all_tables(
    shop: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(shop)
    configure(shop, "items = 10", "items = 3")
    assert run(shop, index, score) == 0

    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    for place in ((Manifest, "write"), (shutil, "copyfile")):
        with monkeypatch.context() as patched:
            patched.setattr(*place, kill)
            with pytest.raises(KeyboardInterrupt):
                run(shop, publish)
        assert content(shop) == before
    assert run(shop, publish) == 0
    assert frame(shop, "segments").item_id.nunique() == 3


def test_a_refresh_carries_the_tables_over(shop: Layout) -> None:
    before = manifest(shop)

    def tables() -> dict[str, bytes]:
        """Files of the tables, without the users whose rows have changed."""
        found = content(shop).items()
        return {name: text for name, text in found if name.split("/")[0] == "_tables" and "/changes/" not in name}

    whole = tables()
    write_landing(shop.root, newcomers(), "later.parquet")
    assert run(shop, ingest, refresh, day=QUIET, run_id="noon") == 0
    after = manifest(shop)
    assert after.refresh is not None
    assert {name: after.tables[name] for name in before.tables} == before.tables
    assert after.vector_space == before.vector_space
    assert tables() == whole
    assert run(shop, publish) == 0  # the night's own table again
    assert {name: manifest(shop).tables[name] for name in before.tables} == before.tables


def test_a_refresh_does_not_carry_damage_over(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    write_landing(shop.root, newcomers(), "later.parquet")
    path = shop.root / manifest(shop).tables["popular"][0].path
    path.unlink()
    path.write_bytes(b"damaged")
    assert run(shop, ingest, refresh, day=QUIET, run_id="noon") == 2
    assert f"{path} is damaged" in caplog.text
    assert "Publish that night again" in caplog.text
    assert run(shop, publish) == 0
    assert run(shop, refresh, day=QUIET, run_id="noon") == 0


def test_a_list_names_the_items_of_segments(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    configure(shop, "items = 10", 'item_list = "landing/campaign.csv"')
    assert run(shop, snapshot) == 2  # before anything is trained
    assert "publish.segments.item_list: " in caplog.text
    listed = shop.landing / "campaign.csv"
    listed.write_text("item_id\nnone of these\n")
    assert run(shop, index) == 2
    assert "landing/campaign.csv holds no item that may be recommended tonight" in caplog.text
    listed.write_text("item_id\nitem-007\nnone of these\nitem-003\nitem-007\n")
    assert run(shop, index, score, publish) == 0
    assert "names 1 items that may not be recommended, such as none of these" in caplog.text
    assert frame(shop, "segments").item_id.unique().tolist() == ["item-003", "item-007"]


def test_items_that_are_not_allowed_are_in_no_table_but_have_similar_ones(shop: Layout) -> None:
    allowed = {f"item-{number:03d}" for number in range(0, 80, 2)}
    (shop.landing / "allowed.csv").write_text("\n".join(["item_id", *sorted(allowed)]))
    shop.config.write_text(SETTINGS.replace("k = 5\n", 'k = 5\nallowed_items = "landing/allowed.csv"\n', 1))
    assert run(shop, index, score, publish) == 0
    for name in ("popular", "segments", "item_vectors"):
        assert set(frame(shop, name).item_id) <= allowed
    similar = frame(shop, "similar_items")
    assert set(similar.similar_item_id) <= allowed
    assert not set(similar.item_id) <= allowed


def test_a_baseline_has_the_tables_that_need_no_model(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    layout.root.mkdir()
    layout.config.write_text(TINY + '[publish]\ntables = ["similar_items", "popular", "segments", "user_vectors"]\n')
    write_landing(layout.root, make_interactions(users=30, items=40, days=28))
    assert run(layout, ingest, snapshot, train, gate, index, score, publish) == 0
    assert manifest(layout).model_version.startswith("baseline-")
    assert "no model serves, so that these tables are not published: segments, user_vectors" in caplog.text
    assert manifest(layout).tables.keys() == {"similar_items", "popular"}
    assert set(frame(layout, "similar_items").source) == {"bought_together"}
    assert manifest(layout).vector_space is None


def test_without_tables_nothing_is_computed(layout: Layout) -> None:
    layout.root.mkdir()
    layout.config.write_text(TINY_ONCE)
    write_landing(layout.root, make_interactions(users=30, items=40, days=28))
    assert run(layout, ingest, snapshot, train, gate, index, score, publish) == 0
    assert not layout.run(FIRST, "one").tables.exists()
    assert not (layout.published(FIRST) / "_tables").exists()
    assert metrics(layout, "index")["tables"] == {}


def test_a_model_without_score_terms_has_similar_items_all_the_same(shop: Layout) -> None:
    """What its model has not counted is counted from the snapshot."""
    before = frame(shop, "similar_items")
    shop.config.write_text(SETTINGS.replace("[model]\n", "[model]\nscore_terms = []\n"))
    assert run(shop, snapshot, train, gate, index, score, publish, run_id="two") == 0
    after = frame(shop, "similar_items")
    for source in ("alike", "bought_together"):
        mine, other = (one[one.source == source].reset_index(drop=True) for one in (before, after))
        assert mine[["item_id", "similar_item_id"]].equals(other[["item_id", "similar_item_id"]])
        np.testing.assert_allclose(mine.score, other.score, rtol=1e-5)


def test_the_library_reads_a_table(shop: Layout) -> None:
    root = hmamba.open(shop.root)
    assert root.table("segments", FIRST).to_table().num_rows == 300
    with pytest.raises(
        InputError, match="There is no table 'similar' beside the candidates of 2024-01-28; there is: sim"
    ):
        root.table("similar")


def test_a_full_disk_leaves_no_half_table(shop: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    from hmamba.tables import of_items

    before = content(shop)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(of_items, "write_item_vectors", full)
        assert run(shop, index) == 1
    assert isinstance(shop.storage, LocalStorage)
    assert not [path for path in shop.run(FIRST, "one").tables.iterdir() if path.name.startswith(".")]
    assert run(shop, index, publish) == 0
    assert content(shop) == before


def test_a_column_of_users_is_missed_before_anything_is_trained(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    by = '[publish.popular]\nby = ["contry"]\n[publish.segments]'
    configure(shop, "[publish.segments]", by)
    assert run(shop, snapshot) == 2
    assert "publish.popular.by = ['contry'] names columns of users, but there is no file of users" in caplog.text
    users = countries(shop)
    configure(shop, "[publish.segments]", f"{USERS}{by}")
    assert run(shop, snapshot) == 2
    assert "the column 'contry', which the users file does not have. Is 'country' meant?" in caplog.text
    shop.config.write_text(shop.config.read_text().replace("contry", "country"))
    assert run(shop, snapshot, index, score, publish) == 0
    assert set(frame(shop, "popular").segment.dropna()) == {"NO", "SE"}
    users.assign(country="FI").to_csv(shop.landing / "users.csv", index=False)
    assert run(shop, snapshot, publish) == 2
    assert "was written before the snapshot of this run. Run the index step again" in caplog.text
    assert run(shop, index, publish) == 0
    assert set(frame(shop, "popular").segment.dropna()) == {"FI"}


USERS = '[users]\npath = "landing/users.csv"\n'
RULES = """
[[deny]]
name = "gone"
where = "items.item_id IN ('item-000', 'item-005')"
[[deny]]
name = "not in Sweden"
where = "items.item_id = 'item-001'"
users_where = "users.country = 'SE'"
[[cap]]
name = "one of a kind"
by = "items.item_id"
most = 1
"""


def countries(shop: Layout) -> pd.DataFrame:
    """A users file: the country of each user."""
    users = pd.DataFrame({"user_id": [f"user-{number:03d}" for number in range(120)], "country": ["NO", "SE"] * 60})
    users.to_csv(shop.landing / "users.csv", index=False)
    return users


def test_rules_hold_in_the_tables_as_well(
    shop: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone = {"item-000", "item-005"}
    before = frame(shop, "segments")
    users = countries(shop).set_index("user_id").country
    configure(shop, "[publish.segments]", f"{USERS}[publish.segments]")
    (shop.root / "rules.toml").write_text(RULES)
    assert run(shop, snapshot, index, score, publish) == 0
    for name in ("popular", "segments", "item_vectors"):
        assert not gone & set(frame(shop, name).item_id), name
    similar = frame(shop, "similar_items")
    assert not gone & set(similar.similar_item_id)
    assert gone <= set(similar.item_id)
    assert set(similar.groupby(["item_id", "source"]).size()[:, "same_taste"]) == {20}  # as many as without rules
    segments = frame(shop, "segments")
    assert set(before[before.item_id == "item-001"].user_id.map(users)) == {"NO", "SE"}
    assert set(segments[segments.item_id == "item-001"].user_id.map(users)) == {"NO"}
    (page,) = [
        record.read_text()
        for record in shop.checks.all_records
        if record.parent.name == "segments" and "rows_denied_by: not in Sweden" in record.read_text()
    ]
    assert "one of a kind" not in page  # caps are for the items of a user

    with monkeypatch.context() as patched:
        patched.setattr(BlockRules, "keeps", lambda self, rows, items: np.ones(len(rows), dtype=bool))
        assert run(shop, score) == 0
    caplog.clear()
    assert run(shop, publish) == 3
    assert "rows_denied_by: not in Sweden" in caplog.text
    assert run(shop, score, publish) == 0


def test_a_control_group_has_vectors_as_well(shop: Layout) -> None:
    """Also where some of its users, who get a baseline's list, have no history that the model could read."""
    configure(shop, "[publish]", '[experiment]\ncontrol = 0.4\nsalt = "a"\n[publish]')
    strangers = {f"stranger {number}" for number in range(12)}
    time = pd.Timestamp(FIRST) + pd.Timedelta(hours=1)
    late = pd.DataFrame({"user_id": sorted(strangers), "item_id": "never seen", "event_time": time, "weight": 1.0})
    write_landing(shop.root, late, "late.parquet")
    assert run(shop, ingest, snapshot, index, score, publish) == 0
    users = set(frame(shop, "user_vectors").user_id)
    candidates = pd.concat([pd.read_parquet(shop.root / file.path) for file in manifest(shop).files])
    groups = candidates.drop_duplicates("user_id").set_index("user_id").experiment
    assert users == set(groups.index) - strangers
    for some in (users, strangers):
        assert set(groups[sorted(some)]) == {"treatment", "control"}
