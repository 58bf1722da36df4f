"""Update the counts in a trained model: popularity and score terms, which need no gradient.

A model is trained on the events before the validation days. For serving, the counts include all events up to the end of
the day. For the gate, the counts of all contestants end where the held-out events begin.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from hmamba.model.hmamba import HMamba
from hmamba.models.files import StoredModel
from hmamba.score_terms import SCORE_TERMS
from hmamba.sequences.histories import Histories, IntArray
from hmamba.terms.base import CountedTerm

if TYPE_CHECKING:
    import scipy.sparse as sp

log = logging.getLogger("hmamba")


@dataclass(frozen=True)
class Counts:
    """Counts of a set of events.

    Attributes:
        events: (size,) number of events of each item index.
        users: (size,) number of users who have interacted with each item.
        terms: counted terms by name; None where the data holds no evidence of a kind any more.
    """

    events: IntArray
    users: IntArray
    terms: Mapping[str, CountedTerm | None]

    @classmethod
    def of(
        cls, histories: Histories, size: int, models: Iterable[HMamba], attributes: sp.csr_array | None = None
    ) -> Counts:
        """Count events and users, and the terms of some models.

        Args:
            histories: the events.
            size: number of item indices, padding included.
            models: models whose terms are counted, each kind once.
            attributes: (size, A) 1 where an item has an attribute; None without attributes.
        """
        names = dict.fromkeys(weighted.term.name for model in models for weighted in model.counted_terms)
        terms = {name: SCORE_TERMS[name].load().count(histories, size, attributes) for name in names}
        return cls(histories.item_events(size), histories.item_users(size), terms)


def recount(stored: StoredModel, counts: Counts) -> None:
    """Replace the counts of a model in place. Counted terms keep the weights that were chosen in validation.

    Counts of items that the model does not know are ignored.

    Args:
        stored: the model, with no more item indices than were counted.
        counts: counts of the snapshot's items and of all terms of the model.
    """
    model, size = stored.model, len(stored.candidate_items.column)
    events, users = (resized(values, size) for values in (counts.events, counts.users))
    model.recount(torch.from_numpy(events), torch.from_numpy(users))
    recounted = []
    for weighted in model.counted_terms:
        term = counts.terms[weighted.term.name]
        if term is None:
            log.warning("%s: the data holds nothing any more that %s could count", stored.version, weighted.term.name)
        else:
            recounted.append(replace(weighted, term=term.resized(size)))
    model.counted_terms = recounted


def resized(values: IntArray, size: int) -> IntArray:
    """Counts (size,) of item indices below ``size``, 0 where there were none."""
    return np.resize(np.append(values[:size], np.zeros(max(0, size - len(values)), dtype=np.int64)), size)
