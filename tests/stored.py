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
from hmamba.models.files import Provenance, StoredModel
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.terms.cooccurrence import Cooccurrence
from tests.histories import random_histories

ITEMS = 40


def stored_model(eligible: Any = None, items: int = ITEMS, **settings: Any) -> StoredModel:
    """A small model of ``items`` items, all of which compete unless ``eligible`` names some."""
    torch.manual_seed(0)
    given = {"dim": 8, "d_state": 4, "head_dim": 8, "cooccurrence": False, **settings}
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
        if model.repeat_rate is not None:
            model.repeat_rate.gate.fill_(1.0)
            model.repeat_rate.from_hidden.weight.normal_()
            model.repeat_rate.narrow.weight.normal_()
        if model.config.cooccurrence:
            model.cooccurrence = replace(Cooccurrence.count(random_histories(items=items), items + 1), strength=2.0)
    mask = np.zeros(items + 1, dtype=np.int64)
    mask[list(range(1, items + 1) if eligible is None else eligible)] = 1
    ids = pa.array([None, *(f"item {n}" for n in range(1, items + 1))])
    return StoredModel("v1", Provenance(date(2024, 2, 1), None, "s", 0, "x"), model, CandidateItems.of(mask, 1), ids)
