"""The parts of the check, and running one of them in this process."""

from __future__ import annotations

import faulthandler
import importlib
import logging
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.gpu.record import Record

STACK_SIGNAL = signal.SIGUSR1
"""Makes a part write to standard error where it stands, before it is stopped."""


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        name: of the part, ``module.function`` under ``bench.gpu``.
        title: what it shows.
        seconds: after which it is stopped.
        beside: whether it runs beside the others: it mostly compiles, and times nothing.
        alone: whether it waits until nothing runs beside it, because it measures time.
    """

    name: str
    title: str
    seconds: float
    beside: bool = False
    alone: bool = False


PARTS = (
    Part("machine.machine", "Card, driver and versions", 90),
    Part("fused.fused", "mamba_ssm's fused scan against the recurrence in float64", 240, beside=True),
    Part("fused.tuned", "The model with the fused scan against the chunked one", 240, beside=True),
    Part("scans.chunked", "The chunked scan on the device against the recurrence in float64", 60),
    Part("night.night", "A night: fine-tune, judge, score; the same on the CPU", 150),
    Part("search.search", "Exact search: float32 against float64, index, faiss-gpu", 60),
    Part("precision.precision", "bfloat16 training against float32", 75),
    Part("repeat.repeat", "Same seed, same weights", 60, alone=True),
    Part("speed.speed", "Speed, memory, and shares of the card's ceilings", 110, alone=True),
)


def run_here(part: str, folder: Path, device: str, *, tiny: bool, site: Path | None) -> None:
    """Run one part in this process; its findings go to ``folder/<part>.json``.

    Args:
        part: its name.
        folder: the working folder, with the histories.
        device: ``cuda`` or ``cpu``.
        tiny: sizes for a trial on a CPU.
        site: a folder with further packages; those that are installed come first.
    """
    faulthandler.register(STACK_SIGNAL)
    logging.basicConfig(format=f"{part}: %(message)s", stream=sys.stdout)
    logging.getLogger("hmamba").setLevel(logging.INFO)
    if site is not None:
        sys.path.append(str(site))
    import torch

    from bench.gpu.context import Context

    module, _, function = part.partition(".")
    run = getattr(importlib.import_module(f"bench.gpu.{module}"), function)
    run(Context(torch.device(device), tiny, folder, Record(folder / f"{part}.json", part)))
