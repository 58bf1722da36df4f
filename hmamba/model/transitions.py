"""What followed what in everybody's histories: a table that the score of new items is raised by.

Where a catalogue is large and histories are short, most items have a handful of events. A vector of 64 numbers learnt
from them generalises, but forgets which few items were in fact taken together. Item-to-item neighbourhoods remember
just that, and the two make different mistakes (Jannach and Ludewig, RecSys 2017). The paper has no such part. Here

    T(a, b) = n_a^-1/2 n_b^-1/5 sum over pairs within 15 events, j baskets apart, of 0.8^(j-1), a before b, or times
              0.25 if after; 1 both ways in one basket, whose events have no order
    q(u, v) = share of v in the sum over the user's last 50 events x_i, i baskets old, of 0.8^i T(x_i, v), over items
              new to u
    score(u, v) = taste(u, v) + strength log(1 + q(u, v) / scale)

The table is counted anew each night; ``strength`` and ``scale`` are chosen on the validation days. The second term is
never negative and sparse, so retrieval stays exact: an item that it does not raise can only be among the k best if it
is among the k best by taste.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hmamba.columns import ITEM_INDEX
from hmamba.sequences.catalogue import Catalogue
from hmamba.sequences.histories import Histories, IntArray, spans

if TYPE_CHECKING:
    import scipy.sparse as sp

FloatArray = npt.NDArray[np.float32]

_WINDOW = 15  # events from one of a pair to the other, at most
_STEP = 0.8  # weight of one more basket between them
_BACKWARD = 0.25  # weight of a pair in the other order, which says less
_SOURCE_POWER, _TARGET_POWER = 0.5, 0.2  # of the items' events: what is everywhere says little
_FADE = 0.8  # weight of a user's event for each later basket
_READ = 50  # events of a user that are read
_NEIGHBOURS = 256  # kept of each item, the weightiest
_NEXT, _WEIGHT = "next_item_index", "weight"


@dataclass(frozen=True)
class Entries:
    """Competing items whose score is raised: E entries, sorted by row, each (row, column) once.

    Attributes:
        rows: (E,) which of the R rows an entry belongs to.
        columns: (E,) columns of the catalogue.
        shares: (E,) q.
    """

    rows: IntArray
    columns: IntArray
    shares: FloatArray


@dataclass(frozen=True)
class Transitions:
    """The table and how much it counts.

    Attributes:
        table: (size, size) T by item index, in compressed rows.
        strength: factor of the raise.
        scale: share from which on an item is raised noticeably.
    """

    table: sp.csr_array
    strength: float = 1.0
    scale: float = 3e-4

    @classmethod
    def count(cls, histories: Histories, size: int) -> Transitions:
        """Count the pairs of all histories, of item indices below ``size``."""
        import scipy.sparse as sp

        items, owner = histories.items, histories.owner
        basket = _baskets(histories)
        table = sp.csr_array((size, size), dtype=np.float32)
        for distance in range(1, min(_WINDOW, len(items) - 1) + 1):
            first = np.flatnonzero(owner[:-distance] == owner[distance:])
            a, b = items[first], items[first + distance]
            apart = basket[first + distance] - basket[first]
            weight = (_STEP ** np.maximum(apart - 1, 0)).astype(np.float32)
            backward = np.where(apart > 0, np.float32(_BACKWARD), np.float32(1))
            forth = sp.coo_array((weight, (a, b)), (size, size))
            back = sp.coo_array((backward * weight, (b, a)), (size, size))
            table = table + forth.tocsr() + back.tocsr()
        events = np.maximum(histories.item_events(size), 1)
        entries = table.tocoo()
        keep = entries.row != entries.col
        row, column = entries.row[keep].astype(np.int64), entries.col[keep].astype(np.int64)
        value = entries.data[keep] * events[row] ** -_SOURCE_POWER * events[column] ** -_TARGET_POWER
        order = np.lexsort((column, -value, row))
        row, column, value = row[order], column[order], value[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        kept = place < _NEIGHBOURS
        return cls(sp.csr_array((value[kept].astype(np.float32), (row[kept], column[kept])), (size, size)))

    def after(self, histories: Histories, catalogue: Catalogue, users: IntArray) -> Entries:
        """The items that may follow the histories of ``users``; none that a user has had."""
        import scipy.sparse as sp

        size = self.table.shape[0]
        rows = np.arange(len(users))
        lengths = np.minimum(histories.lengths[users], _READ)
        latest = spans(histories.offsets[users + 1] - lengths, lengths)
        basket = _baskets(histories)[latest]
        age = np.repeat(basket[np.cumsum(lengths) - 1], lengths) - basket
        read = sp.csr_array(
            ((_FADE**age).astype(np.float32), (np.repeat(rows, lengths), histories.items[latest])), (len(users), size)
        )
        reached = (read @ self.table).tocoo()
        row, item, value = reached.row.astype(np.int64), reached.col.astype(np.int64), reached.data
        every = spans(histories.offsets[users], histories.lengths[users])
        had = np.repeat(rows, histories.lengths[users]) * size + histories.items[every]
        new = ~np.isin(row * size + item, had)
        row, item, value = row[new], item[new], value[new]
        whole = np.bincount(row, weights=value, minlength=len(users))
        columns = catalogue.column[item]
        known = np.flatnonzero(columns >= 0)
        known = known[np.lexsort((columns[known], row[known]))]
        shares = (value[known] / whole[row[known]]).astype(np.float32)
        return Entries(row[known], columns[known], shares)

    def raises(self, shares_E: FloatArray) -> FloatArray:
        """What is added to the scores of entries with these shares."""
        raised: FloatArray = (self.strength * np.log1p(shares_E / self.scale)).astype(np.float32)
        return raised

    def weighing(self) -> dict[str, float]:
        """What :meth:`from_arrow` needs beside the rows."""
        return {"strength": self.strength, "scale": self.scale}

    def to_arrow(self) -> pa.Table:
        """The table as rows: item_index, next_item_index, weight."""
        entries = self.table.tocoo()
        return pa.table(
            {
                ITEM_INDEX: pa.array(entries.row, pa.int32()),
                _NEXT: pa.array(entries.col, pa.int32()),
                _WEIGHT: pa.array(entries.data, pa.float32()),
            }
        )

    @classmethod
    def from_arrow(cls, rows: pa.Table, size: int, strength: float, scale: float) -> Transitions:
        """The inverse of :meth:`to_arrow`."""
        import scipy.sparse as sp

        where = (rows[ITEM_INDEX].to_numpy(), rows[_NEXT].to_numpy())
        return cls(sp.csr_array((rows[_WEIGHT].to_numpy(), where), (size, size)), strength, scale)


def _baskets(histories: Histories) -> IntArray:
    """(N,) the basket of each event."""
    starts = histories.basket_starts
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))
