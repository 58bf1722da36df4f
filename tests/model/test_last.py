"""The last block of a model, computed at the last token of each sequence only."""

from __future__ import annotations

import pytest
import torch

from hmamba.config import ModelConfig
from hmamba.model.hmamba import HMamba
from hmamba.model.last import LastToken

ITEMS, LENGTHS = 20, (1, 2, 3, 9)


@pytest.mark.parametrize("kind", [{}, {"variant": "half"}, {"variant": "euclidean"}, {"norm": "post"}, {"d_conv": 2}])
def test_the_last_token_and_the_state_are_those_of_the_whole_sequence(kind):
    """Sequences of several lengths, shorter than the convolution's filter too, padded on the left."""
    torch.manual_seed(0)
    settings = {"dim": 8, "d_state": 4, "head_dim": 8, "dropout": 0.0, "score_terms": (), **kind}
    model = HMamba(ModelConfig(**settings), ITEMS).eval().double()
    (block,) = model.blocks
    stream_Vd = torch.randn(ITEMS, 8, dtype=torch.float64)
    rows = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.long)
    tokens = [torch.randint(1, ITEMS + 1, (length,)) for length in LENGTHS]
    for row, sequence in zip(rows, tokens, strict=True):
        row[len(row) - len(sequence) :] = sequence
    with torch.inference_mode():
        tables = LastToken.of(block, stream_Vd, model.curvature)
        sums = tables.sums(rows)
        output, state = tables.output(sums), tables.state(sums)
        for number, sequence in enumerate(tokens):
            whole = stream_Vd[sequence - 1][None]
            expected, after = block(whole, None, model.curvature, block.mixer.start(1, whole))
            torch.testing.assert_close(output[number], expected[0, -1], atol=1e-10, rtol=1e-8)
            torch.testing.assert_close(state.conv[number], after.conv[0], atol=1e-10, rtol=1e-8)
            torch.testing.assert_close(state.ssm[number], after.ssm[0], atol=1e-10, rtol=1e-8)
