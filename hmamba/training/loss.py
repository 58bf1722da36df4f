"""The softmax over the items that compete, in blocks, so that the logits are never held whole.

For R rows and V items the logits would take 4 R V bytes, three times over with their gradients. Here a block of rows is
scored, differentiated and forgotten before the next one: memory is that of one block, and the cost is the three matrix
products that the gradient needs anyway.

The gradient is written out, not recorded. With products P = q . v, logits l = g(P), W_r the weight of all targets of
row r and p_r its softmax, the loss is sum_r W_r logsumexp(l_r) - sum_t w_t l_t, so

    dl[r, v] = W_r p_r[v] - (w_t summed over the targets t = (r, v))            dP = dl g'(P)

With label smoothing a target keeps 1 - s of its weight and s is spread over all columns: the mean logit enters the
loss, and W_r s / V is taken off every dl.

The factor W_r is left to the narrow matrices on either side of dl. Where a user has had the item the logit is
log(exp(l) + exp(h)), and dl is shared out between l and h as the two rates are; such entries are few. ``squared`` and
``inner`` are P plus a constant c, which a softmax does not see and which habit meets as h - c: they need neither g' nor
gradients in K and scale here. The other scores are recorded, elementwise only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hmamba.model.scores import Score, ScoreKind

_BLOCK_LOGITS = {"cpu": 1 << 21, "cuda": 1 << 26}
"""Most logits of a block, of which two are held. Measured on the CPU at 12,101 and 24,000 items: under 2^20 the matrix
products are too narrow, past 2^22 the passes leave the caches. A GPU wants fewer and larger kernels; not measured."""

_AFFINE: tuple[ScoreKind, ...] = ("squared", "inner", "euclidean")

_Pairs = tuple[Tensor, Tensor]


def _softmax_gradient(
    logits_BV: Tensor,
    out_BV: Tensor,
    had: _Pairs,
    habit_E: Tensor,
    targets: _Pairs,
    weights_t: Tensor,
    smoothing: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Write the loss's gradient in the logits to ``out_BV``, but for a factor a row. Habit is added to the logits.

    Returns:
        The loss, the rows' factors (B,) and the gradient (E,) in the habit's log rates.
    """
    taste_share_E = habit_E
    if len(habit_E):
        taste_E = logits_BV[had]
        taste_share_E = torch.sigmoid(taste_E - habit_E)
        logits_BV[had] = torch.logaddexp(taste_E, habit_E)
    torch.softmax(logits_BV, 1, out=out_BV)
    # The largest probability cannot underflow, so it gives the normaliser without another pass of exponentials.
    normaliser_B = logits_BV.amax(1) - out_BV.amax(1).log()
    factor_B = torch.zeros_like(normaliser_B).index_add_(0, targets[0], weights_t)
    kept_t = weights_t * (1 - smoothing)
    loss = ((normaliser_B[targets[0]] - logits_BV[targets]) * kept_t).sum()
    share_t = kept_t / factor_B.clamp_min(torch.finfo(factor_B.dtype).tiny)[targets[0]]
    if smoothing:
        loss += smoothing * ((normaliser_B - logits_BV.mean(1)) * factor_B).sum()
        out_BV.sub_(smoothing / logits_BV.shape[1])
    out_BV.index_put_(targets, -share_t, accumulate=True)
    habit_grad_E = habit_E
    if len(habit_E):
        both_E = out_BV[had]
        out_BV[had] = both_E * taste_share_E
        habit_grad_E = both_E * (1 - taste_share_E) * factor_B[had[0]]
    return loss, factor_B, habit_grad_E


