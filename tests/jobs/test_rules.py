"""Nights and refreshes under rules.toml, step by step."""

from __future__ import annotations

import shutil
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from hmamba.contracts.manifest import Manifest
from hmamba.contracts.scored import ShardMetrics
from hmamba.contracts.verdict import Verdict
from hmamba.doctor import Check, diagnose
from hmamba.sequences.files import Snapshot
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from jobs import gate, index, ingest, publish, refresh, report, score, snapshot, train
from tests.jobs.commands.call import call
from tests.landing import TINY_ONCE
from tests.synthetic import make_catalogue, make_interactions, write_landing

USERS, ITEMS, K = 120, 80, 10
NIGHT, LATER = date(2024, 1, 28), date(2024, 1, 29)
SETTINGS = (
    TINY_ONCE.replace("k = 5", f"k = {K}")
    .replace("epochs = 4", "epochs = 6")
    .replace("min_item_events = 3", "min_item_events = 1")
    + """
[gate]
min_users = 10
tolerance = 0.9
[catalogue]
path = "landing/products.csv"
category_path = ["department", "category"]
[users]
path = "landing/users.csv"
"""
)
RULES = """
[[deny]]
name = "in stock"
where = "items.stock = 0"

[[deny]]
name = "no toys under 18"
where = "items.department = 'toys'"
users_where = "coalesce(users.age, 0) < 18"

[[cap]]
name = "three of a category"
by = "items.category"
most = 3

[[pin]]
name = "campaign"
items = ["item-003"]
rank = 2
users_where = "users.age >= 18"
"""


def products(stock: int = 1) -> pd.DataFrame:
    """The catalogue; every fifth item is out of stock."""
    return make_catalogue(ITEMS).assign(stock=[0 if number % 5 == 0 else stock for number in range(ITEMS)])


def write_shop(layout: Layout, rules: str | None = RULES) -> None:
    layout.root.mkdir(parents=True, exist_ok=True)
    layout.config.write_text(SETTINGS)
    write_landing(layout.root, make_interactions(users=USERS, items=ITEMS, days=28))
    products().to_csv(layout.landing / "products.csv", index=False)
    users = pd.DataFrame({"user_id": [f"user-{n:03d}" for n in range(50)], "age": np.arange(50) + 5})
    users.to_csv(layout.landing / "users.csv", index=False)
    if rules is not None:
        layout.rules.write_text(rules)


def arguments(layout: Layout, day: date = NIGHT) -> list[str]:
    return ["--root", str(layout.root), "--day", day.isoformat(), "--run-id", "one"]


def run_night(layout: Layout) -> None:
    for step in (ingest, snapshot, train, gate, index):
        assert step.main(arguments(layout)) == 0, step.__name__
    assert score.main([*arguments(layout), "--shards", "0-1"]) == 0
    assert publish.main(arguments(layout)) == 0


def again(layout: Layout) -> int:
    """Snapshot, score and publish; the models stay."""
    assert snapshot.main(arguments(layout)) == 0
    assert score.main([*arguments(layout), "--shards", "0-1"]) == 0
    return publish.main(arguments(layout))


def table(layout: Layout) -> pd.DataFrame:
    found = pd.concat([pd.read_parquet(part) for part in layout.published_parts(NIGHT)], ignore_index=True)
    users = pd.read_csv(layout.landing / "users.csv")
    return found.merge(products(), on="item_id", how="left").merge(users, on="user_id", how="left")


@pytest.fixture(scope="module")
def after_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layout = Layout.at(tmp_path_factory.mktemp("ruled") / "root")
    write_shop(layout)
    run_night(layout)
    return layout.root


@pytest.fixture
def shop(after_night: Path, tmp_path: Path) -> Layout:
    return Layout.at(shutil.copytree(after_night, tmp_path / "root", symlinks=True))


def keeps_the_rules(found: pd.DataFrame) -> None:
    assert (found.stock != 0).all()
    assert not ((found.department == "toys") & ~(found.age >= 18)).any()
    unpinned = found[found.item_id != "item-003"]
    assert unpinned.groupby(["user_id", "category"]).size().max() <= 3


