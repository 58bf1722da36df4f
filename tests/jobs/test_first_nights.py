"""Nights on which no model is shown to be better than a baseline: readers get a table all the same, with a warning."""

from __future__ import annotations

import json
import shutil
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json, sha256
from jobs import gate, index, ingest, publish, refresh, report, score, snapshot, train
from tests.landing import TINY, TINY_ONCE
from tests.synthetic import make_interactions, write_landing

DAY = date(2024, 1, 30)
ONE_SHARD = TINY.replace("shards = 2", "shards = 1")


def steps(layout: Layout, day: date, *wanted: Any) -> int:
    """Run steps until one fails; its exit status, or 0."""
    arguments = ["--root", str(layout.root), "--day", day.isoformat(), "--run-id", "one"]
    for step in wanted:
        more = ["--shard", "0"] if step is score else []
        code: int = step.main([*arguments, *more])
        if code:
            return code
    return 0


def night(layout: Layout, day: date = DAY) -> int:
    return steps(layout, day, ingest, snapshot, train, gate, index, score, publish)


def metrics(layout: Layout, step: str, day: date = DAY) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(layout.run(day, "one").step_metrics(step).read_text())
    return found


def table(layout: Layout) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(layout.root / file["path"]) for file in read_json(layout.latest)["files"]])


def shop(layout: Layout, frame: pd.DataFrame, settings: str) -> Layout:
    write_landing(layout.root, frame)
    layout.config.write_text(settings)
    return layout


def events(rows: list[tuple[str, str, int]]) -> pd.DataFrame:
    """Users, items, and days before the last."""
    return pd.DataFrame(
        {
            "user_id": [user for user, _, _ in rows],
            "item_id": [item for _, item, _ in rows],
            "event_time": [datetime(2024, 1, 30, 12) - timedelta(days=back) for _, _, back in rows],
            "weight": 1.0,
        }
    )


UNLEARNABLE = {
    "each user has one event": events([(f"u{n}", f"i{n % 7}", n % 20) for n in range(50)]),
    "fifty users and one item": events([(f"u{n}", "i", n % 20 + d) for n in range(50) for d in (0, 30)]),
    "all items are too rare": events([(f"u{n % 9}", f"i{n}", n) for n in range(30)]),
}


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("kind", UNLEARNABLE)
def test_where_nothing_can_be_learnt_a_baseline_is_published(layout: Layout, kind: str, exclude_seen: bool) -> None:
    settings = ONE_SHARD.replace("exclude_seen = false", f"exclude_seen = {str(exclude_seen).lower()}")
    shop(layout, UNLEARNABLE[kind], settings)
    assert night(layout) == 0
    manifest, version = read_json(layout.latest), metrics(layout, "gate")["serving"]
    name = {"baseline-popularity": "popularity", "baseline-most_bought": "what each user had most"}[version]
    nothing_left = kind == "fifty users and one item" and exclude_seen  # everybody has seen everything
    assert manifest["users"] == (0 if nothing_left else UNLEARNABLE[kind].user_id.nunique())
    assert read_json(layout.champion)["version"] is None
    why = f"no model could be trained ({metrics(layout, 'train')['skipped_reason']})"
    if nothing_left:
        why = "there are no users to judge the first model on"
    assert manifest["warning"] == f"No model serves: the table ranks items by {name} (a baseline), because {why}"
    assert (metrics(layout, "train")["version"] is None) == (not nothing_left)
    assert manifest["warning"] == metrics(layout, "gate")["warning"] == metrics(layout, "publish")["warning"]
    assert set(table(layout).model_version) == (set() if nothing_left else {version})
    assert steps(layout, DAY, report) == 0


