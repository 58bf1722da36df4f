"""The cross-entropy over all candidate items, in blocks, so that the full matrix of logits is never in memory.

With l_rv the base scores of row r, h_re the log rates of the entries of the model's learned term
(:class:`hmamba.terms.base.LearnedTerm`), w_t the weights of the targets and W_r their sum over a row, the loss is

    sum_r W_r log(sum_v exp(l_rv) + sum_e exp(h_re)) - sum_t w_t log(exp(l_t) + exp(h_t))

where exp(h_t) is 0 for a target without an entry. Rates add up, so the term enters the sum over all items as one number
per row. Entries and targets are few, and autograd computes their gradients. Label smoothing keeps 1 - s of each
target's weight and spreads s over all columns; the row's mean logit is then one more target, with weight W_r s.

:class:`_Normaliser` computes the sum over all items. For each block of rows it reads the items in tiles that fit the
cache, with the running maximum of the online softmax (Milakov and Gimelshein, arXiv 1805.02867). The gradient in the
products P = q . v is W_r exp(l_rv) / Z_r g'(P). It is computed while the block's exponentials are in memory; the factor
of each row is applied to the narrow matrices instead of the block. ``squared``, ``inner`` and ``euclidean`` are P plus
a constant. A softmax is invariant to the constant, which is subtracted from h, so these scores need neither g' nor
gradients in K and scale. For the distance scores, g' is stored beside the exponentials, and the gradients in K and
scale follow from two sums (:meth:`.scores.Score.scalar_gradients`): gradient times logit, and gradient times product.
The second is the inner product of the queries with their gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from hmamba.model.scores import Score, ScoreKind


class _Sizes(NamedTuple):
    rows: int  # per block; the logits of a block are in memory
    columns: int  # per tile


_SIZES = {"cpu": _Sizes(256, 1024), "cuda": _Sizes(2048, 1 << 16)}
"""Measured on the CPU with 12,101 and 27,000 items: half the rows, or one tile of all columns, take 1.5 times as long,
and more rows or columns are not faster. A GPU needs fewer and larger kernels; its values are not measured."""

_GATHERED = 1 << 16  # largest number of pairs whose vectors are in memory

_AFFINE: tuple[ScoreKind, ...] = ("squared", "inner", "euclidean")

_Pairs = tuple[Tensor, Tensor]


class _Normaliser(torch.autograd.Function):
    """Sum over rows of W_r (log(sum_v exp(l_rv) + exp(rate_r)) - smoothing mean_v l_rv), and its gradients."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        queries, items, K, scale, rate_R, kind, weights, shift, smoothing = inputs
        affine, sizes, score = kind in _AFFINE, _SIZES[queries.device.type], Score(kind, K, scale)
        grads = [
            torch.zeros_like(tensor) if need else None
            for tensor, need in zip(inputs[:5], ctx.needs_input_grad[:5], strict=True)
        ]
        scalars = not affine and any(ctx.needs_input_grad[2:4])
        # The gradients of the scalars need the queries' gradient, whose inner product with the queries they use.
        to_queries = torch.zeros_like(queries) if scalars and grads[0] is None else grads[0]
        to_vectors = to_queries is not None or grads[1] is not None
        tiles = [slice(start, start + sizes.columns) for start in range(0, len(items), sizes.columns)]
        block = min(sizes.rows, len(queries))
        buffers = [queries.new_empty(block, len(items[tile])) for tile in tiles]
        slopes = [] if affine else [torch.empty_like(buffer) for buffer in buffers]
        total, times_logit = queries.new_zeros(()), queries.new_zeros(())
        mean_shift = 0.0 if shift is None else shift.mean()
        for part in (slice(start, start + sizes.rows) for start in range(0, len(queries), sizes.rows)):
            rows, weight = queries[part], weights[part]
            top, tops = torch.full_like(weight, -torch.inf), []
            normaliser, mean, expected = (torch.zeros_like(weight) for _ in range(3))
            exponentials = [buffer[: len(rows)] for buffer in buffers]
            for number, (tile, logits) in enumerate(zip(tiles, exponentials, strict=True)):
                torch.mm(rows, items[tile].T, out=logits)
                scores = logits
                if not affine:
                    scores = score.logits_of(logits, slopes[number][: len(rows)])
                    logits.copy_(scores)
                if smoothing:
                    mean += logits.sum(1) / len(items)
                if shift is not None:
                    logits += shift[tile]
                before, top = top, torch.maximum(top, logits.amax(1))
                logits.sub_(top[:, None]).exp_()
                fade = (before - top).exp()
                normaliser = normaliser * fade + logits.sum(1)
                if scalars:
                    expected = expected * fade + (logits * scores).sum(1)
                tops.append(top)
            base = top + normaliser.log()
            total += (weight * (torch.logaddexp(base, rate_R[part]) - smoothing * (mean + mean_shift))).sum()
            share = weight * torch.sigmoid(base - rate_R[part])
            if grads[4] is not None:
                grads[4][part] = weight - share
            if scalars:
                times_logit += (share * expected / normaliser - weight * smoothing * mean).sum()
            if not to_vectors:
                continue
            for number, (tile, gradient, highest) in enumerate(zip(tiles, exponentials, tops, strict=True)):
                factor, vectors = share * (highest - base).exp(), items[tile]
                if smoothing:
                    gradient.mul_(factor[:, None]).sub_((weight * smoothing / len(items))[:, None])
                    factor = torch.ones_like(factor)
                if not affine:
                    gradient.mul_(slopes[number][: len(rows)])
                if to_queries is not None:
                    to_queries[part].addcmul_(gradient @ vectors, factor[:, None])
                if grads[1] is not None:
                    grads[1][tile].addmm_(gradient.T, rows * factor[:, None])
        if scalars and to_queries is not None:
            of_scalars = score.scalar_gradients(times_logit, (to_queries * queries).sum())
            grads[2:4] = [None if grad is None else of for grad, of in zip(grads[2:4], of_scalars, strict=True)]
        ctx.save_for_backward(*grads)
        loss_sum: Tensor = total
        return loss_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outputs: Any) -> Any:
        grads = (None if grad is None else outputs[0] * grad for grad in ctx.saved_tensors)
        return (*grads, None, None, None, None)


