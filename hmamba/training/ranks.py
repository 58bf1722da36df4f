"""Data-parallel training with torchrun: each process computes a part of every batch, and gradients are summed.

torchrun sets RANK, WORLD_SIZE and LOCAL_RANK. Every rank holds the data and the model; only rank 0 validates, writes
files and logs. After each step all ranks hold the same weights.
"""

from __future__ import annotations

import importlib
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

_LONGEST_WAIT = timedelta(hours=6)  # the other ranks wait while rank 0 validates


def launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "WORLD_SIZE" in os.environ


@dataclass(frozen=True)
class Ranks:
    """The rank of this process among ``count``; one process by default. ``device`` holds the messages."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process validates, writes files and logs."""
        return self.rank == 0

    def sum_gradients(
        self, parameters: Iterable[nn.Parameter], loss: Tensor, touched: Mapping[nn.Parameter, IntArray]
    ) -> Tensor:
        """Replace each gradient by its sum over all ranks; return the sum of the losses.

        One message carries all gradients. A parameter without a gradient on any rank gets none, so the optimiser skips
        it as in a single process.

        Args:
            parameters: parameters of the model.
            loss: loss of this rank.
            touched: for each parameter with sparse gradients, the rows that any rank has read, ascending.
        """
        if self.count == 1:
            return loss
        trained = [p for p in parameters if p.requires_grad]
        rows_of = {p: torch.from_numpy(rows).to(self.device) for p, rows in touched.items()}
        present = loss.new_tensor([p.grad is not None for p in trained])
        parts = [_dense(p, rows_of.get(p)) for p in trained]
        flat = torch.cat([loss.reshape(1), present, *(part.reshape(-1) for part in parts)])
        dist.all_reduce(flat)
        counts = flat[1 : 1 + len(trained)].tolist()
        sums = flat[1 + len(trained) :].split([part.numel() for part in parts])
        for parameter, part, total, count in zip(trained, parts, sums, counts, strict=True):
            gradient = total.view_as(part)
            if parameter in rows_of:
                gradient = torch.sparse_coo_tensor(
                    rows_of[parameter][None], gradient, parameter.shape, is_coalesced=True
                )
            parameter.grad = gradient if count else None
        return flat[0]

    def union(self, numbers: IntArray, size: int) -> IntArray:
        """The distinct numbers below ``size`` that any rank passes, ascending."""
        if self.count == 1:
            is_given = np.zeros(size, dtype=bool)
            is_given[numbers] = True
            return np.flatnonzero(is_given)
        given = torch.zeros(size, dtype=torch.uint8, device=self.device)
        given[torch.from_numpy(numbers).to(self.device)] = 1
        dist.all_reduce(given, op=dist.ReduceOp.MAX)
        return given.nonzero()[:, 0].cpu().numpy()

    def from_lead(self, values: Sequence[float]) -> list[float]:
        """Broadcast the values of rank 0; the other ranks pass as many."""
        if self.count == 1:
            return list(values)
        received = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(received, src=0)
        return [float(value) for value in received.tolist()]

    def agree(self, values: Sequence[float], what: str) -> None:
        """Wait for all ranks, and check that they hold the same values.

        Raises:
            InputError: the values differ, for instance because the ranks do not see the same files.
        """
        expected = self.from_lead(values)
        wrong = torch.tensor([float(expected != list(values))], device=self.device)
        if self.count > 1:
            dist.all_reduce(wrong)
        if wrong.item():
            raise InputError(
                f"train: rank {self.rank} of {self.count} has {what} {list(values)}, rank 0 has {expected}. All "
                "ranks must see the same root and the same settings: put the root on shared storage."
            )


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun started, with NCCL on CUDA and gloo elsewhere; one rank without torchrun.

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
            f"train.processes needs {local + 1} GPUs or more, but PyTorch sees {torch.cuda.device_count()}: lower it."
        )
    if cuda:
        torch.cuda.set_device(local)
    # Default arguments of this module hold the process group that exists at its first import. An optimiser imports it:
    # the group would outlive destroy_process_group, and its threads could abort the interpreter at exit.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("nccl" if cuda else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield Ranks(device, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _dense(parameter: nn.Parameter, rows: Tensor | None) -> Tensor:
    """A parameter's gradient as a dense tensor; only the given rows if it is sparse."""
    gradient = parameter.grad
    if rows is None:
        return torch.zeros_like(parameter) if gradient is None else gradient
    part = parameter.new_zeros(len(rows), *parameter.shape[1:])
    if gradient is not None:
        gradient = gradient.coalesce()
        part[torch.searchsorted(rows, gradient.indices()[0])] = gradient.values()
    return part
