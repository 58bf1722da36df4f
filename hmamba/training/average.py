"""The exponential moving average of the weights: smoother than the last step's, and often better on days to come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages what a model learns: after step t, average = d average + (1 - d) weights.

    The decay d is min(``decay``, (1 + t) / (10 + t)), so that the first steps soon forget where training began.
    A step goes over all weights, also those that a sampled softmax has left alone.

    Args:
        model: whose weights are the average to begin with.
        decay: a step, once training is under way.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._averages = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after optimiser step ``step``, the first of which is 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = dict(model.named_parameters())
        for name, average in self._averages.items():
            average.lerp_(parameters[name], 1 - decay)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Let the model have the averages for its weights while the block runs."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by the names of their parameters."""
        return dict(self._averages)

    @torch.no_grad()
    def load_state_dict(self, averages: Mapping[str, Tensor]) -> None:
        """Go on from averages that were saved."""
        for name, average in self._averages.items():
            average.copy_(averages[name])

    def _exchange(self, model: nn.Module) -> None:
        parameters = dict(model.named_parameters())
        for name, average in self._averages.items():
            parameters[name].data, self._averages[name] = average, parameters[name].data
