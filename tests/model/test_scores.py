"""Every base score is the formula of its paper, computed from inner products of query and item vectors."""

from __future__ import annotations

import pytest
import torch

from hmamba.model import lorentz
from hmamba.model.scores import Score

KINDS = ("squared", "linear", "paper", "inner", "euclidean")
K, SCALE = torch.tensor(1.7, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)


@pytest.fixture(scope="module")
def points():
    """Users (5, 4) and items (7, 4) on the hyperboloid <x,x>_L = -K."""
    space = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    on_it = torch.cat([(K + space.square().sum(1, keepdim=True)).sqrt(), space], dim=1)
    return on_it[:5], on_it[5:]


def expected(kind, users, items):
    """The scores without biases, from the table of the module."""
    inner_RV = users[:, 1:] @ items[:, 1:].T
    lorentz_RV = inner_RV - users[:, :1] @ items[:, :1].T
    distance_RV = K.sqrt() * torch.arccosh(-lorentz_RV / K)
    return {
        "squared": SCALE * (2 * K + 2 * lorentz_RV),
        "linear": -SCALE * distance_RV,
        "paper": -2 * distance_RV,
        "inner": 2 * SCALE * inner_RV,
        "euclidean": SCALE * (2 * inner_RV - items[:, 1:].square().sum(1)),
    }[kind]


def vectors_of(kind, users, items):
    """Users and items as the score takes them; the time coordinate of flat space holds |v|^2."""
    if kind == "euclidean":
        items = torch.cat([items[:, 1:].square().sum(1, keepdim=True), items[:, 1:]], dim=1)
    return users, items


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_formula(kind, points):
    score, (users, items) = Score(kind, K, SCALE), vectors_of(kind, *points)
    product = score.queries(users) @ score.items(items, None).T
    torch.testing.assert_close(score.logits(product), expected(kind, *points))


@pytest.mark.parametrize("kind", ["squared", "inner", "euclidean"])
def test_the_bias_of_an_item_is_added_to_its_score(kind, points):
    score, (users, items) = Score(kind, K, SCALE), vectors_of(kind, *points)
    bias = torch.arange(7, dtype=torch.float64)
    product = score.queries(users) @ score.items(items, bias).T
    torch.testing.assert_close(score.logits(product), expected(kind, *points) + bias)


@pytest.mark.parametrize("kind", ["linear", "paper"])
def test_the_fast_distance_has_the_values_and_slopes_of_the_exact_one(kind, points):
    score, (users, items) = Score(kind, K, SCALE), points
    product = (score.queries(users) @ score.items(items, None).T).requires_grad_()
    logits = score.logits(product)
    (slope,) = torch.autograd.grad(logits.sum(), product)
    fast_slope = torch.empty_like(slope)
    fast = score.logits_of(product.detach(), fast_slope)
    torch.testing.assert_close(fast, logits.detach())
    torch.testing.assert_close(fast_slope, slope)
    assert (slope > 0).all()


@pytest.mark.parametrize("kind", ["linear", "paper"])
def test_the_slope_is_finite_where_user_and_item_meet(kind):
    product, slope = torch.tensor([[-1.7, -1.6]], dtype=torch.float64), torch.empty(1, 2, dtype=torch.float64)
    logits = Score(kind, K, SCALE).logits_of(product, slope)
    assert torch.isfinite(logits).all()
    assert slope.tolist() == [[0.0, 0.0]]
    assert lorentz.least_gap(torch.float64) > 0


@pytest.mark.parametrize("kind", ["linear", "paper"])
def test_gradients_in_the_curvature_and_the_scale_follow_from_two_sums(kind, points):
    k, scale = K.clone().requires_grad_(), SCALE.clone().requires_grad_()
    users, items = points
    product = (lorentz.flip(users) @ items.T).detach().requires_grad_()
    weights = torch.linspace(-1, 2, 35, dtype=torch.float64).view(5, 7)
    logits = Score(kind, k, scale).logits(product)
    of_product, of_k, of_scale = torch.autograd.grad((weights * logits).sum(), [product, k, scale], allow_unused=True)
    found = Score(kind, K, SCALE).scalar_gradients((weights * logits).sum().detach(), (of_product * product).sum())
    torch.testing.assert_close(found[0].detach(), of_k)
    torch.testing.assert_close(found[1].detach(), torch.zeros_like(SCALE) if of_scale is None else of_scale)
