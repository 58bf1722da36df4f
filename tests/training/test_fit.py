"""Training learns planted patterns, resumes exactly, warm-starts, and reads no future events."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from hmamba.errors import ConfigError
from hmamba.evaluation.likelihood import mean_log_likelihood
from hmamba.evaluation.metrics import metrics_by_query
from hmamba.evaluation.ranking import rank_all
from hmamba.evaluation.split import DAYS, LAST, Split
from hmamba.models import files as model_files
from hmamba.storage.layout import Layout
from hmamba.training import fit as fit_module
from hmamba.training.fit import Fit, batch_loss, rate_at, validate
from hmamba.training.prepare import NothingToLearnError
from tests.histories import histories_of, planted_histories, random_histories, valued
from tests.training.trainings import KilledError, prepared, settings


@pytest.mark.parametrize("kind", [{}, {"variant": "half"}, {"score": "linear"}])
def test_planted_answers_rank_first(tmp_path, kind):
    histories = planted_histories()
    config = settings(model=kind, train={"epochs": 30})
    ready = prepared(histories, tmp_path, config)
    Fit(ready.model, ready.plan).run()
    ranked, _ = rank_all(
        ready.model, ready.plan.evaluation_set.past, ready.plan.candidate_items, k=1, exclude_seen=False
    )
    last = ready.plan.evaluation_set.past.items[ready.plan.evaluation_set.past.offsets[1:] - 1]
    assert (ranked[:, 0] == 1 + last % 12).mean() > 0.95


def test_repeats_is_learnt_if_histories_hold_nothing_else(tmp_path):
    """Each user repeats two items of their own, which only repeat consumption can predict."""
    random = np.random.default_rng(0)
    favourites = [random.choice(np.arange(1, 41), 2, replace=False) for _ in range(50)]
    histories = histories_of(*([(float(d), int(i)) for d in range(12) for i in pair] for pair in favourites))
    config = settings(model={"score_terms": ("repeats",)}, train={"epochs": 10, "learning_rate": 0.003})
    ready = prepared(histories, tmp_path, config)
    Fit(ready.model, ready.plan).run()
    ranked, _ = rank_all(
        ready.model,
        ready.plan.evaluation_set.past,
        ready.plan.candidate_items,
        k=2,
        exclude_seen=False,
    )
    assert np.mean([set(row) == set(pair) for row, pair in zip(ranked.tolist(), favourites, strict=True)]) > 0.95


def test_the_same_seed_gives_the_same_weights(tmp_path):
    weights = []
    for run in range(2):
        ready = prepared(random_histories(), tmp_path / str(run), settings(train={"epochs": 2}))
        Fit(ready.model, ready.plan).run()
        weights.append(ready.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("at_step", "more"), [(1, {}), (4, {}), (7, {}), (7, {"ema": 0.9}), (7, {"full_softmax_items": 5, "negatives": 4})]
)
def test_a_killed_training_resumes_to_the_same_result(tmp_path, monkeypatch, at_step, more):
    config = settings(train={"epochs": 3, "checkpoint_seconds": 1e-9, "tokens": 64, **more})
    whole = prepared(random_histories(), tmp_path / "whole", config)
    expected = Fit(whole.model, whole.plan).run()

    real = fit_module.batch_loss
    calls = 0

    def dying(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == at_step:
            raise KilledError
        return real(*arguments, **options)

    monkeypatch.setattr(fit_module, "batch_loss", dying)
    killed = prepared(random_histories(), tmp_path / "killed", config)
    with pytest.raises(KilledError):
        Fit(killed.model, killed.plan).run()
    monkeypatch.setattr(fit_module, "batch_loss", real)
    resumed = prepared(random_histories(), tmp_path / "killed", config)
    epochs = Fit(resumed.model, resumed.plan).run()
    assert [epoch["loss"] for epoch in epochs] == [epoch["loss"] for epoch in expected]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


@pytest.mark.parametrize("mode", [DAYS, LAST])
def test_training_sees_nothing_from_the_validation_events_on(tmp_path, mode):
    histories = random_histories()
    config = settings(train={"epochs": 1}, gate={"min_users": 1 if mode == DAYS else 1_000})
    split = Split.of(histories, config)
    assert split.mode == mode
    changed_items = histories.items.copy()
    late = np.arange(histories.events) >= split.validation[histories.owner]
    assert late.any()
    changed_items[late] = 1 + (changed_items[late] + 5) % 20
    changed = type(histories)(histories.users, histories.offsets, changed_items, histories.times)
    weights = []
    for number, data in enumerate((histories, changed)):
        ready = prepared(data, tmp_path / str(number), config)
        fit = Fit(ready.model, ready.plan)
        for windows in ready.plan.batches.epoch(0):
            fit._step(fit.checkpoint.restore("none", fit.model, fit.optimizer, None), ready.plan.batches.load(windows))
        weights.append(ready.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_fine_tuning_starts_from_the_parent_and_never_ends_worse_on_the_validation_days(tmp_path):
    layout, histories = Layout.at(tmp_path / "root"), planted_histories()
    first = prepared(histories, tmp_path / "a", settings(train={"horizon": 1}))
    Fit(first.model, first.plan).run()
    model_files.save(layout, first.model, first.provenance, first.plan.candidate_items, first.ids)
    parent = model_files.load(layout, first.provenance.version, torch.device("cpu"))
    config = settings(train={"fine_tune_epochs": 1, "fine_tune_rate": 10.0})  # a rate that can only do harm
    second = prepared(histories, tmp_path / "b", config, parent, date(2024, 2, 2))
    epochs = Fit(second.model, second.plan).run()
    assert [epoch["epoch"] for epoch in epochs] == [0, 1]
    assert epochs[1]["ndcg@10"] < epochs[0]["ndcg@10"]
    for name, value in parent.model.state_dict().items():
        torch.testing.assert_close(second.model.state_dict()[name], value, msg=name) if name != "bias" else None
    assert second.provenance.parent == first.provenance.version


def test_fine_tuning_reads_new_windows_and_a_share_of_old_ones(tmp_path):
    layout = Layout.at(tmp_path / "root")
    histories = histories_of(
        *([(d, 1 + d % 5) for d in range(10)] for _ in range(20)),
        *([(d, 1 + d % 5) for d in range(30)] for _ in range(20)),
    )
    old = histories.between(None, int(histories.times.min()) + 12 * 86_400_000_000)
    first = prepared(old, tmp_path / "a")
    model_files.save(layout, first.model, first.provenance, first.plan.candidate_items, first.ids)
    parent = model_files.load(layout, first.provenance.version, torch.device("cpu"))
    for replay, expected in ((0.0, 20), (1.0, 40)):
        ready = prepared(histories, tmp_path / "b", settings(train={"replay": replay}), parent)
        assert ready.plan.windows.sum() == expected


def test_fine_tuning_finds_new_events_in_the_newest_window_of_a_long_history(tmp_path):
    layout = Layout.at(tmp_path / "root")
    histories = histories_of(*([(d, 1 + d % 5) for d in range(30)] for _ in range(4)), [(d, 1) for d in range(8)])
    old = histories.between(None, int(histories.times.min()) + 20 * 86_400_000_000)
    first = prepared(old, tmp_path / "a")
    model_files.save(layout, first.model, first.provenance, first.plan.candidate_items, first.ids)
    parent = model_files.load(layout, first.provenance.version, torch.device("cpu"))
    ready = prepared(histories, tmp_path / "b", settings(train={"replay": 0.0, "max_length": 12}), parent)
    batches = ready.plan.batches
    chosen = np.flatnonzero(ready.plan.windows)
    assert batches.histories.owner[batches.window_start[chosen]].tolist() == [0, 1, 2, 3]
    assert batches.newest[chosen].all()


def test_training_without_validation_users_runs_all_epochs(tmp_path):
    ready = prepared(planted_histories(), tmp_path, settings(train={"epochs": 4, "patience": 1}))
    empty = ready.plan.evaluation_set.since(int(ready.plan.evaluation_set.as_of.max()) + 1)
    records = Fit(ready.model, replace(ready.plan, evaluation_set=empty)).run()
    assert [epoch["ndcg@10"] for epoch in records] == [None] * 4
    assert all("log_likelihood" not in epoch for epoch in records)


def test_early_stopping_uses_ndcg_or_the_likelihood_of_few_users(tmp_path):
    histories = planted_histories()
    for least, users in ((60, 60), (61, 60)):
        config = settings(train={"epochs": 3}, gate={"min_users": least})
        ready = prepared(histories, tmp_path / str(least), config)
        assert ready.plan.evaluation_set.judged == users
        value, measured = validate(ready.model.eval(), ready.plan)
        ranked, _ = rank_all(
            ready.model, ready.plan.evaluation_set.past, ready.plan.candidate_items, k=10, exclude_seen=False
        )
        by_question = metrics_by_query(
            ranked, ready.plan.evaluation_set.rows, ready.plan.evaluation_set.items, cutoffs=(10,)
        )
        assert measured["ndcg@10"] == ready.plan.evaluation_set.by_user(by_question["ndcg@10"]).mean()
        epochs = Fit(ready.model, ready.plan).run()
        if least <= users:
            assert (value, set(measured)) == (measured["ndcg@10"], {"ndcg@10"})
            assert "log_likelihood" not in epochs[0]
            continue
        expected = mean_log_likelihood(
            prepared(histories, tmp_path, config).model.eval(),
            ready.plan.evaluation_set,
            ready.plan.candidate_items,
            exclude_seen=False,
        )
        assert value == measured["log_likelihood"] == expected < 0
        assert [set(epoch) >= {"ndcg@10", "log_likelihood"} for epoch in epochs] == [True] * 3


@pytest.mark.parametrize(("least", "best"), [(1, 2), (1_000, 1)])
def test_the_best_epoch_is_that_of_the_early_stopping_value(tmp_path, monkeypatch, least, best):
    """One of two epochs has the better ranks, the other the better likelihood."""
    ready = prepared(planted_histories(), tmp_path, settings(train={"epochs": 2}, gate={"min_users": least}))
    likelihoods = iter([-1.0, -2.0])
    ranks = iter(
        [np.full((len(ready.plan.evaluation_set), 10), -1), np.repeat(ready.plan.evaluation_set.items[:, None], 10, 1)]
    )
    monkeypatch.setattr(fit_module, "mean_log_likelihood", lambda *_, **__: next(likelihoods))
    monkeypatch.setattr(fit_module, "rank_all", lambda *_, **__: (next(ranks), None))
    fit = Fit(ready.model, ready.plan)
    fit.run()
    place = fit.checkpoint.restore(ready.provenance.version, fit.model, fit.optimizer, None)
    assert place.best_epoch == best


@pytest.mark.parametrize(("patience", "epochs"), [(1, [0, 1]), (2, [0, 1, 2]), (3, [0, 1, 2, 3]), (9, [0, 1, 2, 3, 4])])
def test_after_a_warm_start_patience_counts_from_the_parent(tmp_path, patience, epochs):
    layout, histories = Layout.at(tmp_path / "root"), planted_histories()
    first = prepared(histories, tmp_path / "a", settings(train={"horizon": 1}))
    Fit(first.model, first.plan).run()
    model_files.save(layout, first.model, first.provenance, first.plan.candidate_items, first.ids)
    parent = model_files.load(layout, first.provenance.version, torch.device("cpu"))
    config = settings(train={"fine_tune_epochs": 4, "fine_tune_rate": 10.0, "patience": patience})
    second = prepared(histories, tmp_path / "b", config, parent, date(2024, 2, 2))
    assert [epoch["epoch"] for epoch in Fit(second.model, second.plan).run()] == epochs


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best"),
    [
        ([0.1, 0.3, 0.2, 0.2, 0.9], 2, 4, 2),
        ([0.3, 0.3, 0.3, 0.9, 0.9], 2, 3, 1),  # as good is not better
        ([0.3, 0.2, 0.9, 0.2, 0.9], 2, 5, 3),
        ([0.3, 0.9, 0.9, 0.9, 0.9], 1, 3, 2),
    ],
)
def test_training_stops_after_as_many_epochs_without_a_better_one(
    tmp_path, monkeypatch, values, patience, epochs, best
):
    ready = prepared(planted_histories(), tmp_path, settings(train={"epochs": 5, "patience": patience}))
    series = iter(values)
    monkeypatch.setattr(fit_module, "validate", lambda *_: (value := next(series), {"ndcg@10": value}))
    fit = Fit(ready.model, ready.plan)
    assert len(fit.run()) == epochs
    place = fit.checkpoint.restore(ready.provenance.version, fit.model, fit.optimizer, None)
    assert (place.best_epoch, place.best) == (best, max(values[:epochs]))


def test_very_old_rows_do_not_divide_by_zero(tmp_path):
    histories = histories_of(*([(d * 50.0, 1 + d % 5) for d in range(20)] for _ in range(20)))
    ready = prepared(histories, tmp_path, settings(train={"epochs": 1, "half_life_days": 1, "tokens": 64}))
    Fit(ready.model, ready.plan).run()
    assert all(torch.isfinite(value).all() for value in ready.model.state_dict().values())


def test_insufficient_data_is_refused(tmp_path):
    with pytest.raises(NothingToLearnError, match=r"train\.min_item_events = 10000\).*, or lower that setting"):
        prepared(random_histories(), tmp_path, settings(train={"min_item_events": 10_000}))
    for users in ([[(0, 1)], [(5, 2)], [(9, 1)]], [[(0, 1), (1, 2)]]):  # the second one's last basket is held out
        with pytest.raises(NothingToLearnError, match="two consecutive baskets"):
            prepared(histories_of(*users), tmp_path)


@pytest.mark.parametrize(
    ("step", "steps", "warm_up", "rate"),
    [
        (0, 100, 0.1, 0.1),
        (4, 100, 0.1, 0.5 * 0.996254),
        (9, 100, 0.1, 0.981140),
        (50, 100, 0.1, 0.525),  # half way down from 1 to 0.05
        (100, 100, 0.1, 0.05),
        (150, 100, 0.1, 0.05),
        (0, 10, 0.0, 1.0),
        (1, 1, 0.0, 0.05),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_rate_rises_linearly_and_falls_by_a_cosine_to_a_twentieth(step, steps, warm_up, rate):
    assert rate_at(step, steps, warm_up) == pytest.approx(rate, rel=1e-5)


def test_smoothing_is_part_of_training_and_refused_where_the_softmax_is_sampled(tmp_path):
    losses = []
    for smoothing in (0.0, 0.2):
        config = settings(train={"epochs": 1, "label_smoothing": smoothing})
        ready = prepared(random_histories(), tmp_path / str(smoothing), config)
        losses.append(Fit(ready.model, ready.plan).run()[0]["loss"])
    assert losses[0] != losses[1]
    config = settings(train={"label_smoothing": 0.2, "full_softmax_items": 5})
    ready = prepared(random_histories(), tmp_path, config)
    with pytest.raises(ConfigError, match=r"train\.label_smoothing"):
        Fit(ready.model, ready.plan)


def test_the_record_of_the_term_weights_is_kept(tmp_path):
    more = {"model": {"score_terms": ("cooccurrence",)}, "candidates": {"exclude_seen": True}}
    ready = prepared(planted_histories(items=40), tmp_path / "with", settings(train={"epochs": 1}, **more))
    fit = Fit(ready.model, ready.plan)
    assert fit.weighed == {}
    fit.run()
    weighed, (term,) = fit.weighed["cooccurrence"], ready.model.counted_terms
    assert set(weighed) == {"weights", "intervals", "ndcg@10", "ndcg@10 without", "users"}
    assert weighed["users"] == len(ready.plan.evaluation_set.past)
    assert term.weights == weighed["weights"]
    ready = prepared(
        planted_histories(), tmp_path / "without", settings(train={"epochs": 1}, model={"score_terms": ()})
    )
    fit = Fit(ready.model, ready.plan)
    fit.run()
    assert fit.weighed == {}


def test_compiled_convolutions_are_not_kept(tmp_path):
    """oneDNN reads its settings once per process, and logs for each primitive whether it was cached."""
    code = f"""
