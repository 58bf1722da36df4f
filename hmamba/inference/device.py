"""The device that the model runs on."""

from __future__ import annotations

import torch

from hmamba.errors import ConfigError


def device_of(choice: str) -> torch.device:
    """The device for a value of ``train.device``; "auto" is CUDA if PyTorch sees a device.

    Raises:
        ConfigError: ``choice`` is "cuda" and PyTorch sees no CUDA device.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "train.device = 'cuda', but PyTorch sees no CUDA device. Use 'auto', or install a CUDA build."
        )
    return torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")
