"""A toy score term: the one file that a new term needs, besides its entry in hmamba/score_terms.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from hmamba.terms.base import Evidence


@dataclass(frozen=True)
class Neighbour:
    """Raises the item whose index follows the user's newest one, if any user has interacted with it."""

    name: ClassVar[str] = "neighbour"
    features: ClassVar[Mapping[str, float]] = {"next": 1.0}

    known: tuple[int, ...]

    @classmethod
    def count(cls, histories, size, attributes):
        return cls(tuple(np.flatnonzero(histories.item_events(size)).tolist()))

    def entries(self, histories, candidate_items):
        rows = np.flatnonzero(histories.lengths)
        wanted = histories.items[histories.offsets[rows + 1] - 1] + 1
        inside = np.isin(wanted, self.known) & (wanted < len(candidate_items.column))
        rows, columns = rows[inside], candidate_items.column[wanted[inside]]
        rows, columns = rows[columns >= 0], columns[columns >= 0]
        return Evidence(rows, columns, np.ones((len(rows), 1), dtype=np.float32))

    def behind(self, weights, histories, rows, items):
        size = max(int(histories.items.max(initial=0)), *self.known) + 1
        newest = histories.items[histories.offsets[1:][rows] - 1]
        return sp.csr_array((np.ones(len(rows)), newest, np.arange(len(rows) + 1)), (len(rows), size))

    def resized(self, size):
        return Neighbour(tuple(item for item in self.known if item < size))

    def save(self, folder):
        (folder / "neighbour.json").write_text(json.dumps(self.known))

    @classmethod
    def load(cls, folder, size):
        return cls(tuple(json.loads((folder / "neighbour.json").read_text())))
