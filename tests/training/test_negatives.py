"""The sampled softmax: unbiased, repeatable, and nearly as good for training as the full softmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmamba.training.fit import Fit
from hmamba.training.negatives import Negatives
from hmamba.training.optimizer import RowAdamW, clip_gradients
from hmamba.training.ranks import Ranks
from tests.histories import planted_histories, random_histories
from tests.training.trainings import prepared, settings

EVENTS = np.array([0, 1, 3, 1000, 7, 7, 2, 40, 5, 60])
SURE = np.array([2, 3])


def test_the_estimate_of_the_normaliser_is_unbiased():
    exponentials = np.exp(np.random.default_rng(0).normal(size=10))
    negatives = Negatives(EVENTS, draws=4)
    estimates = []
    for seed in range(20_000):
        columns, shift = negatives.draw(SURE, seed)
        assert set(SURE) <= set(columns)
        assert (shift[np.isin(columns, SURE)] == 0).all()
        estimates.append((exponentials[columns] * np.exp(shift)).sum())
    error = np.std(estimates) / np.sqrt(len(estimates))
    assert error > 0
    assert np.mean(estimates) == pytest.approx(exponentials.sum(), abs=4 * error)


def test_draws_depend_on_their_seed_alone_and_columns_are_ascending_and_single():
    negatives = Negatives(EVENTS, draws=6)
    columns, shift = negatives.draw(SURE, 5)
    again, shift_again = negatives.draw(SURE, 5)
    assert np.array_equal(columns, again)
    assert np.array_equal(shift, shift_again)
    assert (np.diff(columns) > 0).all()
    assert any(not np.array_equal(columns, negatives.draw(SURE, seed)[0]) for seed in range(6, 12))


def test_a_batch_with_all_items_draws_no_negatives():
    columns, shift = Negatives(EVENTS, draws=6).draw(np.arange(10), 0)
    assert columns.tolist() == list(range(10))
    assert not shift.any()


def test_a_batch_is_narrowed_to_the_drawn_columns(tmp_path):
    ready = prepared(random_histories(items=60), tmp_path, settings(model={"score_terms": ("repeats",)}))
    batches, candidate_items = ready.plan.batches, ready.plan.candidate_items
    batch = batches.load(batches.epoch(0)[0][:2])
    counts = np.ones(len(candidate_items), dtype=np.int64)
    narrow, columns, shift = Negatives(counts, 3).narrow(batch, Ranks(torch.device("cpu")), 1)
    assert np.array_equal(columns[narrow.targets[1]], batch.targets[1])
    assert np.array_equal(columns[narrow.entries.columns], batch.entries.columns)
    assert not shift[narrow.entries.columns].any()
    assert len(columns) < len(candidate_items)


def test_sampling_learns_nearly_what_the_full_softmax_learns(tmp_path):
    histories = planted_histories(users=150, items=100, events=30)
    values = []
    for name, train in (("full", {}), ("sampled", {"full_softmax_items": 50, "negatives": 16})):
        ready = prepared(histories, tmp_path / name, settings(train={"epochs": 12, **train}))
        fit = Fit(ready.model, ready.plan)
        assert (fit.negatives is not None) == (name == "sampled")
        values.append(max(epoch["ndcg@10"] for epoch in fit.run()))
    assert values[0] > 0.9
    assert values[1] > 0.95 * values[0]


def test_a_step_changes_only_the_drawn_items(tmp_path):
    config = settings(train={"full_softmax_items": 50, "negatives": 4, "weight_decay": 0.5})
    ready = prepared(planted_histories(users=150, items=400, events=8), tmp_path, config)
    fit, batches = Fit(ready.model, ready.plan), ready.plan.batches
    before = fit.model.tangents.weight.detach().clone()
    place = fit.checkpoint.restore("none", fit.model, fit.optimizer, None)
    windows = batches.epoch(0)[0][:3]
    batch = batches.load(windows)
    _, columns, _ = fit.negatives.narrow(batch, fit.ranks, fit.settings.seed)
    fit._step(place, batch)
    moved = (fit.model.tangents.weight != before).any(1).nonzero()[:, 0].tolist()
    assert set(moved) == set(batch.items) | set(ready.plan.candidate_items.eligible[columns])


def test_a_sparse_step_on_all_rows_equals_a_dense_step():
    results = []
    for sparse in (False, True):
        torch.manual_seed(0)
        embedding = torch.nn.Embedding(6, 3, sparse=sparse)
        other = torch.nn.Parameter(torch.ones(3))
        parameters = [embedding.weight, other]
        optimizer = (RowAdamW if sparse else torch.optim.AdamW)(parameters, lr=0.1, weight_decay=0.3)
        for index in (torch.arange(6), torch.tensor([5, 4, 3, 2, 1, 0, 0])):
            (embedding(index) * other * torch.arange(3)).square().sum().backward()
            if sparse:
                clip_gradients(parameters, 0.7)
            else:
                torch.nn.utils.clip_grad_norm_(parameters, 0.7)
            optimizer.step()
            optimizer.zero_grad()
        results.append((embedding.weight.detach(), other.detach()))
    for dense, found in zip(*results, strict=True):
        torch.testing.assert_close(found, dense)
