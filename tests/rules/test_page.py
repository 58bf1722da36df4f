"""The rules of docs/rules.md do what the page says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hmamba.rules import document
from hmamba.rules.document import RuleBook
from tests.rules.shop import Shop, end, people, products
from tests.rules.test_apply import K, made, random_scores

PAGE = Path(__file__).parents[2] / "docs" / "rules.md"
_BLOCK = re.compile(r"^### ([^\n]+)\n.*?```toml\n(.*?)```", re.MULTILINE | re.DOTALL)
SECTIONS: dict[str, str] = dict(_BLOCK.findall(PAGE.read_text(encoding="utf-8")))
"""The rules of the page by their headings."""

SHARP = ("In stock", "Age limits", "No alcohol for a segment", "Bought this month", "Countries")
"""Rules whose checks fail without them."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    found = Shop.open(tmp_path_factory.mktemp("page") / "root")
    (found.root / "landing" / "shown").mkdir()
    rows = [("user-001", "item-004", hours) for hours in (5, 30, 60)] + [("user-001", "item-008", 5)]
    rows += [("user-002", "item-004", hours) for hours in (5, 30, 24 * 9)]
    rows += [("user-003", "item-004", 24 * 15 + hours) for hours in (5, 30, 60)]
    text = "user_id,item_id,shown_at\n" + "".join(
        f"{user},{item},{end() - timedelta(hours=hours)}\n" for user, item, hours in rows
    )
    found.write("shown/log.csv", text)
    return found


def lists(shop: Shop, text: str | None) -> pd.DataFrame:
    """The rows of all users, with the columns of items and users."""
    night = shop.rules(text or '[[deny]]\nname = "nothing"\nwhere = "false"\n')
    (items, _), _, _ = made(night, shop, random_scores(shop, 5, is_log=True))
    rows, places = np.nonzero(items >= 0)
    names = np.array(shop.ids, dtype=object)[items[rows, places]]
    users = np.array(shop.histories().users.to_pylist(), dtype=object)[rows]
    found = pd.DataFrame({"user_id": users, "rank": places + 1, "item_id": names})
    return found.merge(products(), on="item_id", how="left").merge(people(), on="user_id", how="left")


def in_stock(found: pd.DataFrame, shop: Shop) -> bool:
    return bool((found.stock != 0).all())


def of_age(found: pd.DataFrame, shop: Shop) -> bool:
    return bool((found.min_age <= found.age.fillna(0)).all())


def no_alcohol(found: pd.DataFrame, shop: Shop) -> bool:
    return not (found.alcohol & (found.segment == "family")).any()


def capped(found: pd.DataFrame, shop: Shop) -> bool:
    first = found[found["rank"] <= 5].groupby(["user_id", "category"]).size()
    return bool(found.groupby(["user_id", "category"]).size().max() <= 3 and first.max() == 1)


def newer(found: pd.DataFrame, shop: Shop) -> bool:
    """The lists have newer items than without the rule, by the first events."""
    history = shop.histories()
    first = pd.Series(history.times).groupby(history.items).min()
    by_id = {shop.ids[item]: time for item, time in first.items()}
    ages = [frame.item_id.map(by_id).mean() for frame in (found, lists(shop, None))]
    return bool(ages[0] > ages[1])


def not_bought(found: pd.DataFrame, shop: Shop) -> bool:
    history = shop.histories()
    users = np.array(history.users.to_pylist(), dtype=object)
    taken = set(zip(users[history.owner], np.array(shop.ids, dtype=object)[history.items], strict=True))
    pairs = zip(found.user_id, found.item_id, found.category, strict=True)
    return all(
        (user, item) not in taken for user, item, category in pairs if isinstance(category, str) and category != "bread"
    )


def of_country(found: pd.DataFrame, shop: Shop) -> bool:
    known = found[found.country.notna()]
    return all(country in where for country, where in zip(known.country, known.countries, strict=True))


def pinned(found: pd.DataFrame, shop: Shop) -> bool:
    some = found[found.segment == "new"]
    second, third = (set(some[some["rank"] == rank].item_id) for rank in (2, 3))
    return (second, third) == ({"item-012"}, {"item-031"})


def not_shown(found: pd.DataFrame, shop: Shop) -> bool:
    night = shop.rules(SECTIONS["Not shown again"])
    block = night.block(shop.histories())
    users = shop.histories().users.to_pylist()
    item = shop.ids.index("item-004")
    keeps = block.keeps(np.arange(len(users)), np.full(len(users), item))
    return [user for user, keep in zip(users, keeps, strict=True) if not keep] == ["user-001"]


def diverse(found: pd.DataFrame, shop: Shop) -> bool:
    def repeats(frame: pd.DataFrame) -> float:
        counts = [Counter(own.dropna()) for _, own in frame.groupby("user_id").category]
        return float(np.mean([max(count.values()) for count in counts]))

    return repeats(found) < repeats(lists(shop, None))


CHECKS: dict[str, Callable[[pd.DataFrame, Shop], bool]] = {
    "In stock": in_stock,
    "Age limits": of_age,
    "No alcohol for a segment": no_alcohol,
    "At most three of a category": capped,
    "New arrivals": newer,
    "Bought this month": not_bought,
    "Countries": of_country,
    "A campaign": pinned,
    "Not shown again": not_shown,
    "Diversity": diverse,
}


def test_the_page_has_these_ten_rules() -> None:
    assert list(SECTIONS) == list(CHECKS)


@pytest.mark.parametrize("title", CHECKS)
def test_a_rule_of_the_page_does_what_it_says(shop: Shop, title: str) -> None:
    found = lists(shop, SECTIONS[title])
    assert CHECKS[title](found, shop)
    assert found.groupby("user_id").size().max() == K


@pytest.mark.parametrize(
    "title", ["In stock", "Age limits", "No alcohol for a segment", "Bought this month", "Countries"]
)
def test_without_the_rule_the_check_fails(shop: Shop, title: str) -> None:
    assert not CHECKS[title](lists(shop, None), shop)


def test_all_rules_of_the_page_go_together(shop: Shop) -> None:
    text = "\n".join(SECTIONS.values())
    found = lists(shop, text)
    for title in SHARP:
        assert CHECKS[title](found, shop)


def test_the_reference_names_every_kind_and_key() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `\[+(\w+)\]+` \|(.*)\|$", page, re.M))
    assert list(table) == list(RuleBook.model_fields)
    models: dict[str, Any] = {kind.kind: kind for kind in document.KINDS}
    shared = {"name", "users", "users_file", "users_where", "items", "items_file", "where"}
    for kind, row in table.items():
        keys = {field.alias or name for name, field in models[kind].model_fields.items()} - shared
        assert keys <= set(re.findall(r"`(\w+)`", row)), kind