def test_a_night_keeps_its_rules(after_night: Path) -> None:
    layout = Layout.at(after_night)
    found = table(layout)
    keeps_the_rules(found)
    assert (found.groupby("user_id").size() == K).all()
    pinned = found[found.item_id == "item-003"]
    assert (pinned[pinned.age >= 18]["rank"] == 2).mean() > 0.5  # the others have taken it
    assert not (found[found["rank"] == 2].query("not age >= 18").item_id == "item-003").any()
    metrics = [ShardMetrics.read(path) for path in layout.run(NIGHT, "one").score_metrics]
    assert all(part.effects is not None and part.effects.removed["in stock"] > 0 for part in metrics)
    assert Manifest.read(layout.latest).rules is not None


def test_without_rules_nothing_changes(after_night: Path, tmp_path: Path) -> None:
    tables = []
    for rules in (None, "# nothing\n"):
        layout = Layout.at(shutil.copytree(after_night, tmp_path / str(rules is None), symlinks=True))
        layout.rules.unlink()
        if rules is not None:
            layout.rules.write_text(rules)
        assert again(layout) == 0
        assert not (layout.run(NIGHT, "one").sequences / "rules.json").exists()
        assert Manifest.read(layout.latest).rules is None
        assert "effects" in read_json(layout.run(NIGHT, "one").step_metrics("score", 0))
        tables.append([part.read_bytes() for part in layout.published_parts(NIGHT)])
    assert tables[0] == tables[1]


def test_a_rule_that_removes_nothing_changes_no_row(shop: Layout, after_night: Path) -> None:
    shop.rules.write_text('[[deny]]\nname = "nothing"\nwhere = "items.stock < 0"\n')
    assert again(shop) == 0
    ruled = [pq.read_table(part) for part in shop.published_parts(NIGHT)]
    shop.rules.unlink()
    assert again(shop) == 0
    plain = [pq.read_table(part) for part in shop.published_parts(NIGHT)]
    assert all(one.equals(other) for one, other in zip(ruled, plain, strict=True))


