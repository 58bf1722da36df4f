"""The learned score term of repeat consumption, on the features of :mod:`hmamba.terms.repeats` and a hidden state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray
from hmamba.terms.repeats import (
    CATEGORY_FEATURES,
    FEATURES,
    LEAST_KNOWN,
    TIME_SCALES,
    FloatArray,
    RepeatFeatures,
    items_before,
)

if TYPE_CHECKING:
    from hmamba.config import ModelConfig
    from hmamba.terms.base import LearnedTerm

_HIDDEN = 32
_LEAST_SHARE = 1e-12  # added to shares, which can underflow in float32


class Repeats(nn.Module):
    """The rate at which users consume an item again: a :class:`hmamba.terms.base.LearnedTerm`.

    Gate g and mixture pi over time scales are linear in a user's hidden state. The factor f is a network of one hidden
    layer. It starts at zero, so the rates start as decayed counts.

    Args:
        dim: width of the hidden states.
        items: highest item index.
        levels: number of category levels that have features.

    Attributes:
        item_counts: (items + 1, 2) logs of the item's share of all events and of its events per user.
        categories: (levels, items + 1) category number of each item; None without levels.
    """

    def __init__(self, dim: int, items: int, levels: int = 0) -> None:
        super().__init__()
        self.mixture = nn.Parameter(torch.zeros(len(TIME_SCALES)))
        self.gate = nn.Parameter(torch.zeros(()))
        self.from_hidden = nn.Linear(dim, len(TIME_SCALES) + 1, bias=False)
        self.widen = nn.Linear(len(TIME_SCALES) + FEATURES + levels * CATEGORY_FEATURES + 2, _HIDDEN)
        self.narrow = nn.Linear(_HIDDEN, 1, bias=False)
        self.item_counts = nn.Buffer(torch.zeros(items + 1, 2))
        self.categories: IntArray | None = None
        nn.init.zeros_(self.from_hidden.weight)
        nn.init.zeros_(self.narrow.weight)

    @classmethod
    def of(cls, config: ModelConfig, items: int) -> Repeats:
        """An untrained term for a model's settings."""
        return cls(config.dim, items, len(config.category_levels or ()))

    def fast_parameters(self) -> list[nn.Parameter]:
        """The mixture and the gate: a few scalars that start far from their optimum and cannot overfit."""
        return [self.mixture, self.gate]

    def hold_categories(self, category_LV: IntArray) -> None:
        """Use these categories for the features."""
        self.categories = category_LV

    @torch.no_grad()
    def recount(self, events: Tensor, users: Tensor) -> None:
        """Replace the counts of each item."""
        self.item_counts.copy_(torch.stack([log_share(events), torch.log((events + 1.0) / (users + 1.0))], dim=1))

    def entries(self, histories: Histories, candidate_items: CandidateItems) -> RepeatFeatures:
        """The items that R users have interacted with, and their features at the end of the histories."""
        read = histories.read
        return self.entries_before(read, candidate_items, np.arange(len(read)), read.offsets[1:], read.asked)

    def entries_before(
        self,
        histories: Histories,
        candidate_items: CandidateItems,
        users: IntArray,
        ends: IntArray,
        asked: IntArray | None = None,
    ) -> RepeatFeatures:
        """The items that the user of each row has interacted with before the end of the row."""
        return RepeatFeatures.before(histories, candidate_items, users, ends, self.categories, asked)

    def entry_counts(self, histories: Histories, users: IntArray, ends: IntArray) -> IntArray:
        """Number of distinct items of each row, candidate items or not."""
        return items_before(histories, users, ends)

    def combine(self, base_E: Tensor, entries: RepeatFeatures, hidden_Rd: Tensor) -> Tensor:
        """Logarithm of the sum of both rates."""
        return torch.logaddexp(base_E, self.log_rates(hidden_Rd, entries))

    def inputs(self, entries: RepeatFeatures) -> FloatArray:
        """Log shares and features (E, K + F) of entries."""
        return np.concatenate([np.log(entries.shares + LEAST_KNOWN), entries.features], axis=1)

    def counts_of(self, item_index: Tensor) -> Tensor:
        """Logs of the share of all events and of the events per user (V, 2) of items (V,)."""
        return self.item_counts[item_index]

    def log_rates(self, hidden_Rd: Tensor, entries: RepeatFeatures) -> Tensor:
        """Log rates (E,): g + f + log sum_k pi_k q_k."""
        device, dtype = hidden_Rd.device, hidden_Rd.dtype
        rows_E, items_E = (torch.from_numpy(part).to(device) for part in (entries.rows, entries.items))
        shares_EK, features_EF = (
            torch.from_numpy(part).to(device, dtype) for part in (entries.shares, entries.features)
        )
        gate_R, mixture_RK = self.from_hidden(hidden_Rd).split([1, len(TIME_SCALES)], dim=-1)
        pi_RK = torch.softmax(self.mixture + mixture_RK, dim=-1)
        rate_E = (pi_RK[rows_E] * shares_EK).sum(-1)
        # Rough centring and scaling: log shares are about -7, logs of days and counts lie within a few units.
        known = torch.log(shares_EK + LEAST_KNOWN) / 4 + 1.5, features_EF / 2 - 1, self.item_counts[items_E] / 4 + 1
        factor_E = self.narrow(F.gelu(self.widen(torch.cat(known, dim=-1))))[:, 0]
        log_rates_E: Tensor = self.gate + gate_R[rows_E, 0] + factor_E + torch.log(rate_E + _LEAST_SHARE)
        return log_rates_E


if TYPE_CHECKING:
    _conforms: type[LearnedTerm[RepeatFeatures]] = Repeats


def log_share(events: Tensor) -> Tensor:
    """Logarithm of each item's share of all events, with one event added to each item."""
    return torch.log((events + 1.0) / (events.sum() + len(events)))
