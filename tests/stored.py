"""Stored models for tests, with random weights."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse as sp
import torch

from hmamba.config import ModelConfig
from hmamba.model.hmamba import HMamba
from hmamba.model.repeats import Repeats
from hmamba.models.files import Provenance, StoredModel
from hmamba.score_terms import SCORE_TERMS, chosen
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.terms.base import WeightedTerm
from tests.histories import random_histories

ITEMS = 40


def attributes_of(size: int, seed: int = 0) -> sp.csr_array:
    """Two attributes of each item but the first three: (size, size) 1 where an item has an attribute."""
    random = np.random.default_rng(seed)
    items = np.repeat(np.arange(4, size), 2)
    return sp.csr_array(
        (np.ones(len(items), np.float32), (items, random.integers(0, size // 2, len(items)))), (size, size)
    ).sign()


def stored_model(eligible: Any = None, items: int = ITEMS, **settings: Any) -> StoredModel:
    """A small model of ``items`` items, all of which compete unless ``eligible`` names some."""
    torch.manual_seed(0)
    given = {"dim": 8, "d_state": 4, "head_dim": 8, "score_terms": (), **settings}
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
        for name in chosen(model.config.score_terms or (), learned=False):
            counted = SCORE_TERMS[name].load().count(random_histories(items=items), items + 1, attributes_of(items + 1))
            weights = {feature: 2 * weight for feature, weight in counted.features.items()}
            model.counted_terms.append(WeightedTerm(counted, weights))
    mask = np.zeros(items + 1, dtype=np.int64)
    mask[list(range(1, items + 1) if eligible is None else eligible)] = 1
    ids = pa.array([None, *(f"item {n}" for n in range(1, items + 1))])
    return StoredModel("v1", Provenance(date(2024, 2, 1), None, "s", 0, "x"), model, CandidateItems.of(mask, 1), ids)
