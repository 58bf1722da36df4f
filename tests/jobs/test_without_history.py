"""Whole nights with users of whom there is no usable history: their rows, a refresh, an explanation, an erasure."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from hmamba.candidates.explain import explain
from hmamba.columns import FALLBACK_VERSION
from hmamba.config import load
from hmamba.contracts import Manifest
from hmamba.contracts.scored import ShardMetrics
from hmamba.storage.layout import Layout
from hmamba.upkeep.check import check
from hmamba.upkeep.forget import forget
from jobs import gate, index, ingest, publish, refresh, score, snapshot, train
from tests.landing import TINY, TINY_ONCE
from tests.synthetic import CLUSTERS, make_interactions, write_landing

NIGHT, NEXT = date(2024, 1, 28), date(2024, 1, 29)
USERS = """because = true
[gate]
tolerance = 0.9
[users]
path = "landing/people.csv"
segments = ["taste"]
min_users = 5
include_without_events = true
"""
STRANGERS = [f"a-stranger-{number}" for number in range(4)] + ["zoe"]


def steps(layout: Layout, day: date, *names: object) -> None:
    for step in names:
        extra = ["--shards", "0-1"] if step is score else []
        assert step.main(["--root", str(layout.root), "--day", day.isoformat(), *extra]) == 0, step.__name__


def shop(root: Path, settings: str, more: str = "") -> Layout:
    """A root after a night. Users of a taste take the items of one cluster; the strangers have tastes and no events."""
    layout = Layout.at(root)
    layout.config.write_text(settings + USERS + more)
    write_landing(layout.root, make_interactions(users=30, items=40, days=28))
    users = [f"user-{number:03d}" for number in range(30)] + STRANGERS
    tastes = [f"t{number % CLUSTERS}" for number in range(30)] + ["t0", "t1", "t2", "t3", "none of these"]
    pd.DataFrame({"user_id": users, "taste": tastes}).to_csv(layout.landing / "people.csv", index=False)
    steps(layout, NIGHT, ingest, snapshot, train, gate, index, score, publish)
    return layout


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return shop(tmp_path_factory.mktemp("strangers"), TINY_ONCE)


@pytest.fixture
def copied(night: Layout, tmp_path: Path) -> Layout:
    return Layout.at(shutil.copytree(night.root, tmp_path / "root", symlinks=True))


def table(layout: Layout) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(part) for part in layout.published_parts(NIGHT)], ignore_index=True)


def items_of(layout: Layout, user: str) -> list[str]:
    return table(layout).query("user_id == @user").sort_values("rank").item_id.tolist()


def cluster(item: str) -> int:
    return int(item[5:]) % CLUSTERS


def test_users_without_events_get_the_popular_items_of_their_segment(night: Layout) -> None:
    found = table(night)
    manifest = Manifest.read(night.latest)
    assert (manifest.users, manifest.fallback_users, manifest.rows) == (35, 5, len(found))
    assert set(found[found.user_id.isin(STRANGERS)].model_version) == {FALLBACK_VERSION}
    for taste, user in enumerate(STRANGERS[:4]):
        items = items_of(night, user)
        assert len(items) == 5
        assert sum(cluster(item) == taste for item in items) >= 4
        assert found.query("user_id == @user").because.iloc[0] == "segment"
    events = make_interactions(users=30, items=40, days=28)
    popular = events.item_id.value_counts()
    assert popular[items_of(night, "zoe")].tolist() == sorted(popular, reverse=True)[:5]
    assert set(found[found.user_id == "zoe"].because) == {"popular"}


def test_it_is_explained(night: Layout) -> None:
    item = items_of(night, STRANGERS[1])[1]
    found = explain(night, STRANGERS[1], item)
    assert (found.rank, found.place, found.model_version, found.note) == (2, 2, FALLBACK_VERSION, None)
    assert found.times_taken == 0


def test_a_first_event_is_answered_by_the_next_refresh(copied: Layout) -> None:
    item = items_of(copied, STRANGERS[0])[0]
    rows = {"user_id": [STRANGERS[0]], "item_id": [item], "event_time": [pd.Timestamp(2024, 1, 29)], "weight": [1.0]}
    write_landing(copied.root, pd.DataFrame(rows), "later.parquet")
    before = table(copied)
    steps(copied, NEXT, ingest, refresh)
    after = table(copied)
    assert set(after[after.user_id == STRANGERS[0]].model_version) == {Manifest.read(copied.latest).model_version}
    others = before.user_id != STRANGERS[0]
    pd.testing.assert_frame_equal(
        after[after.user_id != STRANGERS[0]].reset_index(drop=True), before[others].reset_index(drop=True)
    )
    assert Manifest.read(copied.latest).fallback_users == 4


def test_the_setting_of_the_night_holds_for_a_refresh(copied: Layout) -> None:
    settings = copied.config.read_text().replace("include_without_events = true\n", "")
    copied.config.write_text(settings)
    rows = {"user_id": ["new"], "item_id": ["unheard of"], "event_time": [pd.Timestamp(2024, 1, 29)], "weight": [1.0]}
    write_landing(copied.root, pd.DataFrame(rows), "later.parquet")
    steps(copied, NEXT, ingest, refresh)
    assert {*STRANGERS, "new"} <= set(table(copied).user_id)


def test_a_forgotten_user_without_events_is_gone(copied: Layout) -> None:
    forget(copied, load(None, copied), [STRANGERS[2]])
    assert STRANGERS[2] not in set(table(copied).user_id)
    assert Manifest.read(copied.latest).users == 34
    run = copied.run(NIGHT, "manual")
    assert sum(ShardMetrics.read(path, run.storage).users for path in run.score_metrics) == 34
    assert [area.name for area in check(copied) if area.wrong] == []
    steps(copied, NIGHT, snapshot, train, gate, index, score, publish)
    assert STRANGERS[2] not in set(table(copied).user_id)


def test_without_the_setting_they_have_no_rows(copied: Layout) -> None:
    settings = copied.config.read_text().replace("include_without_events = true\n", "")
    copied.config.write_text(settings)
    steps(copied, NIGHT, snapshot, train, gate, index, score, publish)
    assert set(table(copied).user_id) == {f"user-{number:03d}" for number in range(30)}


def test_where_a_baseline_serves_they_have_rows_of_their_own(tmp_path: Path) -> None:
    layout = shop(tmp_path, TINY)
    found = table(layout)
    assert set(found[~found.user_id.isin(STRANGERS)].model_version) == {"baseline-most_bought"}
    assert set(found[found.user_id.isin(STRANGERS)].model_version) == {FALLBACK_VERSION}
    assert cluster(items_of(layout, STRANGERS[3])[0]) == 3
    assert explain(layout, STRANGERS[3], items_of(layout, STRANGERS[3])[0]).rank == 1


def test_tables_rules_and_a_control_group_take_them_in(tmp_path: Path) -> None:
    more = """
[experiment]
control = 0.5
salt = "autumn"
[publish]
tables = ["similar_items", "popular", "segments", "user_vectors", "item_vectors"]
"""
    (tmp_path / "rules.toml").write_text('[[deny]]\nname = "gone"\nitems = ["item-000", "item-001", "item-002"]\n')
    layout = shop(tmp_path, TINY_ONCE, more)
    found = table(layout)
    assert set(found.user_id) >= set(STRANGERS)
    assert not set(found.item_id) & {"item-000", "item-001", "item-002"}
    strangers = found[found.user_id.isin(STRANGERS)]
    treated = strangers[strangers.experiment == "treatment"]
    assert set(treated.model_version) == {FALLBACK_VERSION}
    assert set(strangers[strangers.experiment == "control"].model_version) <= {"baseline-popularity"}
    for user in set(treated.user_id):
        item = items_of(layout, user)[0]
        assert explain(layout, user, item).rank == 1
