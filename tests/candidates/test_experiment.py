"""The control group: who is in it, what it gets, and that both groups stay as they are from night to night."""

from __future__ import annotations

import json
import re
import shutil
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.candidates.experiment import experiment_of, in_control
from hmamba.config import parse
from hmamba.contracts.manifest import Experiment
from hmamba.errors import ConfigError
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from jobs import gate, index, ingest, publish, refresh, score, snapshot, train
from tests.documents import verdict
from tests.landing import TINY_ONCE
from tests.synthetic import make_interactions, write_landing

NIGHT, NEXT = date(2024, 1, 28), date(2024, 1, 29)
USERS = pa.array([f"user {number}" for number in range(20_000)])
PLAIN = TINY_ONCE + "states = true\n[gate]\ntolerance = 0.9\n"
SPLIT = PLAIN.replace("states", "because = true\nstates") + '[experiment]\ncontrol = 0.3\nsalt = "spring"\n'


def experiment(control: float = 0.1, salt: str = "spring", version: str = "baseline-popularity") -> Experiment:
    return Experiment(control=control, salt=salt, version=version)


class TestGroups:
    def test_a_hash_that_every_machine_computes(self) -> None:
        """The values must never change: users would change their group in the middle of an experiment."""
        users = pa.array(["1", "user-003", "Zoë", "4711"])
        assert in_control(users, experiment(0.7)).tolist() == [True, False, False, True]
        sql = "SELECT list(CAST('0x' || left(sha256('spring:' || u), 13) AS BIGINT) < $limit) FROM unnest($users) t(u)"
        bound = {"limit": experiment().limit, "users": USERS.to_pylist()}
        assert duckdb.execute(sql, bound).fetchall() == [(in_control(USERS, experiment()).tolist(),)]

    @pytest.mark.parametrize("control", [0.0, 0.01, 0.1, 0.5, 1.0])
    def test_the_share_is_as_set(self, control: float) -> None:
        share = in_control(USERS, experiment(control)).mean()
        assert abs(share - control) <= 4 * np.sqrt(control * (1 - control) / len(USERS))

    def test_a_larger_group_keeps_its_users_and_another_salt_draws_others(self) -> None:
        few, many, others = (in_control(USERS, experiment(*given)) for given in ((0.05,), (0.2,), (0.2, "summer")))
        assert many[few].all()
        assert abs(others[many].mean() - 0.2) < 0.03

    def test_shards_have_the_same_share(self) -> None:
        sql = "SELECT list(CAST('0x' || left(md5(u), 8) AS BIGINT) % 8) FROM unnest($users) t(u)"
        ((shards,),) = duckdb.execute(sql, {"users": USERS.to_pylist()}).fetchall()
        shares = pd.Series(in_control(USERS, experiment(0.2))).groupby(pd.Series(shards)).mean()
        assert len(shares) == 8
        assert ((shares - 0.2).abs() < 0.04).all()


METRICS = {"popularity": {"ndcg@10": 0.1}, "most_bought": {"ndcg@10": 0.2}, "champion": {"ndcg@10": 0.3}}


class TestBaselines:
    def version(self, **changes: Any) -> str | None:
        config = parse({"experiment": {"control": 0.1, "salt": "s"}, "candidates": {"exclude_seen": False}}, "here")
        found = experiment_of(config, verdict(**changes))
        return None if found is None else found.version

    def test_the_control_group_gets_the_one_that_the_gate_measured_as_the_best(self) -> None:
        assert self.version(metrics=METRICS) == "baseline-most_bought"
        assert self.version(metrics={"popularity": {"ndcg@10": 0.1}}) == "baseline-popularity"
        assert self.version(metrics={}) == "baseline-most_bought"

    def test_where_a_baseline_serves_both_groups_get_it(self) -> None:
        assert self.version(metrics=METRICS, serving="baseline-popularity") == "baseline-popularity"

    def test_no_experiment(self) -> None:
        assert experiment_of(parse({}, "here"), verdict()) is None
        assert self.version(serving=None) is None

    def test_a_group_needs_a_salt(self) -> None:
        with pytest.raises(ConfigError, match=r"experiment\.control = 0\.1 needs experiment\.salt"):
            parse({"experiment": {"control": 0.1, "salt": " "}}, "here")


