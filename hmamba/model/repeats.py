"""The rate at which users take again what they have had, from :mod:`hmamba.terms.repeats` and a hidden state."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmamba.terms.repeats import CATEGORY_FACTS, FACTS, LEAST_KNOWN, TIME_SCALES

_HIDDEN = 32
_LEAST_SHARE = 1e-12  # a share that decayed below float32's reach


class RepeatRate(nn.Module):
    """The rate at which users take again what they have had.

    Gate g and mixture pi over time scales are read off a user's hidden state of ``dim`` numbers. The factor f is a
    network of one hidden layer; it starts at nothing, so that habit starts as decayed counts. ``levels`` is the number
    of levels of categories of which the facts tell.
    """

    def __init__(self, dim: int, levels: int = 0) -> None:
        super().__init__()
        self.mixture = nn.Parameter(torch.zeros(len(TIME_SCALES)))
        self.gate = nn.Parameter(torch.zeros(()))
        self.from_hidden = nn.Linear(dim, len(TIME_SCALES) + 1, bias=False)
        self.widen = nn.Linear(len(TIME_SCALES) + FACTS + levels * CATEGORY_FACTS + 2, _HIDDEN)
        self.narrow = nn.Linear(_HIDDEN, 1, bias=False)
        nn.init.zeros_(self.from_hidden.weight)
        nn.init.zeros_(self.narrow.weight)

    def forward(
        self, hidden_Rd: Tensor, rows_E: Tensor, shares_EK: Tensor, facts_EF: Tensor, items_E2: Tensor
    ) -> Tensor:
        """Log rates (E,) of items that users have had: g + f + log sum_k pi_k q_k.

        Args:
            hidden_Rd: the users' hidden states.
            rows_E: whose entry it is.
            shares_EK: q_k.
            facts_EF: :attr:`RepeatFeatures.facts`.
            items_E2: log of the item's share of all events, and of its events a user who had it.
        """
        gate_R, mixture_RK = self.from_hidden(hidden_Rd).split([1, len(TIME_SCALES)], dim=-1)
        pi_RK = torch.softmax(self.mixture + mixture_RK, dim=-1)
        rate_E = (pi_RK[rows_E] * shares_EK).sum(-1)
        # Roughly centred and scaled: logarithms of shares lie about -7, days and counts within a few units.
        known = torch.cat([torch.log(shares_EK + LEAST_KNOWN) / 4 + 1.5, facts_EF / 2 - 1, items_E2 / 4 + 1], dim=-1)
        factor_E = self.narrow(F.gelu(self.widen(known)))[:, 0]
        log_rate: Tensor = self.gate + gate_R[rows_E, 0] + factor_E + torch.log(rate_E + _LEAST_SHARE)
        return log_rate
