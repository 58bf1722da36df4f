"""Which machine this is."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata

import torch

from bench.gpu.context import Context


def machine(context: Context) -> None:
    """Card, driver and versions; and that the card computes at all."""
    figures = {"card": "CPU", "driver": "none", "memory_GB": 0.0}
    if context.device.type == "cuda":
        properties = torch.cuda.get_device_properties(context.device)
        figures = {
            "card": properties.name,
            "driver": _driver(),
            "memory_GB": properties.total_memory / 1e9,
            "multiprocessors": properties.multi_processor_count,
            "capability": ".".join(map(str, torch.cuda.get_device_capability(context.device))),
        }
    context.record.measure("card", **figures)
    context.record.measure(
        "software",
        Python=platform.python_version(),
        torch=torch.__version__,
        CUDA=str(torch.version.cuda),
        **{name: _version(name) for name in ("triton", "numpy", "mamba-ssm", "faiss-gpu", "faiss-cpu")},
    )
    context.record.measure("host", cores=os.cpu_count() or 0, threads_of_torch=torch.get_num_threads())
    total = float(torch.ones(1000, device=context.device).sum())
    context.record.check("the device computes", total == 1000.0, sum_of_1000_ones=total)


def _driver() -> str:
    """What nvidia-smi says of the driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.split()
    return told[0] if told else "unknown"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"
