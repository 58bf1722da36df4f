"""Stored models for tests, with random weights."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from hmamba.config import ModelConfig
from hmamba.model.hmamba import HMamba
from hmamba.model.repeats import Repeats
from hmamba.models.files import Provenance, StoredModel
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.terms.cooccurrence import Cooccurrence
from tests.histories import random_histories

ITEMS = 40


def stored_model(eligible: Any = None, items: int = ITEMS, **settings: Any) -> StoredModel:
    """A small model of ``items`` items, all of which compete unless ``eligible`` names some."""
    torch.manual_seed(0)
    given = {"dim": 8, "d_state": 4, "head_dim": 8, "score_term": "none", **settings}
    model = HMamba(ModelConfig(**given), items).eval()
    with torch.no_grad():
        if model.categories is not None:
            some = torch.ones(items + 1)
            model.start_from_counts(some, some, torch.arange(items + 1)[None] // torch.tensor([[3], [7]]))
        if model.shared is not None:
            model.shared.weight[1:].normal_()
        model.tangents.weight.normal_()
        model.log_scale.zero_()
        if model.bias is not None:
            model.bias.normal_()
        if isinstance(model.learned_term, Repeats):
            model.learned_term.gate.fill_(1.0)
            model.learned_term.from_hidden.weight.normal_()
            model.learned_term.narrow.weight.normal_()
        if model.config.score_term == "cooccurrence":
            counted = Cooccurrence.count(random_histories(items=items), items + 1)
            model.counted_terms = [replace(counted, strength=2.0)]
    mask = np.zeros(items + 1, dtype=np.int64)
    mask[list(range(1, items + 1) if eligible is None else eligible)] = 1
    ids = pa.array([None, *(f"item {n}" for n in range(1, items + 1))])
    return StoredModel("v1", Provenance(date(2024, 2, 1), None, "s", 0, "x"), model, CandidateItems.of(mask, 1), ids)
