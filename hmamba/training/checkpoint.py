"""A training that is under way: weights, optimiser and place, so that a killed one goes on where it was.

checkpoint.pt   weights and optimiser moments of the last checkpoint
best.pt         weights of the best epoch so far
state.json      epoch, step, history; written last, it names what the other files must be

The files are PyTorch's own and are read as tensors only (``weights_only``), so that reading one runs no code. They last
as long as the training does; a finished model is kept as safetensors.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hmamba.files import atomic_file, read_json, sha256, write_json

log = logging.getLogger("hmamba")


@dataclass
class Place:
    """Where a training is.

    Attributes:
        version: what is being trained; a checkpoint of another version is not continued.
        epoch: epochs finished.
        batch: batches finished in the current epoch.
        step: optimiser steps in all.
        loss, weight: sums over the current epoch's targets so far.
        best: best validation value, and ``best_epoch`` where it was reached (-1: nothing yet).
        epochs: what is known of each finished epoch.
    """

    version: str
    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss: float = 0.0
    weight: float = 0.0
    best: float = float("-inf")
    best_epoch: int = -1
    epochs: list[dict[str, Any]] = field(default_factory=list)


class Checkpoint:
    """The checkpoint of one training, in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state, self._weights, self._best = (folder / name for name in ("state.json", "checkpoint.pt", "best.pt"))

    def save(self, place: Place, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write weights and moments, then the state that vouches for them."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for number, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{name}": value for name, value in moments.items()}
        _write(self._weights, tensors)
        best = sha256(self._best) if self._best.exists() else None
        write_json(self._state, {**asdict(place), "weights": sha256(self._weights), "best_weights": best})

    def restore(self, version: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> Place:
        """Load the last checkpoint of ``version`` into model and optimiser; a fresh place if there is none."""
        if not self._state.exists():
            return Place(version)
        state = read_json(self._state)
        weights, best = state.pop("weights"), state.pop("best_weights")
        if state["version"] != version:
            log.info(
                "train: the checkpoint in %s is of another training (%s); starting anew", self.folder, state["version"]
            )
            return Place(version)
        whole = self._weights.exists() and sha256(self._weights) == weights
        if not whole or (best is not None and (not self._best.exists() or sha256(self._best) != best)):
            log.warning("train: the checkpoint in %s was cut off while it was written; starting anew", self.folder)
            return Place(version)
        try:
            tensors = _read(self._weights)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            log.warning("train: the checkpoint in %s cannot be read (%s); starting anew", self.folder, error)
            return Place(version)
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".")
                moments.setdefault(int(number), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        return Place(**state)

    def keep_best(self, model: nn.Module) -> None:
        """Remember these weights as the best so far."""
        _write(self._best, model.state_dict())

    def load_best(self, model: nn.Module) -> None:
        """Load the best weights."""
        model.load_state_dict(_read(self._best))


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with atomic_file(path) as temporary:
        torch.save({name: value.detach().cpu() for name, value in tensors.items()}, temporary)


def _read(path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors
