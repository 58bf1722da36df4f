"""What of a model is only counted, counted again: popularity, repeat facts and co-occurrence need no gradient to learn.

A model is trained on what came before the validation days. What it serves may know everything: the counts go up to the
end of the day. For the gate they end where the held-out events begin, for every contestant alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from hmamba.model.hmamba import HMamba
from hmamba.models.files import StoredModel
from hmamba.sequences.histories import Histories, IntArray
from hmamba.terms.cooccurrence import Cooccurrence


@dataclass(frozen=True)
class Counts:
    """What is counted in some events.

    Attributes:
        events: (size,) of each item index.
        users: (size,) who had it.
        cooccurrence: what followed what; None if no model wants it.
    """

    events: IntArray
    users: IntArray
    cooccurrence: Cooccurrence | None

    @classmethod
    def of(cls, histories: Histories, size: int, *, cooccurrence: bool) -> Counts:
        """Count.

        Args:
            histories: the events.
            size: item indices, padding included.
            cooccurrence: whether to count what followed what, which takes longer than all else.
        """
        counted = Cooccurrence.count(histories, size) if cooccurrence else None
        return cls(histories.item_events(size), histories.item_users(size), counted)


def recount(stored: StoredModel, counts: Counts) -> None:
    """Put counts into a model, in place. Co-occurrence keep the strength and scale that validation chose.

    Items that the model does not know stay unknown to it.

    Args:
        stored: of as many item indices as were counted, or fewer.
        counts: of the snapshot's items.
    """
    model, size = stored.model, len(stored.candidate_items.column)
    events, users = (_fitted(values, size) for values in (counts.events, counts.users))
    model.recount(torch.from_numpy(events), torch.from_numpy(users))
    if model.cooccurrence is not None and counts.cooccurrence is not None:
        table = counts.cooccurrence.table[:size, :size]
        model.cooccurrence = replace(model.cooccurrence, table=table)


def _fitted(values: IntArray, size: int) -> IntArray:
    return np.resize(np.append(values[:size], np.zeros(max(0, size - len(values)), dtype=np.int64)), size)


def wants_cooccurrence(*models: HMamba) -> bool:
    """Whether any of these raises scores by co-occurrence."""
    return any(model.cooccurrence is not None for model in models)
