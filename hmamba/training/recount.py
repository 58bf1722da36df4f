"""Counting again what a model only counts: popularity and the counts of its score terms need no gradient.

A model is trained on what came before the validation days. What it serves may know everything: the counts go up to the
end of the day. For the gate they end where the held-out events begin, for every contestant alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from hmamba.model.hmamba import HMamba
from hmamba.models.files import StoredModel
from hmamba.sequences.histories import Histories, IntArray
from hmamba.terms.base import AnyCountedTerm


@dataclass(frozen=True)
class Counts:
    """What is counted in some events.

    Attributes:
        events: (size,) of each item index.
        users: (size,) users who have interacted with it.
        terms: counted terms by class.
    """

    events: IntArray
    users: IntArray
    terms: Mapping[type, AnyCountedTerm]

    @classmethod
    def of(cls, histories: Histories, size: int, models: Iterable[HMamba]) -> Counts:
        """Count.

        Args:
            histories: the events.
            size: item indices, padding included.
            models: whose terms are counted, each class once.
        """
        counted = dict.fromkeys(type(term) for model in models for term in model.counted_terms)
        terms = {term: term.count(histories, size) for term in counted}
        return cls(histories.item_events(size), histories.item_users(size), terms)


def recount(stored: StoredModel, counts: Counts) -> None:
    """Put counts into a model, in place. Counted terms keep the weights that validation chose.

    Items that the model does not know stay unknown to it.

    Args:
        stored: of as many item indices as were counted, or fewer.
        counts: of the snapshot's items and of all terms of the model.
    """
    model, size = stored.model, len(stored.candidate_items.column)
    events, users = (_fitted(values, size) for values in (counts.events, counts.users))
    model.recount(torch.from_numpy(events), torch.from_numpy(users))
    model.counted_terms = [term.recounted(counts.terms[type(term)], size) for term in model.counted_terms]


def _fitted(values: IntArray, size: int) -> IntArray:
    return np.resize(np.append(values[:size], np.zeros(max(0, size - len(values)), dtype=np.int64)), size)
