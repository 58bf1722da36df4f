"""The exact ranking against one matrix of scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmamba.evaluation import ranking
from hmamba.evaluation.ranking import Quota, rank_all, score_blocks
from hmamba.inference.encode import encode_users
from tests.histories import histories_of, random_histories
from tests.stored import ITEMS, stored_model


@pytest.mark.parametrize("block", [1, 7, 256])
def test_blocks_of_users_hold_the_scores_of_the_model(monkeypatch, block):
    monkeypatch.setattr(ranking, "_RANK_ROWS", block)
    stored = stored_model(eligible=range(1, ITEMS, 2))
    histories = random_histories(items=ITEMS)
    blocks = list(score_blocks(stored.model, histories, stored.candidate_items))
    assert max(len(one.users) for one in blocks) <= block
    assert np.concatenate([one.users for one in blocks]).tolist() == list(range(len(histories)))
    with torch.inference_mode():
        queries = stored.model.query_vectors(encode_users(stored.model, histories))
        items = stored.model.item_vectors(torch.from_numpy(stored.candidate_items.eligible))
        expected = stored.model.score().logits(queries @ items.T)
    torch.testing.assert_close(torch.cat([one.logits for one in blocks]), expected)
    for one in blocks:
        rows, columns = (part.tolist() for part in one.seen)
        for row in range(len(one.users)):
            mine = set(one.past.items[one.past.offsets[row] : one.past.offsets[row + 1]].tolist())
            seen = {int(stored.candidate_items.eligible[c]) for r, c in zip(rows, columns, strict=True) if r == row}
            assert seen == mine & set(stored.candidate_items.eligible.tolist())


def test_terms_raise_scores_of_some_items_only():
    plain, raised = stored_model(), stored_model(score_terms=("cooccurrence",))
    histories = random_histories(items=ITEMS)
    (base,) = score_blocks(plain.model, histories, plain.candidate_items)
    (found,) = score_blocks(raised.model, histories, raised.candidate_items)
    assert (found.logits >= base.logits - 1e-5).all()
    share = (found.logits > base.logits + 1e-4).float().mean()
    assert 0 < share < 1


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_the_best_come_first_and_places_without_an_item_are_marked(exclude_seen):
    stored = stored_model(eligible=[3, 5, 8])
    ranked, scores = rank_all(
        stored.model, histories_of([(0, 5), (1, 7)], [(0, 3), (1, 5), (2, 8)]), stored.candidate_items, k=4,
        exclude_seen=exclude_seen,
    )  # fmt: skip
    left = [{3, 8}, set()] if exclude_seen else [{3, 5, 8}, {3, 5, 8}]
    for items, values, expected in zip(ranked.tolist(), scores, left, strict=True):
        assert set(items[: len(expected)]) == expected
        assert items[len(expected) :] == [-1] * (4 - len(expected))
        assert (np.diff(values[: len(expected)]) <= 0).all()
        assert np.isneginf(values[len(expected) :]).all()


def by_hand(known, new, quota, depth):
    """One user's list: a plain reading of :class:`Quota`."""
    known, new = ([(score, item) for item, score in zip(*part, strict=True) if item >= 0] for part in (known, new))
    chosen = new[: quota.least]
    rest = sorted(known + new[quota.least :], key=lambda pair: -pair[0])
    chosen = sorted(chosen + rest[: max(0, quota.k - len(chosen))], key=lambda pair: -pair[0])
    others = sorted(set(known + new) - set(chosen), key=lambda pair: -pair[0])
    return [item for _, item in (chosen + others)[:depth]]


@pytest.mark.parametrize(("k", "least", "depth"), [(5, 0, 5), (5, 2, 5), (5, 2, 8), (5, 4, 20), (1, 0, 3), (8, 3, 8)])
def test_a_quota_replaces_the_last_known_items_by_the_best_new_ones(k, least, depth):
    random = np.random.default_rng(0)

    def table(first, width):
        items = np.argsort(random.random((50, 9)), axis=1)[:, :width] + first
        scores = -np.sort(-random.normal(size=(50, width)).astype(np.float32), axis=1)
        gone = np.arange(width) >= random.integers(0, width + 1, 50)[:, None]  # excluded items
        return np.where(gone, -1, items), np.where(gone, -np.inf, scores).astype(np.float32)

    known, new = table(1, 8), table(100, 6)
    items, scores = Quota(k, least).apply(known, new, depth)
    assert items.shape == scores.shape == (50, depth)
    for user in range(50):
        wanted = by_hand([part[user] for part in known], [part[user] for part in new], Quota(k, least), depth)
        assert items[user].tolist() == wanted + [-1] * (depth - len(wanted))
        assert (np.isfinite(scores[user]) == (items[user] >= 0)).all()


def test_a_share_is_rounded_down_and_not_by_floating_point():
    assert [Quota.of(100, share).least for share in (0.0, 0.009, 0.01, 0.29, 0.57, 0.999)] == [0, 0, 1, 29, 57, 99]
    assert Quota.of(10, 0.05) == Quota(10, 0)


def test_a_score_that_is_not_a_number_is_not_hidden():
    known = np.array([[1, 2]]), np.array([[np.nan, 0.0]], dtype=np.float32)
    new = np.array([[3, 4]]), np.array([[2.0, 1.0]], dtype=np.float32)
    assert np.isnan(Quota(2, 1).apply(known, new, 2)[1]).any()
