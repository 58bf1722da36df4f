"""The algebra of the Lorentz model, in float64 against geoopt and in float32 by its own laws."""

from __future__ import annotations

import geoopt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hmamba.model import lorentz

CURVATURES = [0.25, 1.0, 64.0]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4}


def tangents(seed: int, n: int, dim: int, norm: float, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    v = v / v.norm(dim=-1, keepdim=True) * torch.rand(n, 1, generator=generator, dtype=torch.float64) * norm
    return v.to(dtype)


def distance(x: torch.Tensor, y: torch.Tensor, K: float) -> torch.Tensor:
    return lorentz.distance_from_gap(lorentz.inner(x - y, x - y), K=K)


shapes = given(
    seed=st.integers(0, 2**16),
    dim=st.integers(1, 8),
    K=st.sampled_from(CURVATURES),
    norm=st.floats(0, 4),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)


@shapes
@settings(max_examples=60)
def test_points_lie_on_the_hyperboloid_and_lead_back_to_their_tangents(seed, dim, K, norm, dtype):
    v = tangents(seed, 5, dim, norm * K**0.5, dtype)
    x = lorentz.exp0(v, K=K)
    scale = x[..., 0].square().max()
    assert torch.allclose(lorentz.inner(x, x) / scale, -K / scale * torch.ones(5, dtype=dtype), atol=TOLERANCE[dtype])
    space = x[..., 1:].double()
    length = space.norm(dim=-1, keepdim=True)
    back = (space * (K**0.5 * torch.asinh(length / K**0.5) / length.clamp_min(1e-300))).to(dtype)
    assert torch.allclose(back, v, atol=TOLERANCE[dtype] * K**0.5, rtol=TOLERANCE[dtype])
    assert torch.allclose(lorentz.distance0(x, K=K), v.norm(dim=-1), atol=TOLERANCE[dtype] * K**0.5, rtol=1e-4)


@shapes
@settings(max_examples=60)
def test_distance_is_a_metric_and_geodesics_through_the_origin_have_unit_speed(seed, dim, K, norm, dtype):
    x, y, z = (lorentz.exp0(tangents(seed + i, 4, dim, norm * K**0.5, dtype), K=K) for i in range(3))
    xy, yz, xz = (distance(a, b, K) for a, b in ((x, y), (y, z), (x, z)))
    slack = 5e-3 * K**0.5 if dtype is torch.float32 else 1e-6 * K**0.5
    assert torch.allclose(xy, distance(y, x, K), atol=slack)
    assert (xz <= xy + yz + slack).all()
    assert distance(x, x, K).abs().max() <= slack
    v = tangents(seed, 4, dim, norm * K**0.5, dtype)
    half = distance(lorentz.exp0(v, K=K), lorentz.exp0(v / 2, K=K), K)
    assert torch.allclose(half, v.norm(dim=-1) / 2, atol=slack, rtol=1e-3)


@pytest.mark.parametrize("K", CURVATURES)
def test_geoopt_agrees_in_float64(K):
    manifold = geoopt.manifolds.Lorentz(k=K)
    u, v = (tangents(seed, 16, 5, 3 * K**0.5, torch.float64) for seed in range(2))
    zero = torch.zeros(16, 1, dtype=torch.float64)
    x, y = lorentz.exp0(u, K=K), lorentz.exp0(v, K=K)
    torch.testing.assert_close(x, manifold.expmap0(torch.cat([zero, u], -1)))
    torch.testing.assert_close(torch.cat([zero, u], -1), manifold.logmap0(x))
    torch.testing.assert_close(distance(x, y, K), manifold.dist(x, y), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(lorentz.distance0(x, K=K), manifold.dist0(x))
    torch.testing.assert_close(lorentz.inner(x, y), manifold.inner(x, x, y))


def test_gradients_exist_at_the_origin_and_agree_with_differences():
    v = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    lorentz.exp0(v, K=2.0).sum().backward()
    assert torch.isfinite(v.grad).all()
    w = tangents(3, 3, 4, 2.0, torch.float64).requires_grad_()
    K = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w, K: lorentz.exp0(w, K=K), (w, K))


def test_distance_has_a_finite_gradient_between_equal_points():
    x = lorentz.exp0(tangents(1, 3, 4, 1.0, torch.float32), K=1.0).requires_grad_()
    distance(x, x.detach(), 1.0).sum().backward()
    assert torch.isfinite(x.grad).all()


@given(norm=st.floats(0, 1e6), limit=st.floats(0.5, 10))
@settings(max_examples=50)
def test_bound_stays_below_its_limit_and_never_loses_the_gradient(norm, limit):
    v = torch.tensor([[norm, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    bounded = lorentz.bound(v, limit)
    assert bounded.norm() <= limit
    bounded.sum().backward()
    assert v.grad[0, 0] > 0


def test_float32_ranks_as_float64_does_where_norms_are_bounded():
    K, generator = 64.0, torch.Generator().manual_seed(0)
    v = torch.randn(4000, 64, generator=generator, dtype=torch.float64)
    v = lorentz.bound(v / v.norm(dim=-1, keepdim=True) * 100, 4 * K**0.5)
    x = lorentz.exp0(v, K=K)
    exact = lorentz.flip(x[:50]) @ x.T
    single = lorentz.flip(x[:50].float()) @ x.float().T
    same = [
        len(set(a.tolist()) & set(b.tolist())) / 100
        for a, b in zip(exact.topk(100).indices, single.topk(100).indices, strict=True)
    ]
    assert sum(same) / len(same) > 0.98