class _BlockedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        queries, items, K, scale, habit, kind, had, targets, weights, shift, smoothing = inputs
        affine = kind in _AFFINE
        grads = [
            torch.zeros_like(tensor) if need else None
            for tensor, need in zip(inputs[:5], ctx.needs_input_grad[:5], strict=True)
        ]
        block = max(1, min(_BLOCK_LOGITS[queries.device.type] // len(items), len(queries)))
        buffers = queries.new_empty(2, block, len(items))
        total = queries.new_zeros(())
        bounds = torch.arange(0, len(queries) + block, block, device=queries.device)
        had_cuts, target_cuts = torch.stack([torch.searchsorted(x[0], bounds) for x in (had, targets)]).tolist()
        for number, start in enumerate(range(0, len(queries), block)):
            e, t = (slice(*cuts[number : number + 2]) for cuts in (had_cuts, target_cuts))
            rows = queries[start : start + block]
            logits, gradient = buffers[:, : len(rows)]
            if affine:
                torch.addmm(shift, rows, items.T, out=logits)
            else:
                torch.mm(rows, items.T, out=logits)
                leaves = [leaf.detach().requires_grad_() for leaf in (logits, K, scale)]
                with torch.enable_grad():
                    recorded = Score(kind, leaves[1], leaves[2]).logits(leaves[0])
                logits = recorded.detach() + shift
            loss, factor, habit_grad = _softmax_gradient(
                logits,
                gradient,
                (had[0][e] - start, had[1][e]),
                habit[e],
                (targets[0][t] - start, targets[1][t]),
                weights[t],
                smoothing,
            )
            total += loss
            if not any(ctx.needs_input_grad):
                continue
            if not affine:
                gradient, *scalars = torch.autograd.grad(
                    recorded, leaves, gradient.mul_(factor[:, None]), allow_unused=True, materialize_grads=True
                )
                factor = torch.ones_like(factor)
                for grad, part in zip(grads[2:4], scalars, strict=True):
                    if grad is not None:
                        grad += part
            if grads[0] is not None:
                torch.mm(gradient, items, out=grads[0][start : start + block]).mul_(factor[:, None])
            if grads[1] is not None:
                grads[1].addmm_(gradient.T, rows * factor[:, None])
            if grads[4] is not None:
                grads[4][e] = habit_grad
        ctx.save_for_backward(*grads)
        loss_sum: Tensor = total
        return loss_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Any) -> Any:
        grads = (None if grad is None else outputs[0] * grad for grad in ctx.saved_tensors)
        return (*grads, None, None, None, None, None, None)


def blocked_cross_entropy(
    queries_RX: Tensor,
    items_VX: Tensor,
    score: Score,
    *,
    had: tuple[Tensor, Tensor],
    habit_E: Tensor,
    targets: tuple[Tensor, Tensor],
    weights: Tensor | None = None,
    shift_V: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Sum over targets of weight times -log softmax(logits of the target's row)[target].

    Computed in the queries' precision, whatever autocast says.

    Args:
        queries_RX: query vectors.
        items_VX: vectors of the items that compete.
        score: turns inner products into logits.
        had: (row, column) of what the rows' users have had, sorted by row, each once.
        habit_E: log rates of taking it again, see :mod:`hmamba.model.habit`.
        targets: (row, column) of each target, sorted by row.
        weights: of the targets; 1 each if None.
        shift_V: added to the logits, see :mod:`hmamba.training.negatives`; zero where somebody has had the item.
        smoothing: share of each target's weight that is spread over all columns.

    Returns:
        A scalar, differentiable once in the queries, items, score parameters and log rates.
    """
    if weights is None:
        weights = queries_RX.new_ones(len(targets[0]))
    if shift_V is None:
        shift_V = queries_RX.new_zeros(len(items_VX))
    if score.kind in _AFFINE:
        habit_E = habit_E - score.logits(torch.zeros_like(score.K))
    with torch.autocast(queries_RX.device.type, enabled=False):
        loss: Tensor = _BlockedCrossEntropy.apply(
            queries_RX, items_VX, score.K, score.scale, habit_E, score.kind, had, targets, weights, shift_V, smoothing
        )  # type: ignore[no-untyped-call]
    return loss
