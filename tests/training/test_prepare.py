"""What a training has to say of itself."""

from __future__ import annotations

import numpy as np

from hmamba.contracts import CooccurrenceFit
from hmamba.training.fit import Fit
from hmamba.training.prepare import training_metrics
from tests.histories import random_histories
from tests.training.trainings import prepared, settings


def test_the_metrics_tell_what_cooccurrence_are_worth(tmp_path):
    ready = prepared(random_histories(), tmp_path)
    weighed = {"strength": 1.5, "scale": 3e-4, "ndcg@10": 0.12345678, "ndcg@10 without": 0.1, "users": 40}
    fit = training_metrics(ready, [], weighed).cooccurrence
    assert fit == CooccurrenceFit(strength=1.5, scale=3e-4, users=40, ndcg=0.123457, ndcg_without=0.1)
    unasked = training_metrics(ready, [], {**weighed, "ndcg@10": 0.0, "ndcg@10 without": float("nan"), "users": 0})
    assert unasked.cooccurrence == CooccurrenceFit(strength=1.5, scale=3e-4, users=0)
    assert training_metrics(ready, [], None).cooccurrence is None


def test_model_and_batches_read_the_same_categories(tmp_path):
    histories = random_histories()
    category = np.arange(2 * 21).reshape(2, 21) // 5
    config = settings(model={"category_levels": [1, 2]})
    ready = prepared(histories, tmp_path, config, category=category)
    np.testing.assert_array_equal(ready.model.category_numbers(), category)
    np.testing.assert_array_equal(ready.plan.batches.category, category)
    batch = ready.plan.batches.load(ready.plan.batches.epoch(0)[0])
    assert batch.repeats.facts.shape[1] == 5 + 2 * 8
    Fit(ready.model, ready.plan).run()
