"""Checkpoints are consistent after a kill at any moment, and damaged ones are not used."""

from __future__ import annotations

import pytest
import torch

from hmamba.storage.local import read_json
from hmamba.training import checkpoint as checkpoint_module
from hmamba.training.checkpoint import Checkpoint
from hmamba.training.fit import Fit
from tests.histories import random_histories
from tests.training.trainings import KilledError, prepared, settings

EVERY_STEP = {"epochs": 2, "checkpoint_seconds": 1e-9, "tokens": 128}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Losses and weights of an uninterrupted training."""
    ready = prepared(random_histories(), tmp_path_factory.mktemp("undisturbed"), settings(train=EVERY_STEP))
    epochs = Fit(ready.model, ready.plan).run()
    return [epoch["loss"] for epoch in epochs], ready.model.state_dict()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("where", "time"), [("weights", 1), ("weights", 3), ("best", 1), ("state", 1), ("state", 2), ("delete", 2)]
)
def test_a_kill_at_any_moment_of_writing_costs_nothing(tmp_path, monkeypatch, expected, where, moment, time):
    calls = 0

    def dying(real):
        def call(*arguments):
            nonlocal calls
            if where in ("weights", "best") and not arguments[1].startswith(where):
                return real(*arguments)
            calls += 1
            if calls == time and moment == "before":
                raise KilledError
            result = real(*arguments)
            if calls == time:
                raise KilledError
            return result

        return call

    owner, name = {
        "weights": (Checkpoint, "_write"),
        "best": (Checkpoint, "_write"),
        "state": (checkpoint_module, "write_json"),
        "delete": (Checkpoint, "_delete_all_but"),
    }[where]
    config = settings(train=EVERY_STEP)
    killed = prepared(random_histories(), tmp_path, config)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying(getattr(owner, name)))
        with pytest.raises(KilledError):
            Fit(killed.model, killed.plan).run()
    state = tmp_path / "state.json"
    saved = read_json(state)["step"] if state.exists() else 0
    resumed = prepared(random_histories(), tmp_path, config)
    fit = Fit(resumed.model, resumed.plan)
    assert fit.checkpoint.restore(resumed.plan.version, resumed.model, fit.optimizer, None).step == saved
    epochs = Fit(resumed.model, resumed.plan).run()
    assert [epoch["loss"] for epoch in epochs] == expected[0]
    for key, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[1][key]), key
    named = {file["name"] for file in read_json(state)["files"].values()}
    assert {path.name for path in tmp_path.iterdir()} == named | {"state.json"}


@pytest.mark.parametrize("damage", ["cut off", "missing", "best cut off", "another version"])
def test_a_damaged_or_foreign_checkpoint_is_not_resumed(tmp_path, damage, caplog):
    caplog.set_level("INFO", logger="hmamba")
    config = settings(train={"epochs": 1})
    ready = prepared(random_histories(), tmp_path, config)
    Fit(ready.model, ready.plan).run()
    files = read_json(tmp_path / "state.json")["files"]
    path = tmp_path / files["best" if damage == "best cut off" else "weights"]["name"]
    if damage == "missing":
        path.unlink()
    elif damage != "another version":
        path.write_bytes(path.read_bytes()[:-10])
    again = prepared(random_histories(), tmp_path, config, snapshot="t" if damage == "another version" else "s")
    before = {key: value.clone() for key, value in again.model.state_dict().items()}
    fit = Fit(again.model, again.plan)
    assert fit.checkpoint.restore(again.plan.version, again.model, fit.optimizer, None).step == 0
    assert "starting over" in caplog.text
    assert all(torch.equal(value, before[key]) for key, value in again.model.state_dict().items())
