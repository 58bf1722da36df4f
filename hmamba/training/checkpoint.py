"""Checkpoints of a running training, from which a killed one resumes.

weights-STEP.pt   weights, their average and optimiser moments after STEP steps
best-STEP.pt      weights of the best epoch so far
state.json        epoch, step and history, and the names and digests of the files above

Files that state.json names are never overwritten: new files are written beside them, then state.json is replaced in one
rename, then the old files are deleted. A kill at any moment leaves a consistent checkpoint. The files are PyTorch's and
are read with ``weights_only``, so that reading them runs no code; a finished model is stored as safetensors.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hmamba.errors import InputError
from hmamba.storage.local import atomic_file, digest, read_json, sha256, write_json
from hmamba.storage.run_layout import CHECKPOINT
from hmamba.training.average import WeightAverage

log = logging.getLogger("hmamba")


@dataclass
class Place:
    """Progress of a training.

    Attributes:
        version: name of the training; a checkpoint of another version is not resumed.
        epoch: number of finished epochs.
        batch: number of finished batches in the current epoch.
        step: number of optimiser steps.
        loss, weight: sums over the current epoch's targets so far.
        best: best validation value so far.
        best_epoch: epoch of the best value; -1 before the first validation.
        epochs: records of the finished epochs.
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
    """The checkpoint of one training, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / CHECKPOINT
        self._weights: dict[str, str] | None = None
        self._best: dict[str, str] | None = None

    def save(
        self, place: Place, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
    ) -> None:
        """Write weights and moments, then state.json; delete files that it no longer names."""
        name = f"weights-{place.step:08d}.pt"
        if self._weights is None or self._weights["name"] != name:
            tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
            for number, moments in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{key}": value for key, value in moments.items()}
            if average is not None:
                tensors |= {f"average.{key}": value for key, value in average.state_dict().items()}
            self._weights = self._write(name, tensors)
        state = {**asdict(place), "files": {"weights": self._weights, "best": self._best}}
        write_json(self._state, {**state, "checksum": digest(state)})
        self._delete_all_but(self._weights, self._best)

    def restore(
        self, version: str, model: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage | None
    ) -> Place:
        """Load the last checkpoint of ``version``; return its progress, or none if there is no undamaged checkpoint."""
        if not self._state.exists():
            return Place(version)
        try:
            state = read_json(self._state)
            whole = state.pop("checksum") == digest(state)
        except (InputError, AttributeError, KeyError, TypeError):
            whole = False
        if not whole:
            log.warning("train: %s is damaged; starting over", self._state)
            return Place(version)
        if state["version"] != version:
            log.info(
                "train: the checkpoint in %s is of another training (%s); starting over", self.folder, state["version"]
            )
            return Place(version)
        files = state.pop("files")
        for file in filter(None, files.values()):
            path = self.folder / file["name"]
            if not path.exists() or sha256(path) != file["sha256"]:
                log.warning("train: %s is missing or damaged; starting over", path)
                return Place(version)
        tensors = _read(self.folder / files["weights"]["name"])
        model.load_state_dict(_part(tensors, "model"))
        if average is not None:
            average.load_state_dict(_part(tensors, "average"))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(tensors, "optimizer").items():
            number, _, name = key.partition(".")
            moments.setdefault(int(number), {})[name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self._weights, self._best = files["weights"], files["best"]
        return Place(**state)

    def keep_best(self, step: int, model: nn.Module) -> None:
        """Write these weights, reached after ``step`` steps, as the best so far."""
        self._best = self._write(f"best-{step:08d}.pt", model.state_dict())

    def load_best(self, model: nn.Module) -> None:
        """Load the best weights into the model, if there are any."""
        if self._best is not None:
            model.load_state_dict(_read(self.folder / self._best["name"]))

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
        with atomic_file(self.folder / name) as temporary:
            torch.save({key: value.detach().cpu() for key, value in tensors.items()}, temporary)
        return {"name": name, "sha256": sha256(self.folder / name)}

    def _delete_all_but(self, *files: dict[str, str] | None) -> None:
        kept = {file["name"] for file in files if file is not None}
        for path in self.folder.glob("*.pt"):
            if path.name not in kept:
                path.unlink()


def _read(path: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _part(tensors: Mapping[str, Tensor], owner: str) -> dict[str, Tensor]:
    prefix = f"{owner}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
