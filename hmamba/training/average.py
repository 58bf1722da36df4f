"""An exponential moving average of the weights, which often generalises better than the last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages the trained weights of a model: after step t, average = d average + (1 - d) weights.

    The decay d is min(``decay``, (1 + t) / (10 + t)), so that the initial weights soon lose their influence. An update
    reads all weights, also those that a step with sampled softmax did not change.

    Args:
        model: the model; its weights are the initial averages.
        decay: largest decay per step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._averages = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Add the weights after optimiser step ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(model.named_parameters())
        for name, average in self._averages.items():
            average.lerp_(parameters[name], 1 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Context in which the model's weights are the averages."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(self._averages)

    @torch.no_grad()
    def load_state_dict(self, averages: Mapping[str, Tensor]) -> None:
        """Load saved averages."""
        for name, average in self._averages.items():
            average.copy_(averages[name])

    def _exchange(self, model: nn.Module) -> None:
        parameters = dict(model.named_parameters())
        for name, average in self._averages.items():
            parameters[name].data, self._averages[name] = average, parameters[name].data
