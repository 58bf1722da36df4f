"""The blocked loss equals the one that holds all logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hmamba.model.scores import Score
from hmamba.training import loss as loss_module
from hmamba.training.loss import blocked_cross_entropy


def plain(queries, items, score, had, habit, targets):
    logits = score.logits(queries @ items.T)
    logits = logits.index_put(had, torch.logaddexp(logits[had], habit))
    return F.cross_entropy(logits[targets[0]], targets[1], reduction="sum")


@pytest.mark.parametrize("kind", ["squared", "linear", "paper", "inner"])
@pytest.mark.parametrize("block", [1, 40, 10_000])
def test_value_and_gradients_equal_the_plain_loss(monkeypatch, kind, block):
    monkeypatch.setattr(loss_module, "_BLOCK_LOGITS", block)
    generator = torch.Generator().manual_seed(0)

    def points(n):
        space = torch.randn(n, 4, generator=generator, dtype=torch.float64)
        time = (2.0 + space.square().sum(-1, keepdim=True)).sqrt()
        return torch.cat([time, space, torch.randn(n, 1, generator=generator, dtype=torch.float64)], -1)

    flipped = torch.tensor([-1.0, 1, 1, 1, 1, 0], dtype=torch.float64)
    rows, columns = 9, 13
    had = torch.tensor([0, 0, 4, 8]), torch.tensor([1, 5, 0, 12])
    targets = torch.tensor([0, 0, 1, 2, 4, 8]), torch.tensor([1, 2, 3, 3, 0, 12])
    results = []
    for function in (blocked_cross_entropy, plain):
        generator.manual_seed(1)
        leaves = [
            (points(rows) * flipped).requires_grad_(),
            points(columns).requires_grad_(),
            torch.tensor(2.0, dtype=torch.float64, requires_grad=True),
            torch.tensor(0.7, dtype=torch.float64, requires_grad=True),
            torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_(),
        ]
        queries, items, K, scale, habit = leaves
        score = Score(kind, K, scale)
        if function is plain:
            value = plain(queries, items, score, had, habit, targets)
        else:
            value = function(queries, items, score, had=had, habit_E=habit, targets=targets)
        value.backward()
        results.append((value.detach(), [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]))
    torch.testing.assert_close(results[0][0], results[1][0])
    for mine, expected in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(mine, expected)


def test_without_gradients_only_the_value_is_computed():
    score = Score("inner", torch.tensor(1.0), torch.tensor(1.0))
    empty = torch.zeros(0, dtype=torch.long)
    with torch.no_grad():
        value = blocked_cross_entropy(
            torch.randn(3, 4),
            torch.randn(5, 4),
            score,
            had=(empty, empty),
            habit_E=torch.zeros(0),
            targets=(torch.tensor([0]), torch.tensor([2])),
        )
    assert value > 0
