"""A toy score term: the one file that a new term needs, besides its entry in hmamba/score_terms.py."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from hmamba.terms.base import Entries


@dataclass(frozen=True)
class Neighbour:
    """Raises the item whose index follows the user's newest one, if any user has interacted with it."""

    name: ClassVar[str] = "neighbour"

    known: tuple[int, ...]
    strength: float = 1.0

    @classmethod
    def count(cls, histories, size):
        return cls(tuple(np.flatnonzero(histories.item_events(size)).tolist()))

    def entries(self, histories, candidate_items):
        rows = np.flatnonzero(histories.lengths)
        wanted = histories.items[histories.offsets[rows + 1] - 1] + 1
        inside = np.isin(wanted, self.known) & (wanted < len(candidate_items.column))
        rows, columns = rows[inside], candidate_items.column[wanted[inside]]
        return Entries(rows[columns >= 0], columns[columns >= 0])

    def combine(self, base_E, entries, hidden_Rd):
        return base_E + self.strength

    def choices(self):
        return [replace(self, strength=strength) for strength in (0.001, 3.0)]

    def weights(self):
        return {"strength": self.strength}

    def recounted(self, fresh, size):
        return replace(self, known=tuple(item for item in fresh.known if item < size))

    def save(self, folder):
        (folder / "neighbour.json").write_text(json.dumps(self.known))

    @classmethod
    def load(cls, folder, size, **weights):
        return cls(tuple(json.loads((folder / "neighbour.json").read_text())), **weights)