def _products(queries_RX: Tensor, items_VX: Tensor, at: _Pairs) -> Tensor:
    """Inner products at (row, column) pairs; at most ``_GATHERED`` pairs of vectors are in memory."""

    def some(rows: Tensor, columns: Tensor) -> Tensor:
        return (queries_RX[rows] * items_VX[columns]).sum(-1)

    parts = list(zip(*(indices.split(_GATHERED) for indices in at), strict=True))
    if len(parts) == 1:
        return some(*parts[0])
    return torch.cat([checkpoint(some, *part, use_reentrant=False) for part in parts])


def _of_rows(rate_E: Tensor, rows_E: Tensor, rows: int) -> Tensor:
    """Log sum of exponentials (R,) of each row's entries; -inf for a row without entries."""
    none_R = rate_E.new_full((rows,), -torch.inf)
    top_R = none_R.scatter_reduce(0, rows_E, rate_E.detach(), "amax")
    has_R = top_R > -torch.inf
    top_R = torch.where(has_R, top_R, 0.0)
    sum_R = torch.zeros_like(top_R).index_add(0, rows_E, (rate_E - top_R[rows_E]).exp())
    return torch.where(has_R, top_R + sum_R.clamp_min(torch.finfo(sum_R.dtype).tiny).log(), none_R)


def _entry_of(targets: _Pairs, entries: _Pairs, columns: int) -> Tensor:
    """Index (T,) of the entry with each target's row and column; -1 if there is none."""
    distinct, of_target = torch.unique(targets[0] * columns + targets[1], return_inverse=True)
    keys = entries[0] * columns + entries[1]
    place = torch.searchsorted(distinct, keys).clamp_max(len(distinct) - 1)
    found = torch.nonzero(distinct[place] == keys)[:, 0]
    entry = torch.full_like(distinct, -1)
    entry[place[found]] = found
    return entry[of_target]


def blocked_cross_entropy(
    queries_RX: Tensor,
    items_VX: Tensor,
    score: Score,
    *,
    entries: tuple[Tensor, Tensor],
    rate_E: Tensor,
    targets: tuple[Tensor, Tensor],
    weights: Tensor | None = None,
    shift_V: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Sum over targets of weight times -log softmax(logits of the target's row)[target].

    Computed in the precision of the queries, also under autocast.

    Args:
        queries_RX: query vectors.
        items_VX: vectors of the candidate items.
        score: maps inner products to logits.
        entries: (row, column) of the learned term's entries, each pair once.
        rate_E: log rates of the entries; empty without a learned term.
        targets: (row, column) of each target.
        weights: weights of the targets; None for 1 each.
        shift_V: values added to the logits, see :mod:`hmamba.training.negatives`; zero in the columns of entries.
        smoothing: share of each target's weight that is spread over all columns.

    Returns:
        A scalar, differentiable once in the queries, items, score parameters and log rates.
    """
    rows, columns = len(queries_RX), len(items_VX)
    if weights is None:
        weights = queries_RX.new_ones(len(targets[0]))
    kind = score.kind
    affine = kind in _AFFINE

    def base(at: _Pairs) -> Tensor:
        products = _products(queries_RX, items_VX, at)
        logits = products if affine else score.logits(products)
        return logits if shift_V is None else logits + shift_V[at[1]]

    with torch.autocast(queries_RX.device.type, enabled=False):
        if affine:
            rate_E = rate_E - score.logits(torch.zeros_like(score.K))
        weights_R = torch.zeros_like(queries_RX[:, 0]).index_add(0, targets[0], weights)
        rate_R = _of_rows(rate_E, entries[0], rows)
        loss: Tensor = _Normaliser.apply(
            queries_RX, items_VX, score.K, score.scale, rate_R, kind, weights_R, shift_V, smoothing
        )  # type: ignore[no-untyped-call]
        logits_T = base(targets)
        if len(rate_E):
            entries_T = _entry_of(targets, entries, columns)
            has_entry = entries_T >= 0
            raised_T = torch.logaddexp(logits_T[has_entry], rate_E[entries_T[has_entry]])
            logits_T = logits_T.index_put((has_entry,), raised_T)
            if smoothing:
                raised_E = torch.nn.functional.softplus(rate_E - base(entries))
                loss = loss - smoothing / columns * (weights_R[entries[0]] * raised_E).sum()
        return loss - (1 - smoothing) * (weights * logits_T).sum()
