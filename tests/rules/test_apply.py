"""Lists under rules equal those of a slow, obvious implementation over the scores of all items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hmamba.evaluation.ranking import Quota
from hmamba.rules.apply import Effects, Found, Serving, apply
from hmamba.rules.night import NightRules
from hmamba.rules.tables import Lists
from hmamba.sequences.histories import IntArray
from tests.rules.shop import DAY, Shop, people, products
from tests.rules.slow import Slow

K = 8


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.open(tmp_path_factory.mktemp("rules") / "root")


class Lists_:  # noqa: N801
    """Retrieves from a whole table of scores, and remembers how deep it was asked."""

    def __init__(self, scores: np.ndarray, new: frozenset[int], rise: float, is_log: bool) -> None:
        self.scores, self.new, self.depths, self.rise, self.is_log = scores, new, [], rise, is_log

    def __call__(self, rows: IntArray, depth: int, *, narrowed: bool) -> tuple[Found, Found | None]:
        self.depths.append((depth, len(rows)))
        is_new = np.isin(np.arange(self.scores.shape[1]), list(self.new))
        known = self._best(np.where(is_new, -np.inf, self.scores[rows]), depth)
        return known, self._best(np.where(is_new, self.scores[rows], -np.inf), depth) if self.new else None

    def _best(self, scores: np.ndarray, depth: int) -> Found:
        order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        found = np.take_along_axis(scores, order, axis=1)
        lists = np.where(np.isfinite(found), order, -1), found.astype(np.float32)
        return Found.of(lists, depth, self.rise, is_log=self.is_log)


def made(
    night: NightRules, shop: Shop, scores: np.ndarray, *, is_log: bool = True, new: frozenset[int] = frozenset(),
    least: int = 0, k: int = K,
) -> tuple[Lists, Effects, Lists_]:  # fmt: skip
    retrieve = Lists_(scores, new, float(night.rise.max()), is_log)
    block = night.block(shop.histories())
    candidate = np.ones(night.size, dtype=bool)
    candidate[0] = False
    join = Quota(k, least).apply if new else None
    lists, effects = apply(block, Serving(k, retrieve, join, candidate, None, is_log))
    return lists, effects, retrieve


def random_scores(shop: Shop, seed: int, *, is_log: bool) -> np.ndarray:
    random = np.random.default_rng(seed)
    scores = random.normal(size=(len(shop.histories()), len(shop.ids))).astype(np.float32)
    scores = scores if is_log else np.exp(scores)
    scores[:, 0] = -np.inf
    return scores


Choice = tuple[str, Callable[[Any], None]]


def choices(shop: Shop) -> dict[str, Choice]:
    """A rule of each kind, as text and as functions."""
    ids = shop.ids
    item = products().set_index("item_id").reindex(ids)
    users = people().set_index("user_id").reindex(shop.histories().users.to_pylist())
    kind, stock, price, alcohol = (item[name].to_numpy(dtype=object) for name in ("kind", "stock", "price", "alcohol"))
    kinds: list[object] = [None if value is None or value != value else value for value in kind]
    age, segment = users["age"].to_numpy(), users["segment"].to_numpy(dtype=object)
    where = [set(value) if isinstance(value, (list, np.ndarray)) else set() for value in item["countries"]]
    country = users["country"].to_numpy(dtype=object)
    on, off = item["on_sale"], item["off_sale"]
    end = pd.Timestamp(DAY) + pd.Timedelta(days=1)
    history = shop.histories()
    recent = {
        (int(row), int(one))
        for row, one, time in zip(history.owner, history.items, history.times, strict=True)
        if time >= (end - pd.Timedelta(days=9)).value // 1000
    }
    place = {name: index for index, name in enumerate(ids)}
    first = shop.histories().users.to_pylist()

    def removes(pair: Callable[[int, int], bool]) -> Callable[[Slow], None]:
        return lambda slow: slow.removes.append(pair)

    def boosts(pair: Callable[[int, int], bool], factor: float) -> Callable[[Slow], None]:
        return lambda slow: slow.boosts.append((pair, factor))

    return {
        "stock": (
            '[[deny]]\nname = "stock"\nwhere = "items.stock = 0"',
            removes(lambda row, one: stock[one] == 0),
        ),
        "age": (
            '[[deny]]\nname = "age"\nwhere = "items.alcohol"\nusers_where = "users.age < 18"',
            removes(lambda row, one: bool(alcohol[one]) and age[row] < 18),
        ),
        "country": (
            '[[allow]]\nname = "country"\nwhere = "list_contains(items.countries, users.country)"\n'
            'users_where = "users.country IS NOT NULL"',
            removes(lambda row, one: isinstance(country[row], str) and country[row] not in where[one]),
        ),
        "mixed": (
            '[[deny]]\nname = "mixed"\nwhere = "items.price > users.age AND items.kind <> \'toys\'"',
            removes(lambda row, one: price[one] > age[row] and kinds[one] is not None and kinds[one] != "toys"),
        ),
        "lists": (
            '[[deny]]\nname = "lists"\nitems = ["item-001", "item-009", "nothing"]\nusers = ["user-003", "user-004"]',
            removes(lambda row, one: ids[one] in ("item-001", "item-009") and first[row] in ("user-003", "user-004")),
        ),
        "sale": (
            '[[available]]\nname = "sale"\nfrom = "items.on_sale"\nuntil = "items.off_sale"',
            removes(lambda row, one: not (on.iloc[one] <= end < off.iloc[one])),
        ),
        "taken": (
            '[[deny]]\nname = "taken"\ntaken_within_days = 9',
            removes(lambda row, one: (row, one) in recent),
        ),
        "boost": (
            '[[boost]]\nname = "boost"\nwhere = "items.kind = \'wine\'"\nfactor = 5\n'
            "users_where = \"users.segment = 'new'\"",
            boosts(lambda row, one: kinds[one] == "wine" and segment[row] == "new", 5),
        ),
        "demote": (
            '[[boost]]\nname = "demote"\nwhere = "items.price > 25"\nfactor = 0.2',
            boosts(lambda row, one: price[one] > 25, 0.2),
        ),
        "diversity": (
            '[diversity]\nlambda = 0.4\non = "items.kind"\ntop = 5\npool = 12',
            lambda slow: setattr(slow, "diversity", (0.4, 5, 12, lambda one: kinds[one])),
        ),
        "cap": (
            '[[cap]]\nname = "cap"\nby = "items.kind"\nmost = 2',
            lambda slow: slow.caps.append((lambda one: kinds[one], 2, K)),
        ),
        "top": (
            '[[cap]]\nname = "top"\nby = "items.alcohol"\nmost = 1\ntop = 4',
            lambda slow: slow.caps.append((lambda one: alcohol[one], 1, 4)),
        ),
        "pin": (
            '[[pin]]\nname = "pin"\nitems = ["item-012", "item-001", "nothing", "item-013"]\nrank = 3\n'
            "users_where = \"users.segment = 'loyal'\"",
            lambda slow: slow.pins.append(
                ([place["item-012"], place["item-001"], place["item-013"]], 3, lambda row: segment[row] == "loyal")
            ),
        ),
    }


def agree(shop: Shop, text: str, slow: Slow, seed: int, *, is_log: bool, new: frozenset[int], least: int) -> None:
    night = shop.rules(text)
    scores = random_scores(shop, seed, is_log=is_log)
    (items, found), effects, _ = made(night, shop, scores, is_log=is_log, new=new, least=least)
    expected = [
        slow.ranked(row, scores[row], K, is_log=is_log, new=new, least=least) for row in range(len(scores))
    ]  # fmt: skip
    assert [[one for one in row if one >= 0] for row in items.tolist()] == expected
    assert (np.diff(np.where(items >= 0, found, -1e9), axis=1) <= 0).all()
    assert effects.short_users == sum(len(row) < K for row in expected)
    for rule, pair in zip(night.book.filters, slow.removes, strict=True):
        plain = [Slow().ranked(row, scores[row], K, is_log=is_log, new=new, least=least) for row in range(len(scores))]
        assert effects.removed[rule.name] == sum(pair(row, one) for row, best in enumerate(plain) for one in best)


ORDER = ("stock", "age", "lists", "mixed", "taken", "country", "sale")


@pytest.mark.parametrize("name", [
    "stock", "age", "country", "mixed", "lists", "sale", "taken", "boost", "demote", "diversity", "cap", "top", "pin",
])  # fmt: skip
@pytest.mark.parametrize("is_log", [True, False])
def test_each_kind_alone(shop: Shop, name: str, is_log: bool) -> None:
    text, add = choices(shop)[name]
    slow = Slow()
    add(slow)
    agree(shop, text, slow, 3, is_log=is_log, new=frozenset(), least=0)


@pytest.mark.parametrize("seed", range(8))
def test_random_rules_together(shop: Shop, seed: int) -> None:
    random = np.random.default_rng(seed)
    every = choices(shop)
    names = [name for name in every if random.random() < 0.5]
    order = [name for name in ORDER if name in names] + [name for name in every if name in names and name not in ORDER]
    slow = Slow()
    for name in order:
        every[name][1](slow)
    new = frozenset(np.flatnonzero(np.arange(len(shop.ids)) % 6 == 1).tolist()) if seed % 2 else frozenset()
    text = "\n".join(every[name][0] for name in order)
    agree(shop, text, slow, seed, is_log=bool(seed % 3), new=new, least=3 if seed % 2 else 0)
