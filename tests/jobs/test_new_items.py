"""Items of the catalogue without events, from the night that first sees them to the night after their first event."""

from __future__ import annotations

import shutil
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from hmamba.candidates.night import NightScorer
from hmamba.evaluation.ranking import Quota, rank_served
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import read_histories
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from jobs import gate, index, ingest, publish, report, score, snapshot, train
from tests.landing import TINY_ONCE
from tests.synthetic import CLUSTERS, DEPARTMENTS, make_catalogue, make_interactions, write_landing

USERS, ITEMS, K, LEAST = 120, 80, 10, 2
FIRST, SECOND = date(2024, 1, 28), date(2024, 1, 30)
SETTINGS = (
    TINY_ONCE.replace("k = 5", f"k = {K}\nnew_items = 0.25")
    .replace("epochs = 4", "epochs = 12\nrefit = true")
    .replace("min_item_events = 3", "min_item_events = 1")
    + """
[gate]
min_users = 10
tolerance = 0.9
"""
)
CATALOGUE = """
[catalogue]
path = "landing/products"
category_path = ["department", "category"]
attributes = ["brand"]
"""
NOVEL = [f"novel-{department}" for department in DEPARTMENTS]


def products() -> pd.DataFrame:
    """Items with events, one new item in each department, one of an unknown category and one without anything."""
    known = make_catalogue(ITEMS).assign(brand=[f"brand {number % CLUSTERS}-{number // 4 % 3}" for number in range(80)])
    likes = known.iloc[:CLUSTERS].assign(item_id=NOVEL)
    alien = likes.iloc[:1].assign(item_id="alien", department="none", category="none 0", brand="no brand")
    blank = likes.iloc[:1].assign(item_id="blank", department=None, category=None, brand=None)
    return pd.concat([known, likes, alien, blank], ignore_index=True)


def run_night(layout: Layout, day: date, *, full_retrain: bool = False) -> None:
    arguments = ["--root", str(layout.root), "--day", day.isoformat(), "--run-id", "one"]
    for step in (ingest, snapshot, train, gate, index):
        extra = ["--full-retrain"] if full_retrain and step is train else []
        assert step.main([*arguments, *extra]) == 0, step.__name__
    assert score.main([*arguments, "--shards", "0-1"]) == 0
    assert publish.main(arguments) == 0
    assert report.main(arguments) == 0


def table(layout: Layout, day: date) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(part) for part in layout.published_parts(day)], ignore_index=True)


def indices(layout: Layout, day: date) -> dict[str, int]:
    items = pd.read_parquet(layout.run(day, "one").items)
    return dict(zip(items.item_id, items.item_index.tolist(), strict=True))


