"""The device for a setting, with and without a GPU."""

from __future__ import annotations

import pytest
import torch

from hmamba.errors import ConfigError
from hmamba.inference.device import device_of


def test_a_missing_cuda_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"train\.device"):
        device_of("cuda")


@pytest.mark.parametrize(
    ("choice", "has_cuda", "expected"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_the_device_is_cuda_unless_there_is_none_or_the_cpu_is_chosen(monkeypatch, choice, has_cuda, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    assert device_of(choice) == torch.device(expected)
