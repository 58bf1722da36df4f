"""Several processes that train one model (torchrun): each takes a part of every batch, gradients are summed.

torchrun tells a process its place by RANK, WORLD_SIZE and LOCAL_RANK. Every rank holds the data and the model; rank 0
alone judges, writes and speaks. After each step all ranks hold the same weights.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from hmamba.errors import ConfigError, InputError
from hmamba.processes import end_with_parent
from hmamba.sequences.histories import IntArray

_LONGEST_WAIT = timedelta(hours=6)  # the others wait while rank 0 validates


def launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "WORLD_SIZE" in os.environ


@dataclass(frozen=True)
class Ranks:
    """This process among ``count`` of them; alone by default. Messages travel from and to ``device``."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process judges, writes and speaks."""
        return self.rank == 0

    def sum_gradients(
        self, parameters: Iterable[nn.Parameter], loss: Tensor, touched: Mapping[nn.Parameter, IntArray]
    ) -> Tensor:
        """Replace each gradient by its sum over all ranks; returns the sum of the losses.

        One message carries everything. A parameter that no rank has a gradient for keeps none, so that the optimiser
        leaves it alone as it does in a single process.

        Args:
            parameters: of the model.
            loss: of this rank.
            touched: ascending rows that the ranks have touched, of parameters with sparse gradients.
        """
        if self.count == 1:
            return loss
        learnt = [p for p in parameters if p.requires_grad]
        rows_of = {p: torch.from_numpy(rows).to(self.device) for p, rows in touched.items()}
        present = loss.new_tensor([p.grad is not None for p in learnt])
        parts = [_dense(p, rows_of.get(p)) for p in learnt]
        flat = torch.cat([loss.reshape(1), present, *(part.reshape(-1) for part in parts)])
        dist.all_reduce(flat)
        counts = flat[1 : 1 + len(learnt)].tolist()
        sums = flat[1 + len(learnt) :].split([part.numel() for part in parts])
        for parameter, part, total, count in zip(learnt, parts, sums, counts, strict=True):
            gradient = total.view_as(part)
            if parameter in rows_of:
                gradient = torch.sparse_coo_tensor(
                    rows_of[parameter][None], gradient, parameter.shape, is_coalesced=True
                )
            parameter.grad = gradient if count else None
        return flat[0]

    def union(self, numbers: IntArray, size: int) -> IntArray:
        """The numbers below ``size`` that any rank gives, ascending, each once."""
        if self.count == 1:
            is_given = np.zeros(size, dtype=bool)
            is_given[numbers] = True
            return np.flatnonzero(is_given)
        given = torch.zeros(size, dtype=torch.uint8, device=self.device)
        given[torch.from_numpy(numbers).to(self.device)] = 1
        dist.all_reduce(given, op=dist.ReduceOp.MAX)
        return given.nonzero()[:, 0].cpu().numpy()

    def from_lead(self, values: Sequence[float]) -> list[float]:
        """The values that rank 0 gives; what the others give does not matter, but for its length."""
        if self.count == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(told, src=0)
        return [float(value) for value in told.tolist()]

    def agree(self, values: Sequence[float], what: str) -> None:
        """Wait for all ranks and make sure that they hold the same values.

        Raises:
            InputError: they do not, for instance because they do not see the same files.
        """
        told = self.from_lead(values)
        wrong = torch.tensor([float(told != list(values))], device=self.device)
        if self.count > 1:
            dist.all_reduce(wrong)
        if wrong.item():
            raise InputError(
                f"train: rank {self.rank} of {self.count} has {what} {list(values)}, rank 0 has {told}. All ranks must "
                "see the same root and the same settings: put the root on storage that they share."
            )


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started, over NCCL on CUDA and gloo elsewhere; alone without torchrun.

    Raises:
        ConfigError: this machine has fewer GPUs than processes.
    """
    if not launched():
        yield Ranks(device)
        return
    end_with_parent()
    local, cuda = int(os.environ["LOCAL_RANK"]), device.type == "cuda"
    if cuda and local >= torch.cuda.device_count():
        raise ConfigError(
            f"train.processes wants GPU number {local + 1}, but PyTorch sees {torch.cuda.device_count()}: lower it."
        )
    if cuda:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield Ranks(device, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _dense(parameter: nn.Parameter, rows: Tensor | None) -> Tensor:
    """A parameter's gradient; only these rows of it where it is sparse."""
    gradient = parameter.grad
    if rows is None:
        return torch.zeros_like(parameter) if gradient is None else gradient
    part = parameter.new_zeros(len(rows), *parameter.shape[1:])
    if gradient is not None:
        gradient = gradient.coalesce()
        part[torch.searchsorted(rows, gradient.indices()[0])] = gradient.values()
    return part
