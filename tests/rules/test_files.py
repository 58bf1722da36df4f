"""Ids, pairs, availability and logs in files, and the check of a table against the rules."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.errors import InputError
from hmamba.rules.check import RuledPart, rule_figures
from hmamba.rules.night import NightRules
from hmamba.sequences.files import Snapshot
from hmamba.storage.layout import Layout
from tests.landing import DAY
from tests.rules.shop import ITEMS, Shop, end


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.open(tmp_path_factory.mktemp("files") / "root")


def removed(night: NightRules, shop: Shop) -> set[tuple[str, str]]:
    """All pairs of a user and an item that the rules remove."""
    block = night.block(shop.histories())
    users, items = len(shop.histories()), np.arange(1, len(shop.ids))
    rows, columns = np.repeat(np.arange(users), len(items)), np.tile(items, users)
    gone = ~block.keeps(rows, columns)
    names = shop.histories().users.to_pylist()
    return {(names[row], str(shop.ids[item])) for row, item in zip(rows[gone], columns[gone], strict=True)}


def everybody(shop: Shop) -> list[str]:
    return list(shop.histories().users.to_pylist())


def test_lists_of_items_users_and_pairs(shop: Shop) -> None:
    shop.write("items.csv", "item_id,why\nitem-001,recall\nitem-002,recall\nunknown,recall\n")
    shop.write("users.csv", "user_id\nuser-003\nuser-004\nuser-999\n")
    shop.write(
        "pairs.jsonl",
        '{"user_id": "user-001", "item_id": "item-005"}\n{"user_id": "user-002", "item_id": "item-006"}\n',
    )
    night = shop.rules(
        '[[deny]]\nname = "a"\nitems_file = "landing/items.csv"\nusers_file = "landing/users.csv"\n'
        '[[deny]]\nname = "b"\npairs_file = "landing/pairs.jsonl"\n'
    )
    expected = {(user, item) for user in ("user-003", "user-004") for item in ("item-001", "item-002")}
    assert removed(night, shop) == expected | {("user-001", "item-005"), ("user-002", "item-006")}


def test_pairs_that_are_allowed_bind_their_users_only(shop: Shop) -> None:
    shop.write("pairs.csv", "user_id,item_id\nuser-001,item-005\nuser-001,item-006\n")
    night = shop.rules('[[allow]]\nname = "a"\npairs_file = "landing/pairs.csv"\n')
    others = {item for item in shop.ids if item} - {"item-005", "item-006"}
    assert removed(night, shop) == {("user-001", item) for item in others}


@pytest.mark.parametrize("missing", ["available", "unavailable"])
def test_availability_in_a_file(shop: Shop, missing: str) -> None:
    day = DAY.isoformat()
    after = (DAY + timedelta(days=1)).isoformat()
    shop.write(
        "stock.csv",
        "item_id,from,until\n"
        f"item-001,,\nitem-002,2020-01-01,{day}\nitem-003,{after} 00:01,\nitem-004,2020-01-01,{after} 00:01\n"
        f"item-005,2020-01-01,2020-02-01\nitem-005,{day},\nitem-006,,{after}T02:00:00+02:00\n",
    )
    night = shop.rules(f'[[available]]\nname = "a"\nfile = "landing/stock.csv"\nmissing = "{missing}"\n')
    gone = {item for _, item in removed(night, shop)}
    named = {f"item-00{number}" for number in range(1, 7)}
    assert gone & named == {"item-002", "item-003", "item-006"}
    rest = {item for item in shop.ids if item} - named
    assert gone - named == (rest if missing == "unavailable" else set())


def test_logs_of_what_was_shown(shop: Shop) -> None:
    def at(days: float) -> str:
        return str(end() - timedelta(days=days))

    rows = [
        ("user-001", "item-001", 1), ("user-001", "item-001", 2),  # twice within the window, lately
        ("user-002", "item-001", 1), ("user-002", "item-001", 9),  # the first is too old
        ("user-003", "item-001", 6), ("user-003", "item-001", 7),  # the pause is over
        ("user-004", "item-001", 1),  # once
        ("user-005", "item-001", -1), ("user-005", "item-001", -2),  # later than the day
        ("nobody", "item-001", 1), ("nobody", "item-001", 2), ("user-001", "unknown", 1), ("user-001", "unknown", 1),
    ]  # fmt: skip
    (shop.root / "landing" / "log").mkdir(exist_ok=True)
    shop.write("log/1.csv", "who,what,time\n" + "".join(f"{user},{item},{at(days)}\n" for user, item, days in rows))
    shop.write("log/2.csv", "who,what,time\n,item-001,2024-01-01\n")
    night = shop.rules(
        '[[not_again]]\nname = "a"\nfile = "landing/log/*.csv"\nuser_id = "who"\nitem_id = "what"\n'
        "times = 2\nwindow_days = 5\ncool_down_days = 5\n"
    )
    assert removed(night, shop) == {("user-001", "item-001")}


@pytest.mark.parametrize(
    ("rule", "text", "message"),
    [
        (
            '[[deny]]\nname = "a"\nitems_file = "landing/f.csv"',
            "item\nx\n",
            "[[deny]] 'a': items_file = 'landing/f.csv': landing/f.csv has no column 'item_id'",
        ),
        (
            '[[deny]]\nname = "a"\nitems_file = "landing/f.csv"',
            "item_id,x\ny,1\n,2\n",
            "landing/f.csv, line 3: no readable id in the column 'item_id'. Correct the row",
        ),
        (
            '[[deny]]\nname = "a"\npairs_file = "landing/f.csv"',
            "item_id,user_id\ny,\n",
            "line 2: no readable id in the column 'user_id'",
        ),
        (
            '[[available]]\nname = "a"\nfile = "landing/f.csv"',
            "item_id,from,until\ny,soon,\n",
            "line 2: the column 'from' is no time. Write it as",
        ),
        ('[[not_again]]\nname = "a"\nfile = "landing/f.csv"', "user_id,item_id\na,b\n", "has no column 'time'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_rule(shop: Shop, rule: str, text: str, message: str) -> None:
    shop.write("f.csv", text)
    with pytest.raises(InputError) as caught:
        shop.rules(rule)
    assert message in str(caught.value)
    assert str(caught.value).startswith("rules.toml: [[")


def test_the_manifest_names_the_rules_and_a_damaged_one_is_found(shop: Shop) -> None:
    shop.rules('[[deny]]\nname = "a"\nwhere = "items.stock = 0"\n')
    files = Snapshot.open(Layout.at(shop.root).run(DAY, "manual"))
    before = files.manifest.rules_digest
    assert before is not None
    assert files.manifest.content_digest == shop.snapshot.content_digest == files.digest
    shop.rules('[[deny]]\nname = "a"\nwhere = "items.stock < 0"\n')
    files = Snapshot.open(Layout.at(shop.root).run(DAY, "manual"))
    assert files.manifest.rules_digest != before
    path = files.run.sequences / "rules.json"
    path.write_text(path.read_text().replace("< 0", "> 0"))
    with pytest.raises(InputError, match=r"rules\.json is damaged"):
        NightRules.open(files)


RULES = {
    "where": 'where = "items.stock = 0"',
    "users": 'items = ["item-001"]\nusers = ["user-003"]',
    "users_where": 'where = "items.alcohol"\nusers_where = "users.age < 18"',
    "mixed": 'where = "items.price > users.age"',
    "taken": "taken_within_days = 9",
    "pairs": 'pairs_file = "landing/pairs.csv"',
}


def every_pair(shop: Shop, shard: int, folder: Path, most: int = ITEMS) -> RuledPart:
    """A table in which the users of a shard get all items, as no rule would have it."""
    files = Snapshot.open(Layout.at(shop.root).run(DAY, "manual"))
    users = sorted(set(pd.read_parquet(files.shard(shard)).user_id))
    items = [item for item in shop.ids if item][:most]
    rows = [(user, rank, item) for user in users for rank, item in enumerate(items, 1)]
    table = pa.Table.from_pylist([{"user_id": user, "rank": rank, "item_id": item} for user, rank, item in rows])
    path = folder / f"part-{shard}.parquet"
    pq.write_table(table, path)
    return RuledPart(shard, path, (files.shard(shard),))


@pytest.mark.parametrize("kind", ["deny", "allow"])
@pytest.mark.parametrize("rule", RULES)
def test_the_check_counts_in_sql_what_the_rules_remove(shop: Shop, kind: str, rule: str, tmp_path: Path) -> None:
    shop.write("pairs.csv", "user_id,item_id\nuser-001,item-005\nuser-002,item-006\n")
    night = shop.rules(f'[[{kind}]]\nname = "a"\n{RULES[rule]}\n')
    expected = len(removed(night, shop))
    figures = rule_figures(night, [every_pair(shop, shard, tmp_path) for shard in range(2)])
    assert [(figure.name, figure.value) for figure in figures] == [("rows_denied_by: a", expected)]
    assert expected


@pytest.mark.parametrize("missing", ["available", "unavailable"])
def test_the_check_counts_unavailable_items(shop: Shop, missing: str, tmp_path: Path) -> None:
    night = shop.rules(
        f'[[available]]\nname = "a"\nfrom = "items.on_sale"\nuntil = "items.off_sale"\nmissing = "{missing}"\n'
        '[[available]]\nname = "b"\nmissing = "unavailable"\n'
        'from = "CASE WHEN items.stock > 0 THEN items.on_sale END"\n'
    )
    parts = [every_pair(shop, shard, tmp_path) for shard in range(2)]
    found = {figure.name: figure.value for figure in rule_figures(night, parts)}
    users = len(everybody(shop))
    for name in ("a", "b"):
        mask = night.choices[name].removed
        assert mask is not None
        assert found[f"rows_denied_by: {name}"] == users * int(mask[1:].sum()) > 0


def test_the_check_counts_rows_above_a_cap(shop: Shop, tmp_path: Path) -> None:
    night = shop.rules(
        '[[cap]]\nname = "all"\nby = "items.kind"\nmost = 3\n'
        '[[cap]]\nname = "top"\nby = "items.kind"\nmost = 1\ntop = 4\n'
    )
    part = every_pair(shop, 0, tmp_path)
    table = pd.read_parquet(part.part)
    described = night.items.expressions.items.to_pandas()[["item_id", "kind"]]
    kinds = table.merge(described, on="item_id").dropna(subset=["kind"])
    above = (kinds.groupby(["user_id", "kind"]).size() - 3).clip(lower=0).sum()
    first = (kinds[kinds["rank"] <= 4].groupby(["user_id", "kind"]).size() - 1).clip(lower=0).sum()
    found = {figure.name: figure.value for figure in rule_figures(night, [part])}
    assert found == {"rows_denied_by: all": above, "rows_denied_by: top": first}