@pytest.fixture(scope="module")
def baseline_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose first night published what each user had most; its model was not shown to be better."""
    layout = Layout.at(tmp_path_factory.mktemp("baseline"))
    shop(layout, make_interactions(users=30, items=40, days=29), ONE_SHARD.replace("epochs = 4", "epochs = 1"))
    assert night(layout, date(2024, 1, 29)) == 0
    return layout.root


@pytest.fixture
def after_baseline(baseline_night: Path, tmp_path: Path) -> Layout:
    return Layout.at(shutil.copytree(baseline_night, tmp_path / "shop", symlinks=True))


def test_a_model_that_is_not_shown_to_be_better_does_not_serve(after_baseline: Layout) -> None:
    verdict = metrics(after_baseline, "gate", date(2024, 1, 29))
    assert verdict["serving"] == "baseline-most_bought"
    assert verdict["challenger"] == metrics(after_baseline, "train", date(2024, 1, 29))["version"]
    assert "the first model is not shown to be better than what each user had most" in verdict["warning"]
    assert metrics(after_baseline, "index", date(2024, 1, 29))["kind"] == "none"
    frame = table(after_baseline)
    assert set(frame.model_version) == {"baseline-most_bought"}
    most = make_interactions(users=30, items=40, days=29).groupby(["user_id", "item_id"]).size()
    first = frame[frame["rank"] == 1].set_index("user_id").item_id
    assert all(most[user, item] == most[user].max() for user, item in first.items())


def test_a_refresh_of_a_baselines_table(after_baseline: Layout) -> None:
    before = table(after_baseline)
    rows = [("user-003", f"item-{number:03d}", 0) for number in range(4)] + [("someone new", "item new", 0)]
    write_landing(after_baseline.root, events(rows), "later.parquet")
    assert steps(after_baseline, DAY, ingest, refresh) == 0
    after, manifest = table(after_baseline), read_json(after_baseline.latest)
    assert (manifest["refresh"]["users"], manifest["refresh"]["new_users"]) == (2, 1)
    assert manifest["model_version"] == "baseline-most_bought"
    assert set(after.model_version) == {"baseline-most_bought"}
    assert len(after[after.user_id == "someone new"]) == 5
    others = ~before.user_id.isin(["user-003"])
    again = after[~after.user_id.isin(["user-003", "someone new"])]
    pd.testing.assert_frame_equal(again.reset_index(drop=True), before[others].reset_index(drop=True))
    assert after[after.user_id == "user-003"].score.tolist() != before[~others].score.tolist()


def test_a_refresh_by_a_baseline_of_another_warehouse_is_refused(
    after_baseline: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    """Item numbers would mean other items, and readers would get those."""
    before, layout = sha256(after_baseline.latest), after_baseline
    layout.warehouse.unlink()
    frame = make_interactions(users=30, items=40, days=30)
    write_landing(layout.root, frame.assign(item_id=frame.item_id.str.replace("item-00", "thing-")))
    given = ["--root", str(layout.root), "--day", DAY.isoformat(), "--run-id", "one", "--new-warehouse"]
    assert ingest.main(given) == 0
    assert steps(layout, DAY, refresh) == 2
    assert "The warehouse was rebuilt: run a whole night with --full-retrain." in caplog.text
    assert sha256(layout.latest) == before
    assert night(layout) == 0
    assert table(layout).item_id.str.startswith("thing-").any()


def test_the_next_night_with_a_model_replaces_it(after_baseline: Layout) -> None:
    after_baseline.config.write_text(ONE_SHARD.replace("exclude_seen = false", "exclude_seen = true"))
    write_landing(after_baseline.root, events([("user-003", "item-001", 0)]), "later.parquet")
    assert night(after_baseline) == 0
    manifest = read_json(after_baseline.latest)
    assert manifest["model_version"] == read_json(after_baseline.champion)["version"]
    assert (manifest["warning"], manifest["day"]) == (None, DAY.isoformat())
    assert metrics(after_baseline, "train")["parent"] is None  # a model that did not serve is nobody's parent


@pytest.mark.parametrize("learnable", [True, False])
def test_a_first_night_may_be_set_to_refuse(
    after_baseline: Layout, layout: Layout, learnable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    refusing = '\n[gate]\nfirst_night = "refuse"\n'
    if learnable:
        layout, day = after_baseline, date(2024, 1, 29)
        layout.config.write_text(ONE_SHARD.replace("epochs = 4", "epochs = 1") + refusing)
    else:
        shop(layout, UNLEARNABLE["each user has one event"], ONE_SHARD + refusing)
        day = DAY
    before = table(layout) if learnable else None
    assert night(layout, day) == 3
    assert "gate.first_night = 'refuse': nothing is published" in caplog.text
    assert read_json(layout.run(day, "one").verdict)["serving"] is None
    assert read_json(layout.champion)["version"] is None
    if before is None:
        assert not layout.latest.exists()
    else:
        pd.testing.assert_frame_equal(table(layout), before)


def test_weights_change_what_is_published(layout: Layout, tmp_path: Path) -> None:
    """Two nights that differ in nothing but the weights of events."""
    frame = make_interactions(users=30, items=40, days=30)
    settings = ONE_SHARD.replace("exclude_seen = false", "exclude_seen = true").replace(
        "[model]", '[source.columns]\nweight = "weight"\n[model]'
    )
    found = []
    for number, weights in enumerate((1.0, np.random.default_rng(0).integers(1, 6, len(frame)).astype(float))):
        root = shop(Layout.at(tmp_path / str(number)), frame.assign(weight=weights), settings)
        assert night(root) == 0
        found.append(table(root))
    assert not (found[0].item_id.to_numpy() == found[1].item_id.to_numpy()).all()
    assert set(found[0].user_id) == set(found[1].user_id)


def test_new_items_are_measured_on_their_own(layout: Layout) -> None:
    """Four users take an item in the end that nobody has taken before; everybody else takes well-known ones."""
    frame = make_interactions(users=30, items=12, days=30)
    users, latest = frame.user_id.unique()[:4], frame.event_time.max() + timedelta(seconds=1)
    new = pd.DataFrame({"user_id": users, "item_id": "item-new", "event_time": latest, "weight": 1.0})
    shop(layout, pd.concat([frame, new], ignore_index=True), ONE_SHARD)
    assert steps(layout, DAY, ingest, snapshot, train, gate) == 0
    verdict = metrics(layout, "gate")
    assert (verdict["k"], verdict["users"]) == (5, 30)
    systems = {"challenger", "popularity", "most_bought"}
    assert set(verdict["metrics"]) == systems
    assert all("recall@5" in found and "hr@5" not in found for found in verdict["metrics"].values())
    assert verdict["rare"] == {
        "most_events": 5,
        "answers": 4,
        "users": 4,
        "metrics": {name: {"ndcg@10": 0.0, "hr@5": 0.0} for name in systems},
    }
    assert read_json(layout.run(DAY, "one").verdict)["rare"] == verdict["rare"]
    assert set(verdict["intervals"]) == systems
    for system, interval in verdict["intervals"].items():
        assert interval["low"] <= verdict["metrics"][system][verdict["metric"]] <= interval["high"]
    kinds = {(group["kind"], group["least_events"]): group for group in verdict["groups"]}
    assert (kinds["items", 0]["users"], kinds["items", 0]["answers"]) == (4, 4)
    assert kinds["users", 1]["users"] == 30
    assert kinds["users", 1]["metrics"] == {
        name: found[verdict["metric"]] for name, found in verdict["metrics"].items()
    }
    assert kinds["users", 1]["comparison"]["one"] == "challenger"


def by_position(frame: pd.DataFrame) -> pd.DataFrame:
    """The same events with their order among each user's, and no times; events of one time share a position."""
    order = frame.groupby("user_id").event_time.rank(method="dense").astype("int64")
    return frame.assign(step=order).drop(columns=["event_time", "weight"])


