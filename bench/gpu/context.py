"""What every part is given."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from bench.gpu import data, settings
from bench.gpu.record import Record
from bench.gpu.shop import Shop


@dataclass(frozen=True)
class Context:
    """Where a part runs and what it tells.

    Attributes:
        device: CUDA, or the CPU to try the parts out.
        tiny: sizes at which every part takes seconds on a CPU.
        folder: working files that the parts share.
        record: takes what is found.
    """

    device: torch.device
    tiny: bool
    folder: Path
    record: Record

    @cached_property
    def shop(self) -> Shop:
        """The data with the settings of the check."""
        config = settings.committed(tiny=self.tiny, device=self.device.type)
        return Shop(data.load(self.folder / data.HISTORIES), config, self.folder)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], *, warm_up: int = 2, least_times: int = 3) -> float:
        """Mean seconds of ``work``, repeated for at least 0.3 seconds (a trial: 0.01) and ``least_times``."""
        least = 0.01 if self.tiny else 0.3
        for _ in range(warm_up):
            work()
        self.synchronize()
        started, times = time.perf_counter(), 0
        while times < least_times or time.perf_counter() - started < least:
            work()
            self.synchronize()
            times += 1
        return (time.perf_counter() - started) / times

    def peak_bytes(self) -> int:
        """Most memory that PyTorch held on the device since the last call; 0 on a CPU."""
        if self.device.type != "cuda":
            return 0
        peak = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return peak
