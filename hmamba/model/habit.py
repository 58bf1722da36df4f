"""What a user's own history says about taking an item again.

Where things are bought again and again, "what this user buys most" is hard to beat by any vector of 64 numbers: the
rates of a few hundred items do not fit into it. The paper has no answer to that, so this project adds one. Its memory
is the scan's own recurrence with one state a (user, item) instead of a learnt projection, on a few fixed time scales:

    n_k(u, v, t) = exp(-gap / tau_k) n_k(u, v, t-1) + 1[the event is v]        q_k = n_k / (sum over v of n_k)

A purchase comes from taste or from habit, so their rates add (a pointer mixture, left unnormalised):

    score(u, v) = log(exp(taste(u, v)) + exp(g(u)) sum_k pi_k(u) q_k(u, v))

Gate g and mixture pi are read off the user's hidden state. Items that the user has never had keep the taste score, so
the term is sparse and retrieval stays exact: search the index for items that are new to the user, rescore the few that
are not, merge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hmamba.sequences.catalogue import Catalogue
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, IntArray, spans

FloatArray = npt.NDArray[np.float32]

TIME_SCALES = (15.0, 60.0, 120.0, 480.0)
"""tau_k in days: what is bought this month, this season, this year, ever."""

_LEAST_SHARE = 1e-12  # a share that decayed below float32's reach


@dataclass(frozen=True)
class Had:
    """Competing items that users have had: E entries, sorted by row, each (row, column) once.

    Attributes:
        rows: (E,) which of the R rows (one moment of one user) an entry belongs to.
        columns: (E,) columns of the catalogue.
        shares: (E, K) q_k, each row's share of its decayed events, one column a time scale.
    """

    rows: IntArray
    columns: IntArray
    shares: FloatArray

    @classmethod
    def nothing(cls) -> Had:
        """No entries."""
        empty = np.zeros(0, dtype=np.int64)
        return cls(empty, empty, np.zeros((0, len(TIME_SCALES)), dtype=np.float32))

    @classmethod
    def before(cls, histories: Histories, catalogue: Catalogue, users: IntArray, ends: IntArray) -> Had:
        """Collect what each row's user had had by some moment.

        Shares are ratios, so the moment of asking cancels: ages are measured from each row's newest event, and the sums
        of an old history do not decay to zero.

        Args:
            histories: all events.
            catalogue: the items that compete; others count towards the shares' sum only.
            users: (R,) the user of each row.
            ends: (R,) flat position after the last event that the row may see.
        """
        starts = histories.offsets[users]
        lengths = ends - starts
        flat = spans(starts, lengths)
        row = np.repeat(np.arange(len(users)), lengths)
        age = (histories.times[ends[row] - 1] - histories.times[flat]) / MICROSECONDS_A_DAY
        stride = len(catalogue.column)
        keys, inverse = np.unique(row * stride + histories.items[flat], return_inverse=True)
        rows, columns = keys // stride, catalogue.column[keys % stride]
        shares = np.empty((len(keys), len(TIME_SCALES)), dtype=np.float32)
        for k, scale in enumerate(TIME_SCALES):
            weight = np.exp(-age / scale)
            whole = np.bincount(row, weights=weight, minlength=len(users))
            shares[:, k] = np.bincount(inverse, weights=weight, minlength=len(keys)) / whole[rows]
        known = columns >= 0
        return cls(rows[known], columns[known], shares[known])


class Habit(nn.Module):
    """The gate g and the mixture pi over time scales, read off a user's hidden state of ``dim`` numbers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mixture = nn.Parameter(torch.zeros(len(TIME_SCALES)))
        self.gate = nn.Parameter(torch.zeros(()))
        self.from_hidden = nn.Linear(dim, len(TIME_SCALES) + 1, bias=False)
        nn.init.zeros_(self.from_hidden.weight)

    def forward(self, hidden_Rd: Tensor, rows_E: Tensor, shares_EK: Tensor) -> Tensor:
        """Log rates (E,) of items that users have had: g + log sum_k pi_k q_k."""
        gate_R, mixture_RK = self.from_hidden(hidden_Rd).split([1, len(TIME_SCALES)], dim=-1)
        pi_RK = torch.softmax(self.mixture + mixture_RK, dim=-1)
        rate_E = (pi_RK[rows_E] * shares_EK).sum(-1)
        log_rate: Tensor = self.gate + gate_R[rows_E, 0] + torch.log(rate_E + _LEAST_SHARE)
        return log_rate
