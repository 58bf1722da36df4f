"""The refit after the verdict reads the windows with new events, and is repeatable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmamba.evaluation.likelihood import mean_log_likelihood
from hmamba.evaluation.split import DAYS, LAST, Split
from hmamba.models.files import StoredModel
from hmamba.terms.base import WeightedTerm
from hmamba.terms.cooccurrence import Cooccurrence
from hmamba.training import refit as module
from hmamba.training.fit import Fit
from hmamba.training.refit import refit
from tests.histories import histories_of, planted_histories, random_histories, valued
from tests.training.trainings import prepared, settings


def stored_after(histories, folder, config):
    """The model that serves after a training of one epoch."""
    ready = prepared(histories, folder, config)
    Fit(ready.model, ready.plan).run()
    return StoredModel(ready.provenance.version, ready.provenance, ready.model, ready.plan.candidate_items, ready.ids)


def config_of(**train):
    return settings(train={"epochs": 1, "fine_tune_rate": 0.01, **train})


def windows_of(monkeypatch):
    """The plans of the refits."""
    plans = []

    class Watched(Fit):
        def __init__(self, model, plan):
            plans.append(plan)
            super().__init__(model, plan)

    monkeypatch.setattr(module, "Fit", Watched)
    return plans


def weights(stored):
    return {name: value.clone() for name, value in stored.model.state_dict().items()}


def some_users():
    """Twenty users who stop before the validation days, and twenty with events up to the end."""
    return histories_of(
        *([(day, 1 + day % 5) for day in range(10)] for _ in range(20)),
        *([(day, 1 + day % 5) for day in range(30)] for _ in range(20)),
    )


@pytest.mark.parametrize(("replay", "expected"), [(0.0, range(20, 40)), (1.0, range(40))])
def test_windows_with_new_events_and_a_share_of_others_are_read(tmp_path, monkeypatch, replay, expected):
    plans, config, histories = windows_of(monkeypatch), config_of(replay=replay), some_users()
    split = Split.of(histories, config)
    assert split.mode == DAYS
    stored = stored_after(histories, tmp_path / "a", config)
    epochs = refit(stored, histories, split, "s", tmp_path / "b", config)
    (plan,) = plans
    batches = plan.batches
    assert batches.histories.owner[batches.window_start[plan.windows]].tolist() == list(expected)
    assert batches.histories.events == histories.events
    assert (epochs["epoch"], epochs["ndcg@10"]) == (1, None)
    assert np.isfinite(epochs["loss"])


@pytest.mark.parametrize(("days", "windows"), [(1, 1), (8, 2)])
def test_of_long_histories_the_windows_that_hold_new_events_are_read(tmp_path, monkeypatch, days, windows):
    """Windows of 12 events, one event a day."""
    plans = windows_of(monkeypatch)
    config = settings(
        train={"epochs": 1, "replay": 0.0, "max_length": 12, "validation_days": days},
        gate={"holdout_days": days, "min_users": 1},
    )
    histories = histories_of(*([(day, 1 + day % 5) for day in range(40)] for _ in range(20)))
    split = Split.of(histories, config)
    assert split.mode == DAYS
    refit(stored_after(histories, tmp_path / "a", config), histories, split, "s", tmp_path / "b", config)
    batches, chosen = plans[0].batches, np.flatnonzero(plans[0].windows)
    assert len(chosen) == 20 * windows
    assert (batches.histories.times[batches.window_end[chosen] - 1] >= split.trained_until).all()


def test_with_last_baskets_held_out_every_user_with_one_is_read(tmp_path, monkeypatch):
    plans = windows_of(monkeypatch)
    config = settings(train={"epochs": 1, "replay": 0.0}, gate={"min_users": 1_000})
    histories = histories_of(*([(day, 1 + day % 5) for day in range(6)] for _ in range(9)), [(0, 1)], [(3, 2)])
    split = Split.of(histories, config)
    assert split.mode == LAST
    refit(stored_after(histories, tmp_path / "a", config), histories, split, "s", tmp_path / "b", config)
    assert plans[0].batches.histories.owner[plans[0].batches.window_start[plans[0].windows]].tolist() == list(range(9))


def test_a_refit_changes_the_weights_and_is_repeatable(tmp_path):
    histories, config, found = planted_histories(), config_of(), []
    for run in "ab":
        stored = stored_after(histories, tmp_path / run / "train", config)
        before = weights(stored)
        refit(stored, histories, Split.of(histories, config), "s", tmp_path / run / "refit", config)
        assert not torch.equal(before["tangents.weight"], stored.model.tangents.weight)
        assert not stored.model.training
        found.append(weights(stored))
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())


def test_a_refit_learns_from_the_newest_events(tmp_path):
    """Only the held-out events show that item 12 follows item 12."""
    walks = [[(float(day), 1 + (start + day) % 12) for day in range(16)] for start in range(12)] * 5
    histories = histories_of(*([*walk[:-2], (14.0, 12), (15.0, 12)] for walk in walks))
    config = config_of(epochs=10, fine_tune_rate=0.02)
    stored, split = stored_after(histories, tmp_path / "a", config), Split.of(histories, config)
    asked = split.holdout_set(histories, config)

    def share():
        return mean_log_likelihood(stored.model.eval(), asked, stored.candidate_items, exclude_seen=False)

    before = share()
    refit(stored, histories, split, "s", tmp_path / "b", config)
    assert share() > before + 0.1


def test_without_new_events_there_is_no_refit(tmp_path):
    """New events that the model does not read or that are no targets, without replay."""
    config, histories = config_of(replay=0.0), some_users()
    split, stored = Split.of(histories, config), stored_after(histories, tmp_path / "a", config)
    before = weights(stored)
    late = np.arange(histories.events) >= split.validation[histories.owner]
    unread = valued(histories, weights=np.where(late, 0, 1))
    assert refit(stored, unread, split, "s", tmp_path / "b", config) == {}
    assert all(torch.equal(before[name], value) for name, value in weights(stored).items())
    assert (
        refit(stored, valued(histories, targets=np.zeros(histories.events)), split, "s", tmp_path / "c", config) == {}
    )


def test_items_newer_than_the_model_are_read_as_padding(tmp_path):
    histories, config = some_users(), config_of()
    stored, split = stored_after(histories, tmp_path / "a", config), Split.of(histories, config)
    later = histories.items.copy()
    later[histories.times == histories.times.max()] = 77
    changed = type(histories)(histories.users, histories.offsets, later, histories.times)
    assert refit(stored, changed, split, "s", tmp_path / "b", config)["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in weights(stored).values())


def test_a_refit_keeps_the_counted_terms(tmp_path):
    config = settings(model={"score_terms": ("cooccurrence",)}, train={"epochs": 1}, candidates={"exclude_seen": True})
    histories = random_histories(users=60, items=40)
    stored, split = stored_after(histories, tmp_path / "a", config), Split.of(histories, config)
    kept = WeightedTerm(Cooccurrence.count(histories, 41), {"new": 1.0, "seen": 0.0})
    stored.model.counted_terms = [kept]
    refit(stored, histories, split, "s", tmp_path / "b", config)
    (after,) = stored.model.counted_terms
    assert after is kept


def test_a_gate_repeated_on_other_events_does_not_use_the_old_checkpoint(tmp_path):
    """The same champion can serve a night that is repeated with late events."""
    histories, config = planted_histories(), config_of()
    early = histories.keep(histories.owner < 50)
    found = []
    for first in (early, histories):
        stored = stored_after(histories, tmp_path / "train", config)
        folder = tmp_path / ("again" if first is early else "once")
        refit(stored, first, Split.of(first, config), str(first.events), folder, config)
        stored = stored_after(histories, tmp_path / "train", config)
        refit(stored, histories, Split.of(histories, config), str(histories.events), folder, config)
        found.append(weights(stored))
    assert all(torch.equal(found[0][name], value) for name, value in found[1].items())
