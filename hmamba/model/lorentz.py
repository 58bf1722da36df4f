"""The Lorentz model of hyperbolic space, as pure functions.

Glossary (paper, section 3; Algorithm 1):

=========  ==============================================================================================
``K``      minus the inverse of the curvature, K = 1/|c| > 0; a float or a scalar tensor
``<x,y>``  Lorentz inner product, -x_0 y_0 + sum_i x_i y_i
point      a vector of d + 1 coordinates on {x : <x,x> = -K, x_0 > 0}; x_0 is its *time*, the rest its *space*
``o``      the origin (sqrt(K), 0, ..., 0)
tangent    a vector of d coordinates: a tangent vector at the origin, whose time coordinate is always zero
=========  ==============================================================================================

Only space coordinates are stored and bounded. Time is always derived from them, so a point cannot leave the
hyperboloid. All functions are differentiable, also at the origin. Shapes broadcast; the last axis is the coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

Curvature = float | Tensor


def _root(K: Curvature, like: Tensor) -> Tensor:
    return torch.as_tensor(K, dtype=like.dtype, device=like.device).sqrt()


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Lorentz inner products (...) of points (..., d + 1)."""
    return (x[..., 1:] * y[..., 1:]).sum(-1) - x[..., 0] * y[..., 0]


def flip(x: Tensor) -> Tensor:
    """Negate the time coordinate: the dot product of the result and a point is their Lorentz inner product."""
    return torch.cat([-x[..., :1], x[..., 1:]], dim=-1)


def lift(space: Tensor, *, K: Curvature) -> Tensor:
    """Prepend the time coordinate sqrt(K + |space|^2) to space coordinates (..., d)."""
    time = (K + space.square().sum(-1, keepdim=True)).sqrt()
    return torch.cat([time, space], dim=-1)


def _safe_norm(v: Tensor) -> Tensor:
    """Euclidean norm whose gradient at zero is zero instead of undefined."""
    square = v.square().sum(-1, keepdim=True)
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, torch.ones_like(square)).sqrt(), square)


def _sinhc(z: Tensor) -> Tensor:
    """sinh(z) / z, by its series near zero."""
    small = z.abs() < 1e-3
    safe = torch.where(small, torch.ones_like(z), z)
    return torch.where(small, 1 + z.square() / 6, torch.sinh(safe) / safe)


def bound(v: Tensor, limit: Curvature) -> Tensor:
    """Shrink tangents so that their norm stays under ``limit``: v / sqrt(1 + |v|^2 / limit^2).

    The error of float32 in <u,v>/K is about eps e^(2R) / 4 at norm R sqrt(K), so ranks are reliable only near the
    origin. Unlike a clamp, this has a non-zero gradient everywhere, so no item gets stuck at the limit.
    """
    return v * torch.rsqrt(1 + v.square().sum(-1, keepdim=True) / limit**2)


def exp0(v: Tensor, *, K: Curvature) -> Tensor:
    """Exponential map at the origin: tangents (..., d) to points (..., d + 1).

    exp_o(v) = cosh(|v|/sqrt K) o + sqrt K sinh(|v|/sqrt K) v/|v| (Algorithm 1, line 2).
    """
    return lift(v * _sinhc(_safe_norm(v) / _root(K, v)), K=K)


def distance0(x: Tensor, *, K: Curvature) -> Tensor:
    """Geodesic distance of points from the origin."""
    root = _root(K, x)
    return root * torch.asinh(_safe_norm(x[..., 1:]).squeeze(-1) / root)


def least_gap(dtype: torch.dtype) -> float:
    """The gap <x-y,x-y> below which two points count as equal."""
    return torch.finfo(dtype).eps ** 2


def distance_from_gap(gap: Tensor, *, K: Curvature) -> Tensor:
    """Geodesic distance sqrt(K) arcosh(-<x,y>/K) of two points, from their gap <x-y,x-y> = -2K - 2<x,y>.

    Computed as 2 sqrt(K) asinh(sqrt(gap / 4K)), because arcosh loses half the digits near 1, that is for near points.
    The gap is clamped at :func:`least_gap`, so the gradient at equal points is zero instead of infinite.
    """
    root = _root(K, gap)
    return 2 * root * torch.asinh((gap.clamp_min(least_gap(gap.dtype)) / (4 * K)).sqrt())
