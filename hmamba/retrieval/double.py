"""Ranking in float64: the model's lift and the search, where float32 cannot tell near items apart.

The error of <u,v>/K is about eps e^(2R) / 4 at norm R sqrt(K) (:func:`hmamba.model.lorentz.bound`), and the eps of
float64 is 5e8 times smaller. Hidden states stay what the float32 encoder gave: they are input, not geometry.
"""

from __future__ import annotations

import copy
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from hmamba.model.hmamba import HMamba
from hmamba.sequences.histories import IntArray

DoubleArray: TypeAlias = npt.NDArray[np.float64]
RealArray: TypeAlias = npt.NDArray[np.float32] | DoubleArray

_ENTRIES = 2**24
"""Products held at once: 128 MB."""


def widen(model: HMamba) -> HMamba:
    """A copy of the model in float64: its points, queries and logits are those of the same weights, in double."""
    shared = {id(model.transitions): model.transitions}  # a table of its own size, which needs no other precision
    return copy.deepcopy(model, shared).double().eval()


def block_rows(items: int) -> int:
    """How many queries are multiplied with ``items`` items at once."""
    return max(1, _ENTRIES // items)


def search(queries_RX: RealArray, items_VX: RealArray, k: int) -> tuple[DoubleArray, IntArray]:
    """The ``k`` largest inner products of each query, by comparing with every item.

    Args:
        queries_RX: (R, X) query vectors, float64.
        items_VX: (V, X) item vectors, float64.
        k: at most V.

    Returns:
        Products (R, k), largest first, and the rows of ``items_VX`` (R, k) that they belong to.
    """
    table, rows = torch.from_numpy(items_VX).T, block_rows(len(items_VX))
    products = np.empty((len(queries_RX), k))
    columns = np.empty((len(queries_RX), k), dtype=np.int64)
    for start in range(0, len(queries_RX), rows):
        block = slice(start, start + rows)
        best = torch.topk(torch.from_numpy(queries_RX[block]) @ table, k, dim=1)
        products[block], columns[block] = best.values.numpy(), best.indices.numpy()
    return products, columns
