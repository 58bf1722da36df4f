"""New items: items of the catalogue that a model has no training event of, but knows something about.

The softmax holds only items with events, so training says nothing about the others. What is known of them is the
catalogue: their categories, whose vectors the model has learned from other items, and their attributes. A new item is
an item without training events that shares an attribute or a category with a candidate item. Its own tangent is zero,
so that its base score is that of its categories, with the popularity of an item without events. See docs/model.md.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch

from hmamba.model.hmamba import HMamba
from hmamba.models.files import StoredModel
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import IntArray
from hmamba.terms.attributes import Attributes
from hmamba.training.recount import Counts, recount, resized

if TYPE_CHECKING:
    import scipy.sparse as sp

    from hmamba.sequences.categories import Categories

log = logging.getLogger("hmamba")


def described_without_events(attributes: sp.csr_array | None, events: IntArray) -> IntArray:
    """Item indices (N,) of the items that have attributes and no events.

    Args:
        attributes: (size, A) 1 where an item has an attribute, categories included; None without attributes.
        events: (size,) number of training events of each item index.
    """
    if attributes is None:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero((np.diff(attributes.indptr) > 0) & (events == 0))


def with_new_items(
    stored: StoredModel, ids: pa.Array, counts: Counts, categories: Categories, attributes: sp.csr_array | None
) -> StoredModel:
    """A model that can recommend tonight's new items, also those that its training did not know.

    Without attributes in the catalogue, the model is returned as it is.

    Args:
        stored: the model as it was trained; it must not be used afterwards.
        ids: (size,) tonight's item ids by index.
        counts: counts of events, from which the new items' biases are set.
        categories: tonight's category paths.
        attributes: (size, A) tonight's attributes; None without attributes.
    """
    old_size, candidates = len(stored.candidate_items.column), stored.candidate_items.eligible
    if attributes is None or not _reads_catalogue(stored.model):
        return replace(stored, new_items=np.zeros(0, dtype=np.int64)) if len(stored.new_items) else stored
    size = max(old_size, len(ids))
    is_known = np.zeros(size, dtype=bool)
    is_known[:old_size] = ~np.asarray(stored.item_ids.is_null())
    is_new = ~is_known
    is_new[stored.new_items] = True
    describing = attributes[candidates[candidates < attributes.shape[0]]].sum(axis=0) > 0
    shared = attributes @ describing.astype(np.float32) > 0
    new_items = np.flatnonzero(is_new[: len(shared)] & shared)
    unknown = new_items[~is_known[new_items]]
    if not len(unknown):
        return replace(stored, new_items=new_items)
    log.info("%s: learns of %d new items from the catalogue", stored.version, len(unknown))
    place = np.where(is_known, np.arange(size), -1)
    place[unknown] = old_size + unknown
    grown = replace(
        stored,
        model=_grown(stored.model, new_items, size, counts, categories),
        candidate_items=CandidateItems.only(candidates, size),
        item_ids=pa.concat_arrays([stored.item_ids, ids]).take(pa.array(place, mask=place < 0)),
        new_items=new_items,
    )
    recount(grown, counts)
    return grown


def _reads_catalogue(model: HMamba) -> bool:
    """Whether the score of an item without events depends on the catalogue."""
    return model.shared is not None or any(isinstance(weighted.term, Attributes) for weighted in model.counted_terms)


def _grown(model: HMamba, new_items: IntArray, size: int, counts: Counts, categories: Categories) -> HMamba:
    """A copy of a model for item indices below ``size``, in which new items have no tangent of their own."""
    device = model.tangents.weight.device
    grown = HMamba(model.config, size - 1, device)
    numbers = replace(categories, size=size).numbers(model.config.category_levels or ())
    events, users = (torch.from_numpy(resized(values, size)) for values in (counts.events, counts.users))
    grown.start_from(model.cpu(), events, users, None if numbers is None else torch.from_numpy(numbers))
    grown.forget_items(torch.from_numpy(new_items))
    grown.ranker = model.ranker
    grown.counted_terms = list(model.counted_terms)  # of the old size, until they are recounted
    return grown.to(device).eval()