from pathlib import Path
from hmamba.training.fit import Fit
from tests.histories import random_histories
from tests.training.trainings import prepared
ready = prepared(random_histories(), Path({str(tmp_path)!r}))
fit = Fit(ready.model, ready.plan)
place = fit.checkpoint.restore("none", fit.model, fit.optimizer, None)
for _ in range(2):
    fit._step(place, ready.plan.batches.load(ready.plan.batches.epoch(0)[0]))
"""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("ONEDNN", "DNNL"))}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={**ours, "ONEDNN_VERBOSE": "2"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "create:cache_hit" not in done.stdout


def test_a_target_of_weight_2_counts_as_two_of_weight_1(tmp_path):
    events, other = [(0, 1), (1, 2)], [(day / 9 - 2, 1 + day % 2) for day in range(9)] + [(3, 1), (4, 1)]
    config = settings(model={"dropout": 0.0})
    found, weights = [], prepared(histories_of(events, other), tmp_path, config).model.state_dict()
    for histories in (histories_of(events, events, other), valued(histories_of(events, other), [1, 2, *np.ones(11)])):
        ready = prepared(histories, tmp_path, config)
        batches = ready.plan.batches
        ready.model.load_state_dict(weights)
        batch = batches.load(np.flatnonzero(batches.histories.owner[batches.window_start] < len(histories) - 1))
        loss = batch_loss(ready.model.eval(), batch, torch.from_numpy(ready.plan.candidate_items.eligible))
        found.append((float(loss.detach()), batch.weight))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][1] == 2