@pytest.fixture(scope="module")
def after_first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root after its first night. Tests copy it."""
    layout = Layout.at(tmp_path_factory.mktemp("new"))
    layout.config.write_text(SETTINGS + CATALOGUE)
    write_landing(layout.root, make_interactions(users=USERS, items=ITEMS, days=28))
    (layout.landing / "products").mkdir()
    products().to_parquet(layout.landing / "products" / "products.parquet", index=False)
    run_night(layout, FIRST)
    return layout.root


@pytest.fixture
def shop(after_first: Path, tmp_path: Path) -> Layout:
    return Layout.at(shutil.copytree(after_first, tmp_path / "root", symlinks=True))


def test_a_new_item_reaches_the_users_who_take_items_like_it(after_first: Path) -> None:
    layout = Layout.at(after_first)
    assert read_json(layout.run(FIRST, "one").verdict)["promoted"]
    found = table(layout, FIRST)
    assert (found.groupby("user_id").size() == K).all()
    new = found[found.item_id.isin(NOVEL)]
    assert (new.groupby("user_id").size() >= LEAST).all()
    assert new.user_id.nunique() == USERS
    assert not set(found.item_id) & {"alien", "blank"}
    best = new.groupby("user_id").first().item_id
    favourite = [NOVEL[int(user.removeprefix("user-")) % CLUSTERS] for user in best.index]
    assert (best == favourite).mean() > 0.9  # by chance 0.25
    metrics = read_json(layout.run(FIRST, "one").step_metrics("index"))
    assert metrics["new_items"] == CLUSTERS


def test_its_own_tangent_is_zero_and_its_bias_that_of_no_event(after_first: Path) -> None:
    layout = Layout.at(after_first)
    stored = NightScorer.open(Snapshot.open(layout.run(FIRST, "one")), torch.device("cpu")).stored
    assert stored is not None
    place = indices(layout, FIRST)
    assert stored.new_items.tolist() == sorted(place[name] for name in NOVEL)
    model, new = stored.model, torch.from_numpy(stored.new_items)
    assert not model.tangents.weight[new].any()
    assert model.bias is not None
    assert model.prior is not None
    assert torch.equal(model.bias[new], model.prior[new])
    assert (model.prior[new] <= model.prior[1:].min()).all()
    assert model.item_points(new)[:, 1:].norm(dim=1).min() > 0  # the vectors of its categories


def test_the_published_lists_are_those_of_a_dense_ranking(after_first: Path) -> None:
    layout = Layout.at(after_first)
    run = layout.run(FIRST, "one")
    files = Snapshot.open(run)
    stored = NightScorer.open(files, torch.device("cpu")).stored
    assert stored is not None
    histories = read_histories(files.shards)
    size = len(stored.candidate_items.column)
    expected = rank_served(
        stored.model,
        stored.readable(histories)[0],
        stored.candidate_items,
        CandidateItems.only(stored.new_items, size),
        depth=K,
        quota=Quota(K, LEAST),
        exclude_seen=True,
    )
    found = table(layout, FIRST).pivot(index="user_id", columns="rank", values="item_id")
    names = np.array(stored.item_ids.to_pylist(), dtype=object)[expected]
    lists = dict(zip(histories.users.to_pylist(), names.tolist(), strict=True))
    assert {user: row.tolist() for user, row in found.iterrows()} == lists


def test_an_item_keeps_its_index_when_its_first_event_comes_and_is_judged_apart(shop: Layout) -> None:
    before = indices(shop, FIRST)
    events = make_interactions(users=USERS, items=ITEMS, days=30)
    late = events[events.event_time >= datetime(2024, 1, 29)]
    users = [f"user-{number:03d}" for number in range(3, USERS, CLUSTERS)]  # they like toys
    first = pd.DataFrame({"user_id": users, "item_id": "novel-toys", "event_time": datetime(2024, 1, 30, 12)})
    write_landing(shop.root, pd.concat([late, first.assign(weight=1.0)], ignore_index=True), "later.parquet")
    run_night(shop, SECOND)
    after = indices(shop, SECOND)
    assert {name: after[name] for name in before} == before
    items = pd.read_parquet(shop.run(SECOND, "one").items).set_index("item_id")
    assert items.events["novel-toys"] == len(users)
    assert items.events["novel-dairy"] == 0
    verdict = read_json(shop.run(SECOND, "one").verdict)
    groups = {group["least_events"]: group for group in verdict["rare_groups"]}
    none = groups.get(0, verdict["rare"])
    assert none["answers"] >= len(users)
    assert none["metrics"]["challenger"]["hr@10"] > 0.8
    assert none["metrics"]["popularity"]["hr@10"] == 0
    assert not set(table(shop, SECOND).query("user_id in @users").item_id) & {"novel-toys"}  # they have it now


def test_a_night_may_recommend_new_items_only(shop: Layout) -> None:
    allowed = shop.root / "allowed.csv"
    allowed.write_text("\n".join(["item_id", *NOVEL]) + "\n")
    shop.config.write_text(SETTINGS.replace("[candidates]", f"[candidates]\nallowed_items = '{allowed}'") + CATALOGUE)
    arguments = ["--root", str(shop.root), "--day", FIRST.isoformat(), "--run-id", "one"]
    assert index.main(arguments) == 0
    assert score.main([*arguments, "--shards", "0-1"]) == 0
    assert publish.main(arguments) == 0
    found = table(shop, FIRST)
    assert set(found.item_id) == set(NOVEL)
    assert found.user_id.nunique() == USERS


def test_a_champion_that_serves_on_learns_of_items_that_are_newer_than_it(shop: Layout) -> None:
    champion = read_json(shop.champion)["version"]
    late = products().tail(CLUSTERS + 2).head(CLUSTERS).assign(item_id=[f"late-{name}" for name in DEPARTMENTS])
    late.to_parquet(shop.landing / "products" / "late.parquet", index=False)
    events = make_interactions(users=USERS, items=ITEMS, days=30)
    write_landing(shop.root, events[events.event_time >= datetime(2024, 1, 29)], "later.parquet")
    ruined = SETTINGS.replace("epochs = 12", "epochs = 1\nlearning_rate = 3.0").replace("= 0.9", "= 0")
    shop.config.write_text(ruined.replace("[model]", "[model]\nscore_terms = []") + CATALOGUE)
    run_night(shop, SECOND, full_retrain=True)
    verdict = read_json(shop.run(SECOND, "one").verdict)
    assert (verdict["serving"], verdict["promoted"]) == (champion, False)
    found = table(shop, SECOND)
    new = found[found.item_id.isin([*NOVEL, *late.item_id])]
    assert (new.groupby("user_id").size() >= LEAST).all()
    assert set(new.item_id) == {*NOVEL, *late.item_id}


def test_without_a_catalogue_the_setting_changes_nothing(tmp_path: Path) -> None:
    parts = []
    for share in ("0.25", "0.0"):
        layout = Layout.at(tmp_path / share)
        layout.root.mkdir()
        layout.config.write_text(SETTINGS.replace("new_items = 0.25", f"new_items = {share}"))
        write_landing(layout.root, make_interactions(users=USERS, items=ITEMS, days=28))
        run_night(layout, FIRST)
        run = layout.run(FIRST, "one")
        assert not pq.read_schema(run.items).field("first_seen").nullable
        assert "new" not in pq.read_schema(run.model / "items.parquet").names
        assert not (run.index / "new_items.npz").exists()
        parts.append([part.read_bytes() for part in layout.published_parts(FIRST)])
    assert parts[0] == parts[1]
