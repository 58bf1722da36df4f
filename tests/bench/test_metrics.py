"""The metrics of every table against ranx, an implementation by others.

ranx's hit_rate is the share of users with a hit among the first k, its mrr the mean of 1 / rank of the first hit, 0
beyond k, its ndcg divides by the best gain of min(k, relevant) places, and its recall by all relevant items, all as
defined here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.protocols import CUTOFFS
from hmamba.evaluation.metrics import ranking_metrics


@pytest.fixture(scope="module")
def ranx(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """ranx; one of its imports makes a folder for downloads, which is not to be the home folder."""
    folder: Path = tmp_path_factory.mktemp("ir_datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IR_DATASETS_HOME", str(folder))
        import ranx

    return ranx


@pytest.mark.parametrize("relevant", [1, 30])
def test_against_ranx(ranx, relevant):
    random = np.random.default_rng(relevant)
    users, items, depth = 60, 50, 25
    scores = random.integers(0, 8, (users, items))  # many ties, broken by the item's number
    order = np.lexsort((np.broadcast_to(np.arange(items), scores.shape), -scores), axis=1)[:, :depth]
    truth = [np.sort(random.choice(items, random.integers(1, relevant + 1), replace=False)) for _ in range(users)]
    rows = np.repeat(np.arange(users), [len(part) for part in truth])

    mine = ranking_metrics(order, rows, np.concatenate(truth), cutoffs=CUTOFFS, catalogue=items)
    qrels = ranx.Qrels({str(u): {str(i): 1 for i in part} for u, part in enumerate(truth)})
    run = ranx.Run({str(u): {str(i): float(depth - p) for p, i in enumerate(row)} for u, row in enumerate(order)})
    names = {f"{ours}@{k}": f"{theirs}@{k}" for ours, theirs in NAMES.items() for k in CUTOFFS}
    other = ranx.evaluate(qrels, run, list(names.values()))

    for ours, theirs in names.items():
        assert mine[ours] == pytest.approx(other[theirs], abs=1e-9), ours
    assert 0 < mine["ndcg@5"] < 1
    assert mine["hr@5"] < mine["hr@20"]


NAMES = {"hr": "hit_rate", "ndcg": "ndcg", "mrr": "mrr", "recall": "recall"}