def test_an_order_without_times_goes_through_the_whole_night(layout: Layout) -> None:
    frame = by_position(make_interactions(users=30, items=40, days=28))
    settings = TINY_ONCE.replace("shards = 2", "shards = 1")
    shop(layout, frame, settings + '\n[source.columns]\nposition = "step"\n')
    assert night(layout) == 0
    verdict = metrics(layout, "gate")
    assert (verdict["split"], verdict["split_why"]) == (
        "last",
        "events have an order and no times: each user's last basket is held out",
    )
    assert (verdict["holdout_from"], verdict["holdout_to"]) == (None, None)
    assert verdict["promoted"], verdict["reason"]
    assert verdict["users"] == 30
    assert len(table(layout)) == 30 * 5
    more = pd.DataFrame({"user_id": ["user-003", "new"], "item_id": ["item-001", "item-002"], "step": [1_000, 1]})
    write_landing(layout.root, more, "later.parquet")
    assert steps(layout, DAY + timedelta(days=1), ingest, refresh) == 0
    assert read_json(layout.latest)["refresh"]["users"] == 2


def test_a_refit_serves_and_is_no_ones_parent(layout: Layout) -> None:
    settings = TINY_ONCE.replace("shards = 2", "shards = 1").replace("epochs = 4", "epochs = 4\nrefit = true")
    shop(layout, make_interactions(users=30, items=40, days=28), settings)
    assert night(layout) == 0
    told = metrics(layout, "gate")
    assert told["promoted"]
    assert (told["refit"]["epoch"], told["refit"]["ndcg@10"]) == (1, None)
    run, version = layout.run(DAY, "one"), told["serving"]
    assert not (run.training / "refit").exists()
    served, stored = (folder / "model.safetensors" for folder in (run.model, layout.model(version)))
    assert served.read_bytes() != stored.read_bytes()
    before = table(layout)
    assert steps(layout, DAY, gate, index, score, publish) == 0
    pd.testing.assert_frame_equal(table(layout), before)
    # The refit's weights are nowhere but in the run: the next night does without them.
    shutil.rmtree(run.model)
    tomorrow = DAY + timedelta(days=1)
    write_landing(layout.root, events([("user-003", "item-001", 1)]), "later.parquet")
    assert night(layout, tomorrow) == 0
    assert metrics(layout, "train", tomorrow)["parent"] == version
