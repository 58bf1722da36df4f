"""The committed settings are those that the configuration resolves to."""

from __future__ import annotations

import json

from bench.gpu import settings
from hmamba.config import Config


def test_the_committed_settings_are_current():
    assert json.loads(settings.PATH.read_text()) == settings.resolved(), (
        "run: python -m bench.gpu.settings > bench/gpu/settings.json"
    )


def test_the_names_are_those_that_the_library_reads():
    config = settings.committed(device="cuda")
    for section in ("model", "train", "candidates", "gate"):
        assert set(vars(getattr(config, section))) == set(type(getattr(Config(), section)).model_fields)
    assert (config.train.device, config.train.epochs, config.model.kernels) == ("cuda", 1, "torch")
    assert config.train.half_life_days == 60
    assert settings.committed(tiny=True).train.tokens == 256
