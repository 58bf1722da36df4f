"""mamba_ssm's fused Triton scan with the interface of :mod:`hmamba.model.scan`; imported only here, on first use."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import types
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from hmamba.errors import ConfigError
from hmamba.model.scan import chunked_scan

log = logging.getLogger("hmamba")

Scan = Callable[..., tuple[Tensor, Tensor]]


def missing() -> str | None:
    """Reason why the fused kernels cannot run on this machine, and the remedy; None if they may run."""
    if not torch.cuda.is_available():
        return "PyTorch sees no CUDA device; use kernels = 'auto' or 'torch', which run anywhere"
    return _absent()


def _absent() -> str | None:
    for name in ("triton", "einops", "mamba_ssm"):
        if importlib.util.find_spec(name) is None:
            return f"the package {name} is not installed; pip install -c constraints.txt 'hmamba-nightly[gpu]'"
    return None


@cache
def _combined() -> Any:
    """Load ``mamba_chunk_scan_combined``.

    The package's __init__ imports compiled extensions that the Triton kernels do not use. An empty parent module with
    the package's path lets Python import the one file without running __init__.
    """
    if "mamba_ssm" not in sys.modules:
        spec = importlib.util.find_spec("mamba_ssm")
        if spec is None or spec.submodule_search_locations is None:
            raise ConfigError(f"model.kernels = 'fused': {_absent()}.")
        parent = types.ModuleType("mamba_ssm")
        parent.__path__ = list(spec.submodule_search_locations)
        parent.__spec__ = spec  # find_spec raises for a loaded module without a spec
        sys.modules["mamba_ssm"] = parent
    return importlib.import_module("mamba_ssm.ops.triton.ssd_combined").mamba_chunk_scan_combined


def fused_scan(
    x_BTHP: Tensor,
    dt_BTH: Tensor,
    A_H: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    D_H: Tensor,
    *,
    segment_BT: Tensor | None = None,
    state_BHPN: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The scan by mamba_ssm's Triton kernels, for CUDA tensors; they compute float32 products in TF32."""
    # The kernels expect the first sequence of each row to have number 0, and drop its initial state otherwise.
    first_is_0_BT = None if segment_BT is None else (segment_BT - segment_BT[:, :1]).to(torch.int32)
    y_BTHP, final_BHPN = _combined()(
        x_BTHP,
        dt_BTH,
        A_H,
        B_BTN.unsqueeze(2),
        C_BTN.unsqueeze(2),
        chunk_size=chunk or 64,
        D=D_H,
        initial_states=state_BHPN,
        seq_idx=first_is_0_BT,
        return_final_states=True,
    )
    return y_BTHP, final_BHPN


def choose(kernels: str, device: torch.device) -> Scan:
    """Choose the scan for a device.

    Args:
        kernels: ``torch``, ``fused`` or ``auto`` (fused where it can run; the choice is logged).
        device: device of the tensors.

    Raises:
        ConfigError: ``kernels`` is ``fused``, which cannot run; the message says what to install.
    """
    reason = missing() if device.type == "cuda" else "the model runs on the CPU"
    if kernels == "fused" and reason is not None:
        raise ConfigError(f"model.kernels = 'fused': {reason}.")
    if kernels == "torch" or reason is not None:
        if kernels == "auto" and device.type == "cuda":
            log.warning("scan: PyTorch's chunked form, because %s", reason)
        return chunked_scan
    try:
        _combined()
    except Exception as error:  # Triton changes often and its import can raise anything; the fallback works
        if kernels == "fused":
            raise ConfigError(
                f"model.kernels = 'fused': mamba_ssm does not import ({error}). Reinstall it with "
                "pip install -c constraints.txt 'hmamba-nightly[gpu]', or use kernels = 'torch'."
            ) from error
        log.warning("scan: PyTorch's chunked form, because mamba_ssm does not import (%s)", error)
        return chunked_scan
    log.info("scan: mamba_ssm's fused kernels")
    return fused_scan
