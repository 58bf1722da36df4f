"""The settings of the check: the configuration ``complete_journey`` as it resolves, kept as JSON beside this file.

Reading a configuration takes pydantic, which a GPU machine may lack. After a change of
settings: ``python -m bench.gpu.settings > bench/gpu/settings.json`` (a test says when it is due).
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

CONFIGURATION = "complete_journey"
PATH = Path(__file__).with_name("settings.json")


def resolved() -> dict[str, Any]:
    """The configuration with every default filled in, as JSON values. Needs the installed project."""
    from hmamba.config import load
    from hmamba.storage.layout import Layout

    return load(CONFIGURATION, Layout.at(".")).model_dump(mode="json")


def committed(*, tiny: bool = False, device: str = "cpu") -> Any:
    """The settings as nested names, as the library reads them.

    Args:
        tiny: batches and limits for histories of a few dozen events.
        device: where training and scoring run.
    """
    config = json.loads(PATH.read_text(encoding="utf-8"), object_hook=lambda values: SimpleNamespace(**values))
    config.source.columns.by_position = config.source.columns.position is not None
    config.has_ranker = False  # LightGBM, which runs on the CPU only
    config.train.device = device
    config.train.epochs = 1
    config.model.category_levels = []  # the check reads events only
    config.model.dropout = 0.2
    config.model.score_terms = ["repeats"]  # counted terms need SciPy, which a GPU machine may lack
    config.model.kernels = "torch"  # the fused kernels have a part of their own, which may fail alone
    if tiny:
        config.train.tokens, config.train.max_length, config.train.min_item_events = 256, 64, 2
        config.candidates.k = 20
    return config


if __name__ == "__main__":
    print(json.dumps(resolved(), indent=2))
