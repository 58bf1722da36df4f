"""Co-occurrence: a counted term that raises the scores of new items that followed the user's items in other histories.

With many items and short histories, most items have few events. A vector of 64 numbers learned from them generalises
but does not retain which items were interacted with together. Item-to-item neighbourhoods retain exactly that, and the
two make different errors (Jannach and Ludewig, RecSys 2017). The HMamba paper has no such term. The term is defined by

    T(a, b) = n_a^-1/2 n_b^-1/5 sum over pairs within 15 events, j baskets apart, of w_a w_b 0.8^(j-1), a before b, or
              times 0.25 if after; w_a w_b both ways in one basket, whose events have no order
    q(u, v) = share of v in the sum over the user's last 50 events x_i, i baskets old, of w_i 0.8^i T(x_i, v), over
              items that u has not seen; for an item that u has seen, its share in the sum over all items

    feature = log(1 + q(u, v) / 3e-4)

with w the weights of the events, 1 if they have none. Items that the user has seen have a feature of their own, since
where users repeat items, it is another question whether the next item is one that followed. The table is counted each
night; the features' weights are fitted on the validation days.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from hmamba.columns import ITEM_INDEX
from hmamba.progress import Progress
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray, offsets_of, owners
from hmamba.sequences.sets import among
from hmamba.terms.base import Evidence
from hmamba.terms.sparse import RecentEvents, contributions, read_matrix, write_matrix

if TYPE_CHECKING:
    import scipy.sparse as sp

    from hmamba.terms.base import CountedTerm

_WINDOW = 15  # largest distance of a pair, in events
_STEP = 0.8  # factor for each further basket between the two events
_BACKWARD = 0.25  # factor for a pair in reverse order
_SOURCE_POWER, _TARGET_POWER = 0.5, 0.2  # exponents of the items' event counts, which reduce popular items
_NEIGHBOURS = 256  # largest number of entries per row; those with the largest weights are kept
_BLOCK_PAIRS = 1 << 20  # pairs per block
_SCALE = 3e-4  # share at which a feature is log 2
_FILE = "cooccurrence.parquet"


@dataclass(frozen=True)
class Cooccurrence:
    """The co-occurrence table.

    Attributes:
        table: (size, size) T by item index, in compressed rows.
    """

    name: ClassVar[str] = "cooccurrence"
    features: ClassVar[Mapping[str, float]] = {"new": 0.8, "seen": 0.2}

    table: sp.csr_array

    @classmethod
    def count(cls, histories: Histories, size: int, attributes: sp.csr_array | None = None) -> Cooccurrence:
        """Count the pairs of all histories, of item indices below ``size``.

        Rows are summed and pruned one block at a time. Memory is that of the pruned table (8 bytes per entry), one
        block and a few integers per event; it does not depend on the number of pairs.
        """
        import scipy.sparse as sp

        histories = histories.read
        events = np.bincount(histories.items, minlength=size)
        source, target = (np.maximum(events, 1) ** -power for power in (_SOURCE_POWER, _TARGET_POWER))
        most = int(np.minimum(2 * _WINDOW * events, _NEIGHBOURS).sum())
        columns, weights = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
        index = np.int32 if most <= np.iinfo(np.int32).max else np.int64  # scipy copies indices whose widths differ
        offsets = np.zeros(size + 1, dtype=index)
        filled = 0
        for first, block in _blocks(histories, size):
            rows = slice(first, first + block.shape[0])
            lengths = np.diff(block.indptr)
            block.data *= np.repeat(source[rows], lengths)
            block.data *= target[block.indices]
            kept = _weightiest(block)
            end = filled + len(kept)
            if end > len(columns):
                for part in (columns, weights):
                    part.resize(min(end + end // 4, most), refcheck=False)  # in place if the system can move pages
            columns[filled:end], weights[filled:end] = block.indices[kept], block.data[kept]
            offsets[1:][rows] = np.minimum(lengths, _NEIGHBOURS)
            filled = end
        columns.resize(filled, refcheck=False)
        weights.resize(filled, refcheck=False)
        np.cumsum(offsets, out=offsets)
        return cls(sp.csr_array((weights, columns, offsets), (size, size)))

    def entries(self, histories: Histories, candidate_items: CandidateItems) -> Evidence:
        """The items with co-occurrence evidence for R users."""
        seen = histories if histories.seen is None else histories.keep(histories.seen)
        recent, size = RecentEvents.of(histories), self.table.shape[0]
        reached = recent.matrix(recent.faded, size) @ self.table
        is_new = ~among(reached.indices, reached.indptr, seen.items, (seen.offsets[:-1], seen.offsets[1:]), size)
        row = owners(np.diff(reached.indptr))
        of_new, of_all = (np.bincount(row, reached.data * part, minlength=recent.users) for part in (is_new, 1))
        columns = candidate_items.column[reached.indices]
        known = np.flatnonzero(columns >= 0)
        row, columns, is_new = row[known], columns[known], is_new[known]
        value = np.log1p(reached.data[known] / np.where(is_new, of_new[row], of_all[row]) / _SCALE)
        features = np.empty((len(row), 2), dtype=np.float32)
        features[:, 0], features[:, 1] = value * is_new, value * ~is_new
        return Evidence(row, columns, features)

    def behind(
        self, weights: Mapping[str, float], histories: Histories, rows: IntArray, items: IntArray
    ) -> sp.csr_array:
        """The parts of the sum over the user's last 50 events, w_i 0.8^i T(x_i, v)."""
        recent = RecentEvents.of(histories)
        history = recent.matrix(recent.faded, self.table.shape[0])
        return contributions(history, rows, items, lambda sources, targets: self.table[sources, targets])

    def resized(self, size: int) -> Cooccurrence:
        """The table of item indices below ``size``."""
        return Cooccurrence(self.table[:size, :size])

    def save(self, folder: Path) -> None:
        """Write cooccurrence.parquet: item_index, next_item_index, weight."""
        write_matrix(self.table, folder / _FILE, (ITEM_INDEX, "next_item_index", "weight"))

    @classmethod
    def load(cls, folder: Path, size: int) -> Cooccurrence:
        """Read what :meth:`save` wrote."""
        return cls(read_matrix(folder / _FILE, size, size))


