"""AdamW, with sparse updates for embeddings of which a step reads only some rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hmamba.model.hmamba import HMamba

if TYPE_CHECKING:
    from hmamba.config import Config

_FAST = 10.0  # learning rate factor of a learned term's scalars, which start far from their optimum and cannot overfit
_BETAS = (0.9, 0.98)


class RowAdamW(torch.optim.AdamW):
    """PyTorch's AdamW with row-wise updates: a sparse gradient changes only its own rows and their moments.

    A step with sampled softmax reaches a small part of the items. A dense step would read and write all of them, and
    would apply momentum and decay to items that the batch does not contain. Bias correction counts all steps.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; sparse gradients are None afterwards."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._step_rows(parameter, group)
                    parameter.grad = None
        loss: float | None = super().step(closure)
        return loss

    def _step_rows(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        gradient: Tensor = parameter.grad.coalesce()  # type: ignore[union-attr]
        rows, values = gradient.indices()[0], gradient.values()
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        first, second = (1 - beta ** float(state["step"]) for beta in group["betas"])
        mean = state["exp_avg"][rows].lerp_(values, 1 - group["betas"][0])
        square = state["exp_avg_sq"][rows].lerp_(values.square(), 1 - group["betas"][1])
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = mean, square
        kept = parameter[rows] * (1 - group["lr"] * group["weight_decay"])
        parameter[rows] = kept - group["lr"] / first * mean / ((square / second).sqrt() + group["eps"])


def make_optimizer(model: HMamba, config: Config) -> RowAdamW:
    """AdamW in the tangent space, without decay on scalars, biases and norms; ``factor`` scales a group's rate."""
    fast = [] if model.learned_term is None else model.learned_term.fast_parameters()
    rest = [p for p in model.parameters() if p.requires_grad and not any(p is other for other in fast)]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.train.weight_decay, "factor": 1.0},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0, "factor": 1.0},
        {"params": fast, "weight_decay": 0.0, "factor": _FAST},
    ]
    return RowAdamW(groups, lr=config.train.learning_rate, betas=_BETAS)


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scale all gradients, dense and sparse, so that their common norm is at most ``largest``."""
    values = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad.values())
        elif parameter.grad is not None:
            values.append(parameter.grad)
    factor = (largest / (nn.utils.get_total_norm(values) + 1e-6)).clamp(max=1.0)
    for part in values:
        part.mul_(factor)
