"""The blocked loss equals the loss computed from all logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hmamba.model.scores import Score
from hmamba.training import loss as loss_module
from hmamba.training.loss import blocked_cross_entropy

ROWS, COLUMNS = 9, 13
ENTRIES = torch.tensor([0, 0, 4, 8]), torch.tensor([1, 5, 0, 12])
TARGETS = torch.tensor([0, 0, 0, 1, 2, 4, 8]), torch.tensor([1, 2, 2, 3, 3, 0, 12])  # one twice; three have entries
KINDS = ["squared", "linear", "paper", "inner"]


def plain(queries, items, score, entries, rates, targets, weights, smoothing=0.0, shift_V=None):
    logits = score.logits(queries @ items.T)
    logits = logits if shift_V is None else logits + shift_V
    logits = logits.index_put(entries, torch.logaddexp(logits[entries], rates))
    each = F.cross_entropy(logits[targets[0]], targets[1], reduction="none", label_smoothing=smoothing)
    return (each * weights).sum()


def blocked(queries, items, score, entries, rates, targets, weights, **extra):
    return blocked_cross_entropy(
        queries, items, score, entries=entries, rate_E=rates, targets=targets, weights=weights, **extra
    )


def leaves():
    """Queries, items, K, scale and log rates in float64, which all require gradients."""
    generator = torch.Generator().manual_seed(0)

    def points(n):
        space = torch.randn(n, 4, generator=generator, dtype=torch.float64)
        time = (2.0 + space.square().sum(-1, keepdim=True)).sqrt()
        return torch.cat([time, space, torch.randn(n, 1, generator=generator, dtype=torch.float64)], -1)

    tensors = (
        points(ROWS) * torch.tensor([-1.0, 1, 1, 1, 1, 0], dtype=torch.float64),
        points(COLUMNS),
        torch.tensor(2.0, dtype=torch.float64),
        torch.tensor(0.7, dtype=torch.float64),
        torch.randn(4, generator=generator, dtype=torch.float64),
    )
    return [tensor.requires_grad_() for tensor in tensors]


WEIGHTS = torch.tensor([1.0, 0.25, 0.5, 2.0, 1e-6, 0.3, 1.0], dtype=torch.float64)
SHIFT = torch.linspace(-1, 1, COLUMNS, dtype=torch.float64).index_fill(0, ENTRIES[1], 0.0)


@pytest.fixture(params=[(1, 1), (4, 5), (9, 13), (100, 1_000)])
def _block(request, monkeypatch):
    monkeypatch.setitem(loss_module._SIZES, "cpu", loss_module._Sizes(*request.param))


@pytest.mark.usefixtures("_block")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_term", [True, False])
@pytest.mark.parametrize("extra", [{}, {"smoothing": 0.3}, {"shift_V": SHIFT}], ids=["plain", "smoothing", "shift"])
def test_value_and_gradients_equal_the_plain_loss(kind, with_term, extra):
    results = []
    for function in (blocked, plain):
        queries, items, K, scale, rates = given = leaves()
        entries = ENTRIES if with_term else (ENTRIES[0][:0], ENTRIES[1][:0])
        value = function(
            queries,
            items,
            Score(kind, K, scale),
            entries,
            rates if with_term else rates[:0],
            TARGETS,
            WEIGHTS,
            **extra,
        )
        (3 * value).backward()
        results.append((value.detach(), [torch.zeros_like(x) if x.grad is None else x.grad for x in given]))
    torch.testing.assert_close(results[0][0], results[1][0])
    for mine, expected in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_with_differences(kind):
    def value(queries, items, K, scale, rates):
        return blocked(queries, items, Score(kind, K, scale), ENTRIES, rates, TARGETS, WEIGHTS)

    assert torch.autograd.gradcheck(value, leaves())


def test_only_the_required_gradients_are_computed():
    queries, items, K, scale, rates = (tensor.detach() for tensor in leaves())
    items.requires_grad_()
    blocked(queries, items, Score("squared", K, scale), ENTRIES, rates, TARGETS, WEIGHTS).backward()
    assert items.grad.abs().sum() > 0
    assert queries.grad is None


def test_large_logits_neither_overflow_nor_vanish():
    queries = torch.tensor([[300.0, 1.0]], requires_grad=True)
    items = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    empty = torch.zeros(0, dtype=torch.long)
    score = Score("inner", torch.tensor(1.0), torch.tensor(1.0))
    target = torch.tensor([0]), torch.tensor([1])
    value = blocked(queries, items, score, (empty, empty), torch.zeros(0), target, torch.ones(1))
    value.backward()
    assert value.item() == 600.0
    assert items.grad[:, 0].tolist() == [300.0, -300.0]


def test_without_gradients_only_the_value_is_computed():
    score = Score("inner", torch.tensor(1.0), torch.tensor(1.0))
    empty = torch.zeros(0, dtype=torch.long)
    with torch.no_grad():
        value = blocked_cross_entropy(
            torch.randn(3, 4),
            torch.randn(5, 4),
            score,
            entries=(empty, empty),
            rate_E=torch.zeros(0),
            targets=(torch.tensor([0]), torch.tensor([2])),
        )
    assert value > 0


@pytest.mark.parametrize("kind", ["linear", "paper"])
def test_a_user_at_an_items_point_gets_the_gradient_of_autograd(kind):
    space = torch.tensor([[0.5, -1.0], [0.5, -1.0], [3.0, 2.0]])
    points = torch.cat([(2.0 + space.square().sum(-1, keepdim=True)).sqrt(), space], -1)
    vectors = torch.nn.functional.pad(points, (0, 1))
    queries = vectors[:1] * torch.tensor([-1.0, 1, 1, 0])
    assert torch.equal(queries @ vectors[:1].T, torch.tensor([[-2.0]]))
    results = []
    for function in (blocked, plain):
        mine = [tensor.clone().requires_grad_() for tensor in (queries, vectors)]
        score = Score(kind, torch.tensor(2.0, requires_grad=True), torch.tensor(0.7, requires_grad=True))
        empty = torch.zeros(0, dtype=torch.long)
        target = torch.tensor([0]), torch.tensor([2])
        function(*mine, score, (empty, empty), torch.zeros(0), target, torch.ones(1)).backward()
        results.append([tensor.grad for tensor in (*mine, score.K)])
    for got, expected in zip(*results, strict=True):
        assert got.isfinite().all()
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)
