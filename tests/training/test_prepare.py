"""What a training has to say of itself."""

from __future__ import annotations

import json

from hmamba.training.prepare import facts_of
from tests.histories import random_histories
from tests.training.trainings import prepared


def test_the_facts_tell_what_transitions_are_worth(tmp_path):
    ready = prepared(random_histories(), tmp_path)
    weighed = {"strength": 1.5, "scale": 3e-4, "ndcg@10": 0.12345678, "ndcg@10 without": 0.1, "users": 40}
    assert facts_of(ready, [], weighed)["transitions"] == {**weighed, "ndcg@10": 0.123457}
    unasked = facts_of(ready, [], {**weighed, "ndcg@10": 0.0, "ndcg@10 without": float("nan"), "users": 0})
    told = {"strength": 1.5, "scale": 3e-4, "ndcg@10": None, "ndcg@10 without": None, "users": 0}
    assert json.loads(json.dumps(unasked))["transitions"] == told
    assert facts_of(ready, [], None)["transitions"] is None
