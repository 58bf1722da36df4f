"""Choosing the scan, and the contract between :mod:`hmamba.model.kernels` and mamba_ssm, without a GPU."""

from __future__ import annotations

import sys

import pytest
import torch

from hmamba.errors import ConfigError
from hmamba.model import kernels
from hmamba.model.kernels import choose
from hmamba.model.scan import chunked_scan
from tests.model.test_scan import inputs


@pytest.fixture
def pretended_gpu(tmp_path, monkeypatch):
    """PyTorch reports CUDA, and a package in place of mamba_ssm has kernels that record their arguments."""
    folder = tmp_path / "mamba_ssm" / "ops" / "triton"
    folder.mkdir(parents=True)
    (tmp_path / "mamba_ssm" / "__init__.py").write_text("raise ImportError('selective_scan_cuda')")
    (folder / "ssd_combined.py").write_text(
        "def mamba_chunk_scan_combined(x, *inputs, **named):\n    return x, named['seq_idx']\n"
    )
    for name in ("triton", "einops"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    kernels._combined.cache_clear()
    yield folder
    kernels._combined.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mamba_ssm", "einops")]:
        del sys.modules[name]


def test_the_fused_kernels_can_be_chosen_again_in_the_same_process(pretended_gpu):
    """A fine-tuning night builds two models: the champion and its challenger."""
    for _ in range(2):
        assert choose("fused", torch.device("cuda")) is kernels.fused_scan


def test_rows_passed_to_the_fused_kernels_start_with_sequence_0(pretended_gpu):
    segments = torch.tensor([[3, 3, 4, 4, 7], [0, 0, 0, 1, 1]])
    _, passed = kernels.fused_scan(*inputs(rows=2, tokens=5), segment_BT=segments)
    assert passed.dtype == torch.int32
    assert passed.tolist() == [[0, 0, 1, 1, 4], [0, 0, 0, 1, 1]]


def test_auto_falls_back_to_pytorch_if_the_kernels_do_not_import(pretended_gpu, caplog):
    (pretended_gpu / "ssd_combined.py").write_text("raise AttributeError('triton.jit is gone')")
    assert choose("auto", torch.device("cuda")) is chunked_scan
    assert "triton.jit is gone" in caplog.text
    with pytest.raises(ConfigError, match="does not import"):
        choose("fused", torch.device("cuda"))
