"""Ranking metrics over sets of relevant items.

HR@k: share of users with a relevant item among the first k. NDCG@k: discounted gain 1 / log2(rank + 1) over its best
possible value for min(k, relevant) items. MRR@k: mean of 1 / rank of the first relevant item, 0 beyond k. Recall@k:
share of the relevant items among the first k. Coverage@k: share of the candidate items that appear in the first k of
any user.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hmamba.sequences.histories import IntArray
from hmamba.sequences.sets import contained, distinct

_ORDER = ("hr", "ndcg", "mrr", "recall", "coverage")
_ROWS = 4_096


def hits(ranked_Uk: IntArray, truth_rows: IntArray, truth_items: IntArray) -> npt.NDArray[np.bool_]:
    """Which of the ranked items (U, k) are among the relevant (user row, item) pairs; items below 0 never are."""
    stride = int(max(ranked_Uk.max(initial=0), truth_items.max(initial=0))) + 1
    answers = distinct(truth_rows * stride + truth_items)
    found = np.zeros(ranked_Uk.shape, dtype=bool)
    for start in range(0, len(ranked_Uk), _ROWS):  # memory of the search does not grow with the number of users
        part = ranked_Uk[start : start + _ROWS]
        keys = np.arange(start, start + len(part))[:, None] * stride + part
        found[start : start + _ROWS] = contained(keys, answers) & (part >= 0)
    return found


def metrics_by_query(
    ranked_Qk: IntArray,
    truth_rows: IntArray,
    truth_items: IntArray,
    *,
    cutoffs: Sequence[int],
    recall_at: Collection[int] = (),
) -> dict[str, npt.NDArray[Any]]:
    """HR, NDCG, MRR and recall (Q,) of each query at each cutoff.

    Args:
        ranked_Qk: item indices, best first; -1 where there is no further item.
        truth_rows: the query of each relevant item; every query has at least one.
        truth_items: the relevant items, each once a query.
        cutoffs: the k of the metrics.
        recall_at: further k at which only recall is measured.
    """
    relevant = hits(ranked_Qk, truth_rows, truth_items)
    relevant_items = np.bincount(truth_rows, minlength=len(ranked_Qk))
    result: dict[str, Any] = {}
    for k in cutoffs:
        top = relevant[:, :k]
        gain = 1 / np.log2(np.arange(2, top.shape[1] + 2))
        best = best_gain(relevant_items, k)
        result[f"hr@{k}"] = top.any(1).astype(np.float64)
        result[f"ndcg@{k}"] = (top * gain).sum(axis=1) / best
        result[f"mrr@{k}"] = top.any(1) / (top.argmax(1) + 1)
    for k in {*cutoffs, *recall_at}:
        result[f"recall@{k}"] = relevant[:, :k].sum(axis=1) / relevant_items
    return result


def best_gain(relevant_Q: IntArray, k: int) -> npt.NDArray[np.float64]:
    """Discounted gain (Q,) of the best ranking of so many relevant items, among its first k."""
    return np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])[np.minimum(relevant_Q, k)]


def coverage(ranked_Qk: IntArray, *, cutoffs: Sequence[int], catalogue: int) -> dict[str, float]:
    """Share of ``catalogue`` items that appear in the first k of any query."""
    return {f"coverage@{k}": float((np.unique(ranked_Qk[:, :k]) >= 0).sum() / max(catalogue, 1)) for k in cutoffs}


def ranking_metrics(
    ranked_Uk: IntArray, truth_rows: IntArray, truth_items: IntArray, *, cutoffs: Sequence[int], catalogue: int
) -> dict[str, float]:
    """Mean metrics of ranked items at each cutoff; each row counts once.

    Args:
        ranked_Uk: as in :func:`metrics_by_query`.
        truth_rows: as in :func:`metrics_by_query`.
        truth_items: as in :func:`metrics_by_query`.
        cutoffs: the k of the metrics.
        catalogue: number of items that could be recommended.
    """
    found = metrics_by_query(ranked_Uk, truth_rows, truth_items, cutoffs=cutoffs)
    covered = coverage(ranked_Uk, cutoffs=cutoffs, catalogue=catalogue)
    means = {name: float(values.mean()) for name, values in found.items()}
    return {f"{metric}@{k}": {**means, **covered}[f"{metric}@{k}"] for k in cutoffs for metric in _ORDER}
