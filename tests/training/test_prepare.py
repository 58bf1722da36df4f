"""The preparation of a training, and its step metrics."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from hmamba.contracts.models import ScoreTermFit
from hmamba.sequences.categories import Categories
from hmamba.terms.repeats import CATEGORY_FEATURES, FEATURES
from hmamba.training.fit import Fit
from hmamba.training.prepare import training_metrics
from tests.histories import random_histories
from tests.training.trainings import prepared


def test_the_metrics_record_what_score_terms_add(tmp_path):
    ready = prepared(random_histories(), tmp_path)
    weighed = {"cooccurrence": {"weights": None, "intervals": {}, "ndcg@10": None, "ndcg@10 without": None, "users": 0}}
    assert training_metrics(ready, [], weighed).score_terms == {"cooccurrence": ScoreTermFit(weights=None, users=0)}


def test_model_and_batches_read_the_same_categories(tmp_path):
    histories = random_histories()
    paths = pa.array([[f"a{n // 10}", f"b{n // 5}"] for n in range(1, 21)], pa.list_(pa.string()))
    categories = Categories(paths, np.arange(1, 21), 21)
    category = categories.numbers((1, 2))
    ready = prepared(histories, tmp_path, categories=categories)
    np.testing.assert_array_equal(ready.model.learned_term.categories, category)
    np.testing.assert_array_equal(ready.plan.batches.learned_term.categories, category)
    batch = ready.plan.batches.load(ready.plan.batches.epoch(0)[0])
    assert batch.entries.features.shape[1] == FEATURES + 2 * CATEGORY_FEATURES
    Fit(ready.model, ready.plan).run()
