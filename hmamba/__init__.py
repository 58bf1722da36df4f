"""HMamba nightly: a hyperbolic Mamba recommender that retrains and publishes every night.

``Recommender`` is the model on data frames, ``open`` opens a root that the nightly steps fill, ``Config`` holds the
settings. They are imported on first use: ``import hmamba`` loads neither PyTorch nor DuckDB.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hmamba.config import Config
    from hmamba.recommender import Recommender
    from hmamba.root import Root
    from hmamba.root import open_root as open  # noqa: A004 - hmamba.open, as gzip.open and others are called

__version__ = "0.1.0"
__all__ = ["Config", "Recommender", "Root", "open"]

_HOMES = {
    "Config": ("hmamba.config", "Config"),
    "Recommender": ("hmamba.recommender", "Recommender"),
    "Root": ("hmamba.root", "Root"),
    "open": ("hmamba.root", "open_root"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
