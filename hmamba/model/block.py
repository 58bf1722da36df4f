"""One HMamba block: a selective state space, gated, then a feed-forward network (paper, figure 2 and Algorithm 1).

Linear -> Conv1d -> SiLU -> SSM -> LayerNorm, gated by Linear -> SiLU; then FFN; residual and LayerNorm around both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmamba.model import lorentz
from hmamba.model.conv import causal_conv
from hmamba.model.kernels import Scan

if TYPE_CHECKING:
    from hmamba.config import ModelConfig

_DT_MIN, _DT_MAX = 1e-3, 1e-1  # Mamba's range of initial step sizes


class BlockState(NamedTuple):
    """The state that a block needs to continue a sequence.

    Attributes:
        conv: (B, d_conv - 1, E + 2 N) last inputs of the convolution, oldest first; zeros before the first token.
        ssm: (B, H, P, N) state of the state space after the last token.
    """

    conv: Tensor
    ssm: Tensor


class SelectiveStateSpace(nn.Module):
    """Mamba-2's mixer with the paper's curvature-aware discretisation.

    HMamba-Full (paper, eq. for A_bar): A_bar = exp(Delta A (.) K(k)) with K(k) = diag(sqrt|k|, 1, ..., 1). In
    Mamba-2 A is one scalar per head, so K(k) scales whole heads. Head 0 is the time-like head: it reads the same lifted
    input as the other heads, and only its decay depends on the curvature. HMamba-Half does not scale A.
    """

    def __init__(self, config: ModelConfig, inputs: int, scan: Scan) -> None:
        super().__init__()
        self.inner, self.size = config.dim * config.expand, config.d_state
        self.head_dim, self.heads = config.head_dim, config.dim * config.expand // config.head_dim
        self.hyperbolic, self.chunk, self.scan = config.variant == "full", config.chunk, scan
        self.mixed = self.inner + 2 * self.size
        self.project_in = nn.Linear(inputs, self.inner + self.mixed + self.heads, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(self.mixed, config.d_conv))
        self.conv_bias = nn.Parameter(torch.zeros(self.mixed))
        self.log_a = nn.Parameter(torch.empty(self.heads))
        self.dt_bias = nn.Parameter(torch.empty(self.heads))
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.norm = nn.LayerNorm(self.inner)
        self.project_out = nn.Linear(self.inner, config.dim, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw Mamba-2's initial values: A in [1, 16], step sizes log-uniform in [0.001, 0.1]."""
        nn.init.kaiming_uniform_(self.conv_weight, a=math.sqrt(5))
        with torch.no_grad():
            self.log_a.uniform_(1, 16).log_()
            dt = torch.empty(self.heads).uniform_(math.log(_DT_MIN), math.log(_DT_MAX)).exp_()
            self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus

    def start(self, rows: int, like: Tensor) -> BlockState:
        """Initial state of ``rows`` sequences, with the dtype and on the device of ``like``."""
        conv_BKE = like.new_zeros(rows, self.conv_weight.shape[-1] - 1, self.mixed)
        return BlockState(conv_BKE, like.new_zeros(rows, self.heads, self.head_dim, self.size))

    def project(self, x_BTI: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project tokens to gate (.., E), convolution inputs for x, B, C (.., E + 2 N) and raw step sizes (.., H)."""
        gate_BTE, input_BTM, dt_BTH = self.project_in(x_BTI).split([self.inner, self.mixed, self.heads], dim=-1)
        return gate_BTE, input_BTM, dt_BTH

    def close(self, y_BTE: Tensor, gate_BTE: Tensor) -> Tensor:
        """Normalise, gate and project the output of the state space."""
        out_BTd: Tensor = self.project_out(self.norm(y_BTE) * F.silu(gate_BTE))
        return out_BTd

    def forward(
        self,
        x_BTI: Tensor,
        segment_BT: Tensor | None,
        curvature: Tensor,
        state: BlockState | None = None,
        length_B: Tensor | None = None,
    ) -> tuple[Tensor, BlockState | None]:
        """Mix tokens (B, T, inputs) into (B, T, dim).

        Args:
            x_BTI: tokens.
            segment_BT: sequence of each token; None if each row is one sequence.
            curvature: |k| = 1/K, a scalar.
            state: state to continue from; each row must then be one sequence.
            length_B: number of tokens of each row, followed by padding; None if there is no padding.

        Returns:
            The mixed tokens, and the state after each row's last token (None if ``state`` is None).
        """
        gate_BTE, input_BTE, dt_BTH = self.project(x_BTI)
        before_BKE = None if state is None else state.conv
        mixed_BTE = F.silu(causal_conv(input_BTE, self.conv_weight, self.conv_bias, segment_BT, before_BKE))
        x_BTE, B_BTN, C_BTN = torch.split(mixed_BTE, [self.inner, self.size, self.size], dim=-1)
        dt_BTH = F.softplus(dt_BTH + self.dt_bias)
        if length_B is not None:  # a step size of 0 keeps the state
            dt_BTH = dt_BTH * (torch.arange(dt_BTH.shape[1], device=dt_BTH.device) < length_B[:, None])[..., None]
        y_BTHP, ssm_BHPN = self.scan(
            x_BTE.view(*x_BTE.shape[:2], self.heads, self.head_dim),
            dt_BTH,
            self.decay(curvature),
            B_BTN,
            C_BTN,
            self.skip,
            segment_BT=segment_BT,
            state_BHPN=None if state is None else state.ssm,
            chunk=self.chunk,
        )
        out_BTd = self.close(y_BTHP.flatten(2), gate_BTE)
        if before_BKE is None:
            return out_BTd, None
        first_B = torch.full_like(dt_BTH[:, 0, 0], x_BTI.shape[1], dtype=torch.long) if length_B is None else length_B
        place_BK = first_B[:, None] + torch.arange(before_BKE.shape[1], device=x_BTI.device)
        whole_BTE = torch.cat([before_BKE, input_BTE], dim=1)
        return out_BTd, BlockState(whole_BTE.gather(1, place_BK[..., None].expand_as(before_BKE)), ssm_BHPN)

    def decay(self, curvature: Tensor) -> Tensor:
        """A (.) K(k): one negative scalar per head, the first scaled by sqrt|k| in HMamba-Full."""
        A_H = -torch.exp(self.log_a)
        if not self.hyperbolic:
            return A_H
        return torch.cat([A_H[:1] * curvature.sqrt(), A_H[1:]])


class Block(nn.Module):
    """State space and feed-forward network, each a residual branch on tangents at the origin.

    The residual stream lies in the tangent space at the origin, where addition is defined. HMamba-Full lifts it onto
    the hyperboloid before the state space, which then reads Lorentz coordinates (d + 1, time first); the other variants
    pass the tangents on. ``norm`` places LayerNorm before each branch ("pre": the stream is a sum that carries the last
    item's own tangent to the score) or after each sum ("post", as in the paper).
    """

    def __init__(self, config: ModelConfig, scan: Scan) -> None:
        super().__init__()
        self.lifted, self.pre = config.variant == "full", config.norm == "pre"
        self.max_norm = config.max_norm
        self.mixer = SelectiveStateSpace(config, config.dim + int(self.lifted), scan)
        self.norm_mixer = nn.LayerNorm(config.dim)
        self.widen = nn.Linear(config.dim, 4 * config.dim)
        self.narrow = nn.Linear(4 * config.dim, config.dim)
        self.norm_ffn = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout or 0.0)

    def forward(
        self,
        x_BTd: Tensor,
        segment_BT: Tensor | None,
        curvature: Tensor,
        state: BlockState | None = None,
        length_B: Tensor | None = None,
    ) -> tuple[Tensor, BlockState | None]:
        """Map tangents (B, T, dim) to tangents and the state after them; see :class:`SelectiveStateSpace`."""
        mixed_BTd, after = self.mixer(self._seen(x_BTd, curvature), segment_BT, curvature, state, length_B)
        return self.close(x_BTd, mixed_BTd), after

    def project(self, x_BTd: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project each token for the state space; see :meth:`SelectiveStateSpace.project`."""
        return self.mixer.project(self._seen(x_BTd, curvature))

    def close(self, x_BTd: Tensor, mixed_BTd: Tensor) -> Tensor:
        """Add the output of the state space to the stream, then that of the feed-forward network."""
        x_BTd = x_BTd + self.dropout(mixed_BTd)
        if self.pre:
            return x_BTd + self._feed(self.norm_ffn(x_BTd))
        x_BTd = self.norm_mixer(x_BTd)
        out_BTd: Tensor = self.norm_ffn(x_BTd + self._feed(x_BTd))
        return out_BTd

    def _seen(self, x_BTd: Tensor, curvature: Tensor) -> Tensor:
        """The stream as the state space reads it: normalised, and lifted in HMamba-Full."""
        seen: Tensor = self.norm_mixer(x_BTd) if self.pre else x_BTd
        if self.lifted:
            K = 1 / curvature
            seen = lorentz.exp0(lorentz.bound(seen, self.max_norm * K.sqrt()), K=K)
            # The time coordinate is at least sqrt(K), far above the space part, so the input is the difference to it.
            seen = torch.cat([seen[..., :1] - K.sqrt(), seen[..., 1:]], dim=-1)
        return seen

    def _feed(self, x_BTd: Tensor) -> Tensor:
        fed: Tensor = self.dropout(self.narrow(self.dropout(F.gelu(self.widen(x_BTd)))))
        return fed
