"""On which device the model runs."""

from __future__ import annotations

import torch

from hmamba.errors import ConfigError


def device_of(choice: str) -> torch.device:
    """The device to compute on.

    Raises:
        ConfigError: CUDA was asked for and PyTorch sees none.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "train.device = 'cuda', but PyTorch sees no CUDA device. Use 'auto', or install a CUDA build."
        )
    return torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")
