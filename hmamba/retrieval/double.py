"""Ranking in float64: the model's lift, where float32 cannot tell near items apart.

The error of <u,v>/K is about eps e^(2R) / 4 at norm R sqrt(K) (:func:`hmamba.model.lorentz.bound`), and the eps of
float64 is 5e8 times smaller. Hidden states stay what the float32 encoder gave: they are input, not geometry.
"""

from __future__ import annotations

import copy

from hmamba.model.hmamba import HMamba


def widen(model: HMamba) -> HMamba:
    """A copy of the model in float64: its points, queries and logits are those of the same weights, in double."""
    shared = {id(model.transitions): model.transitions}  # a table of its own size, which needs no other precision
    return copy.deepcopy(model, shared).double().eval()
