"""Ranking metrics over sets of relevant items. Each user counts once.

HR@k: share of users with a relevant item among the first k. NDCG@k: discounted gain 1 / log2(rank + 1) over its best
possible value for min(k, relevant) items. MRR@k: mean of 1 / rank of the first relevant item, 0 beyond k. Coverage@k:
share of the catalogue that appears in anybody's first k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hmamba.sequences.histories import IntArray
from hmamba.sequences.sets import contained, distinct


def hits(ranked_Uk: IntArray, truth_rows: IntArray, truth_items: IntArray) -> npt.NDArray[np.bool_]:
    """Which of the ranked items (U, k) are relevant, given (user row, item) pairs; items below 0 never are."""
    stride = int(max(ranked_Uk.max(initial=0), truth_items.max(initial=0))) + 1
    keys = np.arange(len(ranked_Uk))[:, None] * stride + ranked_Uk
    return contained(keys, distinct(truth_rows * stride + truth_items)) & (ranked_Uk >= 0)


def ranking_metrics(
    ranked_Uk: IntArray, truth_rows: IntArray, truth_items: IntArray, *, cutoffs: Sequence[int], catalogue: int
) -> dict[str, float]:
    """Metrics of ranked items at each cutoff.

    Args:
        ranked_Uk: best first; -1 where there is no further item.
        truth_rows: the user row of each relevant item, every user at least once.
        truth_items: the relevant items, each once a user.
        cutoffs: the k of the metrics.
        catalogue: number of items that could be recommended.
    """
    relevant = hits(ranked_Uk, truth_rows, truth_items)
    wanted = np.bincount(truth_rows, minlength=len(ranked_Uk))
    result: dict[str, float] = {}
    for k in cutoffs:
        top = relevant[:, :k]
        gain = 1 / np.log2(np.arange(2, top.shape[1] + 2))
        best = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])[np.minimum(wanted, k)]
        first = np.where(top.any(1), 1 / (top.argmax(1) + 1), 0.0)
        shown = np.unique(ranked_Uk[:, :k])
        result[f"hr@{k}"] = float(top.any(1).mean())
        result[f"ndcg@{k}"] = float(((top * gain).sum(1) / best).mean())
        result[f"mrr@{k}"] = float(first.mean())
        result[f"coverage@{k}"] = float((shown >= 0).sum() / max(catalogue, 1))
    return result
