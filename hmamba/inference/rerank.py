"""What a model's ranker reads, in the exact ranking and behind the index alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hmamba.model.hmamba import HMamba
from hmamba.ranker import Known, Ranker, RealArray, Shortlist, ValueArray, values_of
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories
from hmamba.terms.base import AnyTerm, Entries

Evidence = Sequence[tuple[AnyTerm, Entries]]
"""A model's score terms with their entries for R users, in the order of the model."""


def depth_of(ranker: Ranker | None, k: int) -> int:
    """Number of items to retrieve for a list of ``k``."""
    return k if ranker is None else max(k, ranker.depth)


@torch.inference_mode()
def values_for(
    model: HMamba,
    histories: Histories,
    candidate_items: CandidateItems,
    evidence: Evidence,
    shortlist: Shortlist,
    base_E: RealArray,
) -> ValueArray:
    """What the ranker reads of the entries of a shortlist, see :func:`hmamba.ranker.values_of`.

    Args:
        model: the model.
        histories: histories of R users.
        candidate_items: the items of the columns.
        evidence: the entries of the model's score terms for these users.
        shortlist: E entries.
        base_E: their base scores.
    """
    width, known, learned = len(candidate_items), None, model.learned_term
    of_item = model.item_counts(torch.from_numpy(candidate_items.eligible).to(model.tangents.weight.device))
    for term, entries in evidence:
        if learned is not None and term is learned:
            known = Known(entries.rows * width + entries.columns, learned.inputs(entries))
    return values_of(shortlist, base_E, histories.read.lengths, of_item.float().cpu().numpy(), known, width)
