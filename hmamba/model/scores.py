"""Base scores: how near an item's point is to a user's point. Each is an increasing function of an inner product.

``<u,v>_L`` is a dot product once the time coordinate of u is negated (:func:`.lorentz.flip`). Every score here is
``g(query . item)`` with g increasing, so a FAISS inner-product index ranks exactly under each of them.

=========  ====================================================  ==========================================
squared    s (2K + 2<u,v>_L) + b_v, minus the squared distance   Fully Hyperbolic Neural Networks (2105.14686)
linear     -s d(u,v)                                             MERU (2304.09172)
paper      -2 sqrt(K) arcosh(-<u,v>_L / K) = -2 d(u,v)           HMamba, Algorithm 1
inner      2s (u . v) + b_v, over space coordinates              HMamba-Half
euclidean  s (2 u . v - |v|^2) + b_v, minus |u - v|^2 + |u|^2    flat space: the limit of "squared" for large K
=========  ====================================================  ==========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hmamba.model import lorentz

ScoreKind = Literal["squared", "linear", "paper", "inner", "euclidean"]


@dataclass(frozen=True)
class Score:
    """A score at one curvature: maps points to vectors, and inner products of these vectors to logits."""

    kind: ScoreKind
    K: Tensor
    scale: Tensor

    @property
    def is_affine(self) -> bool:
        """Whether logits are affine in the inner product, so that the mean logit is the logit of the mean product."""
        return self.kind in ("squared", "inner", "euclidean")

    def queries(self, u_Rd1: Tensor) -> Tensor:
        """Query vectors (R, d + 2) of users' points (R, d + 1); the last coordinate, 1, multiplies the item bias."""
        if self.kind == "squared":
            vector = 2 * self.scale * lorentz.flip(u_Rd1)
        elif self.kind == "inner":
            vector = 2 * self.scale * torch.cat([torch.zeros_like(u_Rd1[:, :1]), u_Rd1[:, 1:]], dim=-1)
        elif self.kind == "euclidean":  # factors of |v|^2 and of v
            vector = self.scale * torch.cat([-torch.ones_like(u_Rd1[:, :1]), 2 * u_Rd1[:, 1:]], dim=-1)
        else:
            vector = lorentz.flip(u_Rd1)
        return torch.cat([vector, torch.ones_like(u_Rd1[:, :1])], dim=-1)

    def items(self, v_Vd1: Tensor, bias_V: Tensor | None) -> Tensor:
        """Item vectors (V, d + 2) of items' points (V, d + 1)."""
        bias = torch.zeros_like(v_Vd1[:, 0]) if bias_V is None else bias_V
        return torch.cat([v_Vd1, bias[:, None]], dim=-1)

    def logits(self, product: Tensor) -> Tensor:
        """Logits of inner products, of any shape. Increasing, so ranks are preserved."""
        if self.kind in ("inner", "euclidean"):
            return product
        if self.kind == "squared":
            return product + 2 * self.scale * self.K
        distance = lorentz.distance_from_gap(-2 * self.K - 2 * product, K=self.K)
        return -self.scale * distance if self.kind == "linear" else -2 * distance

    def logits_of(self, product: Tensor, slope: Tensor) -> Tensor:
        """:meth:`logits` of a distance score without autograd; ``slope`` receives their derivatives in the products.

        With q = (-P/K - 1) / 2 the logit is -2 s sqrt(K) asinh(sqrt q), its derivative s / (2 sqrt(K q (q + 1))).
        On a CPU, asinh(r) = log1p(r + r^2 / (1 + sqrt(1 + r^2))) is several times as fast as ``torch.asinh``.
        """
        factor, least = self.scale if self.kind == "linear" else 2.0, lorentz.least_gap(product.dtype)
        q = torch.mul(product, -2).sub_(2 * self.K).clamp_min_(least).div_(4 * self.K)
        root, secant = q.sqrt(), (q + 1).sqrt_()
        torch.mul(root, secant, out=slope).reciprocal_().mul_(factor / (2 * self.K.sqrt()))
        slope.mul_(q > least / (4 * self.K))
        return q.div_(secant.add_(1)).add_(root).log1p_().mul_(-2 * factor * self.K.sqrt())

    def scalar_gradients(self, times_logit: Tensor, times_product: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients in K and in the scale of a function of the logits l of a distance score.

        l is proportional to the scale, and to sqrt(K) for fixed P/K. With G the gradient in the logits and G' that in
        the products P, the gradients are sum(G l) / 2K - sum(G' P) / K and sum(G l) / s.

        Args:
            times_logit: sum(G l).
            times_product: sum(G' P).
        """
        of_scale = times_logit / self.scale if self.kind == "linear" else torch.zeros_like(self.scale)
        return (times_logit / 2 - times_product) / self.K, of_scale
