"""Lists under rules from a real model and its indexes equal those of a slow implementation over all scores."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from hmamba.candidates import ruled as candidates_ruled
from hmamba.candidates.baseline import Baseline
from hmamba.candidates.ruled import Ruled
from hmamba.candidates.score import ModelScorer
from hmamba.evaluation.baselines import most_bought, popular
from hmamba.evaluation.ranking import Quota, rank_all
from hmamba.index import index as item_index
from hmamba.models.files import StoredModel
from hmamba.ranker import Ranker
from hmamba.rules import apply as rules_apply
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, midnight, read_histories
from hmamba.storage.layout import Layout
from tests.landing import DAY
from tests.rules.shop import ITEMS, Shop
from tests.rules.slow import Slow
from tests.rules.test_apply import choices
from tests.stored import stored_model
from tests.test_ranker import Trees

K = 8
PINS = ("pin", "cap", "stock")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop.open(tmp_path_factory.mktemp("ruled") / "root")


def dense(stored: StoredModel, shop: Shop, items: CandidateItems, *, exclude_seen: bool) -> np.ndarray:
    """The scores (U, size) of the model, -inf where an item may not be recommended."""
    history = shop.histories()
    ranked, scores = rank_all(stored.model, history, items, k=len(items), exclude_seen=exclude_seen)
    table = np.full((len(history), len(items.column)), -np.inf, dtype=np.float32)
    row, place = np.nonzero(np.isfinite(scores))
    table[row, ranked[row, place]] = scores[row, place]
    return table


def rules_of(shop: Shop, names: tuple[str, ...]) -> tuple[str, Slow]:
    every, slow = choices(shop), Slow()
    for name in names:
        every[name][1](slow)
    return "\n".join(every[name][0] for name in names), slow


@pytest.mark.parametrize("kind", ["flat", "matmul", "float64"])
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("names", [
    ("stock", "country", "boost", "demote", "diversity", "cap", "top"), ("lists", "mixed", "sale", "boost"), PINS,
])  # fmt: skip
def test_a_model_under_rules(
    shop: Shop, kind: str, exclude_seen: bool, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind != "matmul":  # so short that lists have to be longer for most users
        monkeypatch.setattr(candidates_ruled, "_LEAST", 1)
        monkeypatch.setattr(candidates_ruled, "_WIDER", 0.1)
        monkeypatch.setattr(rules_apply, "_MOST", 1)
    terms = () if exclude_seen else ("repeats", "cooccurrence")
    stored = stored_model(range(1, ITEMS - 9), items=ITEMS, score_terms=terms)
    new_items = CandidateItems.only(np.arange(ITEMS - 9, ITEMS + 1), ITEMS + 1)
    built = item_index.build(stored, stored.candidate_items, kind)
    index = item_index.with_new(stored, built, new_items, 0.3)
    text, slow = rules_of(shop, names)
    rules = shop.rules(text)
    history = shop.histories()
    popularity = np.ones(ITEMS + 1, dtype=np.int64)
    ruled = Ruled(rules, K, 0, index)
    # Users of both shards: the rules of each are read from its files.
    numbers = [set(part.users.to_pylist()) for part in parts(shop)]
    scores = np.maximum(
        dense(stored, shop, stored.candidate_items, exclude_seen=exclude_seen),
        dense(stored, shop, new_items, exclude_seen=exclude_seen),
    )
    new, least = frozenset(range(ITEMS - 9, ITEMS + 1)), Quota.of(K, 0.3).least
    for shard, users in enumerate(numbers):
        rows = np.array([row for row, user in enumerate(history.users.to_pylist()) if user in users])
        scorer = ModelScorer(
            stored, index, popularity, K, exclude_seen, ruled=Ruled(ruled.rules, K, shard, index, torch.device("cpu"))
        )
        block = scorer(history.select(rows))
        table = block.ranked.table(len(rows))[0]
        expected = [slow.ranked(row, scores[row], K, is_log=True, new=new, least=least) for row in rows.tolist()]
        assert [[one for one in row if one >= 0] for row in table.tolist()] == expected
        assert block.effects is not None
        assert block.effects.short_users == sum(len(row) < K for row in expected)


def parts(shop: Shop) -> list[Histories]:
    """The histories of each shard."""
    files = Snapshot.open(Layout.at(shop.root).run(DAY, "manual"))
    asked = midnight(DAY) + MICROSECONDS_A_DAY
    return [read_histories([path]).asked_at(asked) for path in files.shards]


@pytest.mark.parametrize("personal", [True, False])
def test_a_baseline_under_rules(shop: Shop, personal: bool) -> None:
    names = ("stock", "age", "boost", "cap")
    text, slow = rules_of(shop, names)
    rules, history = shop.rules(text), parts(shop)[0]
    every = shop.histories().users.to_pylist()
    place = [every.index(user) for user in history.users.to_pylist()]
    popularity = np.r_[0, 1 + np.arange(ITEMS)[::-1] * 7 % 31]
    items = CandidateItems.of(popularity, 1)
    version = "baseline-most_bought" if personal else "baseline-popularity"
    baseline = Baseline(version, items, rules.items.expressions.items["item_id"], popularity)
    block = baseline.block(history, K, exclude_seen=not personal, ruled=Ruled(rules, K, 0))
    way = most_bought if personal else partial(popular, exclude_seen=True)
    full = baseline.rank(history, ITEMS, exclude_seen=not personal).table(len(history))
    assert np.array_equal(full[0], way(history, popularity, ITEMS)[:, : full[0].shape[1]])
    scores = np.full((len(history), ITEMS + 1), -np.inf, dtype=np.float32)
    row, column = np.nonzero(full[0] >= 0)
    scores[row, full[0][row, column]] = full[1][row, column]
    table = block.ranked.table(len(history))[0]
    for number, own in enumerate(table.tolist()):
        expected = slow.ranked(place[number], scores[number], K, is_log=False)
        found = [one for one in own if one >= 0]
        # Equal scores are ordered by popularity there and by index in the slow implementation.
        assert sorted(found) == sorted(expected) or scores[number][found].tolist() == scores[number][expected].tolist()
        assert scores[number][found[: K // 2]].tolist() == scores[number][expected[: K // 2]].tolist()


def test_pinned_items_that_were_seen_are_left_out(shop: Shop) -> None:
    stored = stored_model(items=ITEMS)
    index = item_index.build(stored, stored.candidate_items)
    rules = shop.rules('[[pin]]\nname = "x"\nitems = ["item-001", "item-002", "item-003"]\n')
    history = parts(shop)[0]
    scorer = ModelScorer(stored, index, np.ones(ITEMS + 1, np.int64), K, True, ruled=Ruled(rules, K, 0, index))
    table = scorer(history).ranked.table(len(history))[0]
    pinned = [shop.ids.index(f"item-00{number}") for number in (1, 2, 3)]
    for row in range(len(history)):
        seen = set(history.items[history.offsets[row] : history.offsets[row + 1]].tolist())
        left = [item for item in pinned if item not in seen]
        assert table[row, : len(left)].tolist() == left
        assert not seen & set(table[row].tolist())


def test_diversity_by_vectors_spreads_the_first_items(shop: Shop) -> None:
    stored = stored_model(items=ITEMS)
    index = item_index.build(stored, stored.candidate_items)
    history = parts(shop)[0]

    def likeness(text: str) -> float:
        ruled = Ruled(shop.rules(text), K, 0, index)
        scorer = ModelScorer(stored, index, np.ones(ITEMS + 1, np.int64), K, False, ruled=ruled)
        table = scorer(history).ranked.table(len(history))[0][:, :4]
        vectors = index.vectors[:, 1:-1] / np.linalg.norm(index.vectors[:, 1:-1], axis=1, keepdims=True)
        own = vectors[table - 1]
        return float(np.maximum(np.einsum("uid,ujd->uij", own, own), 0).mean())

    plain = likeness('[[deny]]\nname = "nothing"\nwhere = "false"\n')
    assert likeness("[diversity]\nlambda = 0.5\ntop = 4\npool = 16\n") < plain - 0.05
    assert likeness("[diversity]\nlambda = 1\ntop = 4\npool = 16\n") == plain


@pytest.mark.parametrize("names", [("stock", "cap"), ("stock", "country", "boost", "demote")])
def test_rules_follow_the_ranker(shop: Shop, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranker orders the best of all items, also of those that rules remove."""
    monkeypatch.setattr(rules_apply, "_MOST", 1)
    stored = stored_model(items=ITEMS)
    stored.model.ranker = Ranker(Trees(2), 12)  # adds the place: turns the first items round
    index = item_index.build(stored, stored.candidate_items)
    text, slow = rules_of(shop, names)
    rules, history = shop.rules(text), parts(shop)[0]
    every = shop.histories().users.to_pylist()
    rows = [every.index(user) for user in history.users.to_pylist()]
    scores = dense(stored, shop, stored.candidate_items, exclude_seen=True)
    scorer = ModelScorer(stored, index, np.ones(ITEMS + 1, np.int64), K, True, ruled=Ruled(rules, K, 0, index))
    table = scorer(history).ranked.table(len(history))[0]
    assert [[one for one in row if one >= 0] for row in table.tolist()] == [
        slow.ranked(row, scores[row], K, is_log=True) for row in rows
    ]
