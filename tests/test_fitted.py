"""The nearest items of a model, by the distance of their points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmamba import fitted
from hmamba.fitted import nearness, run_in
from hmamba.model import lorentz
from tests.stored import stored_model


@pytest.mark.parametrize("block", [1, 2, 100])
@pytest.mark.parametrize("variant", ["full", "euclidean"])
def test_items_are_as_near_as_their_points(monkeypatch, variant, block):
    monkeypatch.setattr(fitted, "block_rows", lambda items: block)
    stored = stored_model(eligible=[2, 5, 9, 11], variant=variant)
    columns = np.array([3, 0, 2])
    blocks = list(nearness(stored, columns))
    assert [len(near) for _, near in blocks] == [len(range(3)[place]) for place, _ in blocks]
    assert max(len(near) for _, near in blocks) <= block
    near = torch.cat([part for _, part in blocks])
    model = stored.model.in_float64()
    points, K = model.item_points(torch.tensor([2, 5, 9, 11])).detach(), 1 / model.curvature.detach()
    for row, column in zip(near, columns, strict=True):
        if variant == "euclidean":
            distance = (points[:, 1:] - points[column, 1:]).norm(dim=1)
        else:
            distance = K.sqrt() * torch.acosh((-lorentz.inner(points, points[column][None]) / K).clamp_min(1))
        others = torch.arange(4) != column
        torch.testing.assert_close(row[others], -distance[others], atol=1e-6, rtol=1e-6)
        assert torch.isneginf(row[column])


def test_a_working_folder_is_laid_out_as_a_run(tmp_path):
    run = run_in(tmp_path)
    assert run.sequences.is_relative_to(tmp_path)
    assert run.model.is_relative_to(tmp_path)