def test_users_whom_rules_leave_fewer_are_counted(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    shop.rules.write_text('[[allow]]\nname = "only three"\nitems = ["item-001", "item-002", "item-003"]\n')
    assert again(shop) == 0
    found = table(shop)
    assert set(found.item_id) <= {"item-001", "item-002", "item-003"}
    metrics = [ShardMetrics.read(path) for path in shop.run(NIGHT, "one").score_metrics]
    assert sum(part.effects.short_users for part in metrics if part.effects) == USERS
    everybody = sum(part.effects.users_without_rows for part in metrics if part.effects)
    assert everybody == USERS - found.user_id.nunique()


def test_rules_that_leave_nothing_give_an_empty_table(shop: Layout) -> None:
    shop.rules.write_text('[[deny]]\nname = "all"\nwhere = "true"\n')
    assert again(shop) == 0
    assert not len(table(shop))


def test_a_table_that_breaks_a_rule_is_not_published(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    """The rules of the run are exchanged after score, as if score had ignored them."""
    before = Manifest.read(shop.latest)
    denied = str(table(shop).item_id.iloc[0])
    shop.rules.write_text(RULES + f'[[deny]]\nname = "late"\nitems = ["{denied}"]\n')
    assert snapshot.main(arguments(shop)) == 0
    assert publish.main(arguments(shop)) == 2
    assert "was written before the rules of this run" in caplog.text
    run = shop.run(NIGHT, "one")
    for number in range(2):
        place = run.step_metrics("score", number)
        ShardMetrics.read(place).model_copy(update={"rules": Snapshot.open(run).manifest.rules_digest}).write(place)
    assert publish.main(arguments(shop)) == 3
    assert "rows_denied_by: late" in caplog.text
    assert Manifest.read(shop.latest) == before


def test_a_refresh_reads_the_rules_and_the_catalogue_again(shop: Layout) -> None:
    events = make_interactions(users=USERS, items=ITEMS, days=29)
    late = events[
        (events.event_time >= datetime(2024, 1, 29)) & events.user_id.isin([f"user-{n:03d}" for n in range(10)])
    ]
    write_landing(shop.root, late, "later.parquet")
    touched = set(late.user_id)
    assert touched
    before = table(shop)
    products().assign(stock=[0 if number % 2 else 1 for number in range(ITEMS)]).to_csv(
        shop.landing / "products.csv", index=False
    )
    assert ingest.main(arguments(shop, LATER)) == 0
    assert refresh.main(arguments(shop, LATER)) == 0
    found = table(shop)
    odd = found.item_id.str[-3:].astype(int) % 2 == 1
    assert not odd[found.user_id.isin(touched)].any()
    others = ~found.user_id.isin(touched)
    pd.testing.assert_frame_equal(
        found[others].reset_index(drop=True), before[~before.user_id.isin(touched)].reset_index(drop=True)
    )


@pytest.mark.parametrize(
    ("text", "message", "cured"),
    [
        (
            'where = "items.stok = 0"',
            "[[deny]] 'x': where = 'items.stok = 0': items has no column 'stok'. The closest are items.stock",
            'where = "items.stock = 0"',
        ),
        (
            'items_file = "landing/none.csv"',
            "[[deny]] 'x': items_file = 'landing/none.csv': ",
            'items = ["item-001"]',
        ),
        ('when = "true"', "[[deny]] 'x': unknown key 'when'. The keys are name, users", 'where = "true"'),
    ],
)
def test_a_wrong_rule_stops_the_snapshot_and_is_named(
    shop: Layout, text: str, message: str, cured: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop.rules.write_text(f'[[deny]]\nname = "x"\n{text}\n')
    assert snapshot.main(arguments(shop)) == 2
    assert message in caplog.text
    shop.rules.write_text(f'[[deny]]\nname = "x"\n{cured}\n')
    assert again(shop) == 0


def test_the_gate_measures_with_and_without_the_rules(after_night: Path) -> None:
    verdict = Verdict.read(Layout.at(after_night).run(NIGHT, "one").verdict)
    assert set(verdict.ruled) == set(verdict.metrics)
    for name, ruled in verdict.ruled.items():
        assert set(ruled) == set(verdict.metrics[name])
        assert ruled != verdict.metrics[name]


def test_the_report_shows_what_each_rule_removed(shop: Layout) -> None:
    assert report.main(arguments(shop)) == 0
    page = shop.report(NIGHT).read_text()
    metrics = [ShardMetrics.read(path) for path in shop.run(NIGHT, "one").score_metrics]
    removed = sum(part.effects.removed["in stock"] for part in metrics if part.effects)
    assert "<h2>Rules</h2>" in page
    assert f'in stock<small>not recommended</small></th><td class="n">{removed:,}</td>' in page
    assert 'campaign<small>fixed rank</small></th><td class="n">-</td>' in page
    assert "The verdict does not depend on the rules." in page


def test_doctor_tries_the_rules_on_the_files(shop: Layout) -> None:
    def found() -> Check:
        return next(check for check in diagnose(shop.root) if check.name == "rules")

    assert (found().state, found().found) == ("ok", "4 rules fit the columns of the catalogue and the users file")
    shop.rules.write_text('[[cap]]\nname = "x"\nby = "items.brand"\nmost = 1\n')
    assert found().state == "missing"
    assert "[[cap]] 'x': by = 'items.brand': items has no column 'brand'" in found().found
    shop.rules.write_text("")
    assert found().state == "note"


def test_a_forgotten_user_is_erased_from_rules_and_descriptions(shop: Layout) -> None:
    user, other = "user-003", "user-004"
    shop.rules.write_text(
        f'[[deny]]\nname = "some"\nitems = ["item-001"]\nusers = ["{user}", "{other}"]\n'
        f'[[boost]]\nname = "one"\nwhere = "items.stock > 0"\nusers_where = "users.user_id = \'{user}\'"\nfactor = 2\n'
    )
    assert again(shop) == 0
    run = shop.run(NIGHT, "one")

    def traces() -> set[str]:
        held = set()
        for path in run.folder.rglob("*"):
            if path.suffix == ".parquet" and "user_id" in pq.read_schema(path).names:
                held |= {path.name} if user in pq.read_table(path)["user_id"].to_pylist() else set()
            elif path.suffix == ".json" and user in path.read_text():
                held.add(path.name)
        return held

    assert {"rules.json", "users-0000.parquet", "rule_users-0000.parquet"} <= traces() | {
        name.replace("0001", "0000") for name in traces()
    }
    assert call("forget", "--root", str(shop.root), user) == 0
    assert not traces()
    assert call("check", "--root", str(shop.root)) == 0
    assert publish.main(arguments(shop)) == 0
    assert user not in set(table(shop).user_id)
    assert score.main([*arguments(shop), "--shards", "0-1"]) == 0
    assert publish.main(arguments(shop)) == 0
