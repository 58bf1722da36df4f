"""The average of the weights is validated and stored; training itself does not use it."""

from __future__ import annotations

import torch

from hmamba.training.fit import Fit
from tests.histories import random_histories
from tests.training.trainings import prepared, settings


def copy(model):
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def test_the_model_ends_with_the_average_of_its_weights(tmp_path, monkeypatch):
    one_epoch = {"epochs": 1, "tokens": 64}
    plain = prepared(random_histories(), tmp_path / "plain", settings(train=one_epoch))
    expected, step_of = copy(plain.model), Fit._step

    def watched(fit, place, batch):
        step_of(fit, place, batch)
        decay = min(0.3, place.step / (9 + place.step))
        for name, value in copy(fit.model).items():
            expected[name] = decay * expected[name] + (1 - decay) * value

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_step", watched)
        plain_facts = Fit(plain.model, plain.plan).run()
    ready = prepared(random_histories(), tmp_path / "average", settings(train={**one_epoch, "ema": 0.3}))
    fit = Fit(ready.model, ready.plan)
    epochs = fit.run()
    assert epochs[0]["loss"] == plain_facts[0]["loss"]
    for name, value in ready.model.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name], msg=name)
    assert not torch.equal(ready.model.tangents.weight, plain.model.tangents.weight)


def test_training_continues_from_its_own_weights_after_validation(tmp_path):
    ready = prepared(random_histories(), tmp_path, settings(train={"epochs": 1, "ema": 0.9}))
    fit = Fit(ready.model, ready.plan)
    before = copy(fit.model)
    with torch.no_grad():
        for average in fit.average.state_dict().values():
            average.zero_()
    with fit.average.applied(fit.model):
        assert not any(value.any() for value in copy(fit.model).values())
    assert all(torch.equal(value, before[name]) for name, value in copy(fit.model).items())
    assert not any(value.any() for value in fit.average.state_dict().values())