if TYPE_CHECKING:
    _conforms: type[CountedTerm] = Cooccurrence


def _blocks(histories: Histories, size: int) -> Iterator[tuple[int, sp.csr_array]]:
    """Sum the pairs for a few rows of the table at a time, without the diagonal.

    A block holds the pairs of consecutive events in item order. A row that continues in the next block is held back and
    completed there. Sums are exact in float64, so they do not depend on the block boundaries.

    Yields:
        Item index of the first row and the sums, columns ascending. Each row with pairs occurs once.
    """
    import scipy.sparse as sp

    if not histories.events:
        return
    later = _STEP ** np.arange(_WINDOW)
    weights = np.concatenate([_BACKWARD * later[::-1], [1.0], later]).astype(np.float32).astype(np.float64)
    # Basket numbers of consecutive users differ by more than the window, so no pair crosses users.
    starts = histories.basket_starts
    basket = owners(np.diff(starts)) + _WINDOW * histories.owner
    near_baskets = _windows(basket, -_WINDOW - 1)
    del basket
    near_items = _windows(histories.items.astype(np.int32), 0)
    near_weights = None if histories.weights is None else _windows(histories.weights, 0)
    order = np.argsort(histories.items, kind="stable")
    step = max(1, _BLOCK_PAIRS // (2 * _WINDOW))
    held, sums = np.zeros(0, dtype=np.int32), np.zeros(0)
    with Progress("train: co-occurrence", len(order), "events") as progress:
        for start in range(0, len(order), step):
            part = order[start : start + step]
            source = histories.items[part]
            apart = near_baskets[part]
            apart -= apart[:, [_WINDOW]]
            pairs = (np.abs(apart) <= _WINDOW) & (near_items[part] != source[:, None])
            ends = offsets_of(pairs.sum(1))
            offsets = ends[np.searchsorted(source, np.arange(source[0], source[-1] + 2))]
            offsets[1:] += len(held)
            offsets = offsets.astype(np.int32)
            columns = np.concatenate([held, near_items[part][pairs]])
            counted = weights[apart[pairs] + _WINDOW]
            if near_weights is not None:
                near = near_weights[part].astype(np.float64)
                counted *= (near * near[:, [_WINDOW]])[pairs]
            values = np.concatenate([sums, counted])
            block = sp.csr_array((values, columns, offsets), (len(offsets) - 1, size))
            block.sum_duplicates()
            continues = start + step < len(order) and histories.items[order[start + step]] == source[-1]
            whole = block.shape[0] - continues
            cut = block.indptr[whole]
            held, sums = block.indices[cut:].copy(), block.data[cut:].copy()
            yield int(source[0]), block[:whole]
            progress.update(len(part))


def _weightiest(block: sp.csr_array) -> IntArray:
    """Positions of the entries to keep: the largest of each row, of equal ones those of the lowest columns."""
    lengths = np.diff(block.indptr)
    row = owners(lengths)
    kept = np.ones(block.nnz, dtype=bool)
    crowded = np.flatnonzero(lengths[row] > _NEIGHBOURS)
    ranked = crowded[np.lexsort((-block.data[crowded], row[crowded]))]  # stable: columns stay ascending
    place = np.arange(len(ranked)) - np.searchsorted(row[ranked], row[ranked])
    kept[ranked[place >= _NEIGHBOURS]] = False
    return np.flatnonzero(kept)


def _windows(values_N: npt.NDArray[Any], outside: int) -> npt.NDArray[Any]:
    """View (N, 2 _WINDOW + 1) of each value and its neighbours, ``outside`` beyond the ends."""
    padded = np.pad(values_N, _WINDOW, constant_values=outside)
    windows: npt.NDArray[Any] = np.lib.stride_tricks.sliding_window_view(padded, 2 * _WINDOW + 1)
    return windows
