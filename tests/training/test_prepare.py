"""What a training has to say of itself."""

from __future__ import annotations

import json

import numpy as np

from hmamba.training.fit import Fit
from hmamba.training.prepare import facts_of
from tests.histories import random_histories
from tests.training.trainings import prepared, settings


def test_the_facts_tell_what_cooccurrence_are_worth(tmp_path):
    ready = prepared(random_histories(), tmp_path)
    weighed = {"strength": 1.5, "scale": 3e-4, "ndcg@10": 0.12345678, "ndcg@10 without": 0.1, "users": 40}
    assert facts_of(ready, [], weighed)["cooccurrence"] == {**weighed, "ndcg@10": 0.123457}
    unasked = facts_of(ready, [], {**weighed, "ndcg@10": 0.0, "ndcg@10 without": float("nan"), "users": 0})
    told = {"strength": 1.5, "scale": 3e-4, "ndcg@10": None, "ndcg@10 without": None, "users": 0}
    assert json.loads(json.dumps(unasked))["cooccurrence"] == told
    assert facts_of(ready, [], None)["cooccurrence"] is None


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
