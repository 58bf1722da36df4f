"""Full softmax over the catalogue, in blocks, so that the logits are never held whole.

For R rows and V items the logits would take 4 R V bytes, three times over with their gradients. Here a block of rows is
scored, differentiated and forgotten before the next one: memory is that of one block, and the cost is the three matrix
products that the gradient needs anyway.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hmamba.model.scores import Score, ScoreKind

_BLOCK_LOGITS = 1 << 22  # 16 MB of float32: stays near the caches, large enough for the matrix product


def _block_loss(
    logits: Tensor, had: tuple[Tensor, Tensor], habit: Tensor, targets: tuple[Tensor, Tensor], weights: Tensor
) -> Tensor:
    if habit.numel():
        logits = logits.index_put(had, torch.logaddexp(logits[had], habit))
    normaliser = torch.logsumexp(logits, dim=-1)
    return ((normaliser[targets[0]] - logits[targets]) * weights).sum()


class _BlockedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, kind, had, targets, weights = inputs
        needs = [tensor.requires_grad for tensor in tensors]
        leaves = [tensor.detach().requires_grad_(need) for tensor, need in zip(tensors, needs, strict=True)]
        queries, items, K, scale, habit = leaves
        wanted = [leaf for leaf, need in zip(leaves, needs, strict=True) if need]
        grads = [torch.zeros_like(leaf) for leaf in wanted]
        block = max(1, _BLOCK_LOGITS // len(items))
        total = queries.new_zeros(())
        bounds = torch.arange(0, len(queries) + block, block, device=queries.device)
        had_cuts = torch.searchsorted(had[0], bounds).tolist()
        target_cuts = torch.searchsorted(targets[0], bounds).tolist()
        for number, start in enumerate(range(0, len(queries), block)):
            e = slice(*had_cuts[number : number + 2])
            t = slice(*target_cuts[number : number + 2])
            with torch.enable_grad():
                products = queries[start : start + block] @ items.T
                loss = _block_loss(
                    Score(kind, K, scale).logits(products),
                    (had[0][e] - start, had[1][e]),
                    habit[e],
                    (targets[0][t] - start, targets[1][t]),
                    weights[t],
                )
            if wanted:
                for grad, part in zip(
                    grads, torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True), strict=True
                ):
                    grad += part
            total += loss.detach()
        ctx.needs = needs
        ctx.save_for_backward(*grads)
        loss_sum: Tensor = total
        return loss_sum

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        grads = iter(ctx.saved_tensors)
        return (*(outputs[0] * next(grads) if need else None for need in ctx.needs), None, None, None, None)


def blocked_cross_entropy(
    queries_RX: Tensor,
    items_VX: Tensor,
    score: Score,
    *,
    had: tuple[Tensor, Tensor],
    habit_E: Tensor,
    targets: tuple[Tensor, Tensor],
    weights: Tensor | None = None,
) -> Tensor:
    """Sum over targets of weight times -log softmax(logits of the target's row)[target].

    Args:
        queries_RX: query vectors.
        items_VX: vectors of the items that compete.
        score: turns inner products into logits.
        had: (row, column) of what the rows' users have had, sorted by row, each once.
        habit_E: log rates of taking it again, see :mod:`hmamba.model.habit`.
        targets: (row, column) of each target, sorted by row.
        weights: of the targets; 1 each if None.

    Returns:
        A scalar, differentiable in the queries, items, score parameters and log rates.
    """
    kind: ScoreKind = score.kind
    if weights is None:
        weights = queries_RX.new_ones(len(targets[0]))
    loss: Tensor = _BlockedCrossEntropy.apply(
        queries_RX, items_VX, score.K, score.scale, habit_E, kind, had, targets, weights
    )  # type: ignore[no-untyped-call]
    return loss
