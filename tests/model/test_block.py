"""One block: its residual branches, its initial step sizes and decays, and what it reads."""

from __future__ import annotations

import pytest
import torch

from hmamba.config import ModelConfig
from hmamba.model.hmamba import HMamba

SMALL = {"dim": 8, "d_state": 4, "head_dim": 4, "dropout": 0.0, "score_terms": ()}


def block_of(**settings):
    torch.manual_seed(0)
    model = HMamba(ModelConfig(**{**SMALL, **settings}), 5).eval()
    return model.blocks[0], model.curvature.detach()


def test_initial_step_sizes_and_decays_are_in_the_ranges_of_mamba():
    mixer = block_of(dim=64)[0].mixer
    steps = torch.nn.functional.softplus(mixer.dt_bias)
    assert steps.min() >= 0.99e-3
    assert steps.max() <= 1.01e-1
    rates = -mixer.decay(torch.tensor(1.0))
    assert rates.min() >= 1
    assert rates.max() <= 16
    assert len(rates) == mixer.heads == mixer.inner // 4


def test_a_branch_without_output_leaves_the_stream_as_it_was():
    block, curvature = block_of(norm="pre")
    for layer in (block.mixer.project_out, block.narrow):
        torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(block.narrow.bias)
    stream = torch.randn(2, 6, 8)
    out, state = block(stream, None, curvature)
    assert torch.equal(out, stream)
    assert state is None


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_layer_norm_is_before_the_branches_or_after_the_sums(norm):
    block, curvature = block_of(norm=norm, variant="half")
    stream = torch.randn(2, 6, 8) * 3
    out, _ = block(stream, None, curvature)
    scaled, _ = block(stream * 10, None, curvature)
    torch.testing.assert_close(out.mean(-1).abs().max() < 1e-5, torch.tensor(norm == "post"))
    # Before: a branch does not see the scale of the stream, so what it adds stays the same.
    same = torch.allclose(scaled - stream * 10, out - stream, atol=1e-2)
    assert not same if norm == "post" else (scaled - stream * 10).abs().max() < 10


@pytest.mark.parametrize(("variant", "inputs"), [("full", 9), ("half", 8), ("euclidean", 8)])
def test_only_the_full_variant_reads_lorentz_coordinates(variant, inputs):
    block, curvature = block_of(variant=variant)
    assert block.mixer.project_in.in_features == inputs
    seen = block._seen(torch.randn(3, 8), curvature)
    assert seen.shape == (3, inputs)
    if variant == "full":
        K = 1 / curvature
        time = seen[:, 0] + K.sqrt()  # the input is the difference to the least time
        torch.testing.assert_close(time.square() - seen[:, 1:].square().sum(1), K.expand(3), atol=1e-3, rtol=1e-4)


def test_sequences_of_one_row_do_not_read_one_another():
    block, curvature = block_of()
    stream = torch.randn(1, 7, 8)
    segments = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    whole, _ = block(stream, segments, curvature)
    for part in (slice(0, 3), slice(3, 7)):
        alone, _ = block(stream[:, part], None, curvature)
        torch.testing.assert_close(whole[:, part], alone, atol=1e-5, rtol=1e-5)