def arguments(layout: Layout, day: date = NIGHT, run_id: str = "one") -> list[str]:
    return ["--root", str(layout.root), "--day", day.isoformat(), "--run-id", run_id]


def finish(layout: Layout, settings: str) -> int:
    """Score the night with other settings, and publish it; returns the status of publish."""
    layout.config.write_text(settings)
    assert score.main([*arguments(layout), "--shards", "0-1"]) == 0
    return publish.main(arguments(layout))


def table(layout: Layout) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in layout.published_parts(NIGHT)], ignore_index=True)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose night has an index, and is not scored yet."""
    layout = Layout.at(tmp_path_factory.mktemp("experiment") / "root")
    layout.root.mkdir()
    layout.config.write_text(PLAIN)
    write_landing(layout.root, make_interactions(users=30, items=40, days=28))
    for step in (ingest, snapshot, train, gate, index):
        assert step.main(arguments(layout)) == 0
    return layout.root


@pytest.fixture
def shop(night: Path, tmp_path: Path) -> Layout:
    return Layout.at(shutil.copytree(night, tmp_path / "root"))


def test_a_night_with_a_control_group(shop: Layout) -> None:
    assert finish(shop, PLAIN) == 0
    before = table(shop)
    assert "experiment" not in before.columns
    assert read_json(shop.latest)["experiment"] is None
    assert finish(shop, SPLIT) == 0
    after, manifest = table(shop), read_json(shop.latest)
    assert manifest["experiment"] == {"control": 0.3, "salt": "spring", "version": "baseline-popularity"}
    assert manifest["columns"] == list(after.columns)
    assert list(after.columns[-3:]) == ["because", "because_item", "experiment"]
    assert manifest["model_version"] == set(before.model_version).pop()

    users = after.groupby("user_id").experiment.agg(["min", "max"])
    given = experiment(0.3)
    expected = np.where(in_control(pa.array(users.index), given), "control", "treatment")
    assert (users["min"] == expected).all()
    assert (users["max"] == expected).all()
    control = after[after.experiment == "control"]
    assert 0 < control.user_id.nunique() < 30
    assert set(control.model_version) == {"baseline-popularity"}
    assert set(control.because) == {"popular"}
    treated = after[after.experiment == "treatment"].reset_index(drop=True)
    same = before[before.user_id.isin(treated.user_id)].reset_index(drop=True)
    pd.testing.assert_frame_equal(treated[same.columns], same, rtol=1e-4)

    run = shop.run(NIGHT, "one")
    events = pd.concat([pd.read_parquet(run.shard(shard)) for shard in range(2)])
    items = pd.read_parquet(run.items).merge(pd.read_parquet(run.item_points)[["item_id"]])
    ranked = items.sort_values(["events", "item_index"], ascending=[False, True])
    for user, own in control.groupby("user_id"):
        seen = set(events[events.user_id == user].item_index)
        assert own.item_id.tolist() == ranked[~ranked.item_index.isin(seen)].item_id.head(len(own)).tolist()
    points = pd.concat([pd.read_parquet(run.user_points(shard)) for shard in range(2)])
    assert points.point.notna().all()
    assert set(points.user_id) == set(events.user_id)
    kept = [pq.read_table(run.state_users(shard)).num_rows for shard in range(2)]
    assert sum(kept) == events.user_id.nunique()
    metrics = json.loads(run.step_metrics("publish").read_text())
    assert metrics["control_users"] == control.user_id.nunique()


def test_a_refresh_keeps_the_groups_of_its_night_whatever_is_set_meanwhile(shop: Layout) -> None:
    assert finish(shop, SPLIT) == 0
    before = table(shop)
    touched = sorted(before[before.experiment == "control"].user_id.unique())[:2]
    touched += sorted(before[before.experiment == "treatment"].user_id.unique())[:2]
    events = pd.DataFrame(
        {
            "user_id": [*touched, "a newcomer"],
            "item_id": "item-001",
            "event_time": [datetime(2024, 1, 29, hour) for hour in range(8, 13)],
            "weight": 1.0,
        }
    )
    write_landing(shop.root, events, "later.parquet")
    shop.config.write_text(SPLIT.replace("spring", "summer").replace("0.3", "0.9"))
    for step in (ingest, refresh):
        assert step.main(arguments(shop, NEXT, "noon")) == 0
    after = table(shop)
    assert read_json(shop.latest)["experiment"]["salt"] == "spring"
    groups = after.groupby("user_id").experiment.first().sort_index()
    expected = np.where(in_control(pa.array(groups.index), experiment(0.3)), "control", "treatment")
    assert (groups == expected).all()
    assert set(groups.index) == {*before.user_id, "a newcomer"}
    assert set(after[after.experiment == "control"].model_version) == {"baseline-popularity"}
    metrics = json.loads(shop.run(NEXT, "noon").step_metrics("refresh").read_text())
    assert (metrics["advanced"], metrics["reencoded"]) == (4, 1)  # states of the control group are kept as well


@pytest.mark.parametrize("allowed", [36, 4])
def test_rules_hold_for_both_groups_and_what_they_did_is_counted_once(shop: Layout, allowed: int) -> None:
    """With few items left, lists are short: publish accepts as many short lists as score has counted."""
    run = shop.run(NIGHT, "one")
    items = pd.read_parquet(run.item_points).item_id.sort_values().tolist()
    shop.rules.write_text(f'[[deny]]\nname = "most"\nitems = {json.dumps(items[allowed:])}\n')
    assert snapshot.main(arguments(shop)) == 0
    assert finish(shop, SPLIT) == 0
    after = table(shop)
    assert set(after.item_id) <= set(items[:allowed])
    assert set(after.groupby("experiment").user_id.nunique()) != {0}
    scored = [json.loads(run.step_metrics("score", shard).read_text())["effects"] for shard in range(2)]
    lengths = after.groupby("user_id").size().reindex([f"user-{number:03d}" for number in range(30)], fill_value=0)
    assert sum(effects["short_users"] for effects in scored) == (lengths < 5).sum()
    assert ((lengths < 5).sum() > 0) == (allowed == 4)


def test_shards_of_another_experiment_are_not_published(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    assert finish(shop, SPLIT) == 0
    shop.config.write_text(SPLIT.replace("spring", "summer"))
    assert publish.main(arguments(shop)) == 2
    assert "part-0000.parquet was scored with other settings under [experiment]. Run the score step for" in caplog.text
    assert score.main([*arguments(shop), "--shards", "0-1"]) == 0
    assert publish.main(arguments(shop)) == 0
    assert read_json(shop.latest)["experiment"]["salt"] == "summer"


def test_the_queries_of_the_page_run(shop: Layout) -> None:
    """Outcomes are the events of the newest day, so that the groups can be compared."""
    salted = SPLIT.replace("0.3", "0.4").replace("spring", "spring-2024")
    assert finish(shop, salted) == 0
    write_landing(shop.root, make_interactions(users=30, items=40, days=30), "later.parquet")
    assert ingest.main(arguments(shop, date(2024, 1, 30))) == 0
    page = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")
    queries = [text.replace("demo/", f"{shop.root}/") for text in re.findall(r"```sql\n(.*?)```", page, re.DOTALL)]
    groups, hashed, difference = (duckdb.execute(query.replace("< 0.05", "< 0.4")).fetchall() for query in queries)
    (_, control), (_, treatment) = [(name, users) for _, name, users in groups]
    assert control + treatment == 30
    assert sum(is_control for _, is_control in hashed) == control
    ((treated, held, found, width),) = difference
    assert (treated, held) == (treatment, control)
    assert np.isfinite([found, width]).all()
    assert width > 0
