"""Attribute similarity: a counted term that raises the scores of new items with the attributes of the user's items.

Attributes are categories and other values of the catalogue, such as brands. They describe items that have few events,
whose vectors and co-occurrence are learned from little. The HMamba paper has no such term. The term is defined by

    a(v) = vector of log(items / items with the attribute) over the attributes of v, divided by its length; attributes
           that more than a tenth of the items have are left out, because they hardly distinguish items
    s(u, v) = mean of cos(a(x_i), a(v)) over the user's last 50 events x_i, i baskets old, with weights w_i 0.8^i

    features: recent = s(u, v), last = the same mean over the last basket only, for the 1,000 items that u has not seen
              with the largest sum of the two

with w the weights of the events, 1 if they have none. Items with the same attributes have the same similarities, so
these are computed for each set of attributes that occurs, not for each item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from hmamba.columns import ITEM_INDEX
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray, offsets_of, owners, run_starts, spans
from hmamba.sequences.sets import among
from hmamba.terms.base import Evidence, FloatArray
from hmamba.terms.sparse import RecentEvents, contributions, read_matrix, write_matrix

if TYPE_CHECKING:
    import scipy.sparse as sp

    from hmamba.terms.base import CountedTerm

_COMMON = 0.1  # share of the items above which an attribute is left out
_MOST_ITEMS = 5_000  # the same as a number, which bounds the cost of a user
_ENTRIES = 1_000  # largest number of entries of a user
_BLOCK = 1 << 21  # similarities that are computed at a time
_PAIRS = 1 << 16  # pairs of items that are compared at a time
_FILE = "attributes.parquet"


@dataclass(frozen=True)
class Attributes:
    """The items' attribute vectors.

    Attributes:
        vectors: (size, A) a, in compressed rows with ascending columns.
    """

    name: ClassVar[str] = "attributes"
    features: ClassVar[Mapping[str, float]] = {"recent": 3.0, "last": 1.0}

    vectors: sp.csr_array

    @classmethod
    def count(cls, histories: Histories, size: int, attributes: sp.csr_array | None) -> Attributes | None:
        """Weight the attributes of the items with events; None if no attribute tells items apart."""
        import scipy.sparse as sp

        if attributes is None:
            return None
        attributes = attributes[:size]
        known = np.flatnonzero(histories.item_events(size))
        items = attributes[known].sum(axis=0)
        kept = np.flatnonzero((items > 1) & (items <= min(_COMMON * len(known), _MOST_ITEMS)))
        if not len(kept):
            return None
        vectors = sp.csr_array(attributes[:, kept].multiply(np.log(len(known) / items[kept])), dtype=np.float32)
        vectors.sort_indices()
        length = np.sqrt(vectors.multiply(vectors).sum(axis=1))
        vectors.data /= np.repeat(length, np.diff(vectors.indptr))
        return cls(vectors)

    @cached_property
    def _sets(self) -> tuple[IntArray, sp.csr_array]:
        """The set of attributes of each item (size,), -1 for none, and the vectors (S, A) of the sets."""
        vectors, number, first = self.vectors, dict[bytes, int](), list[int]()
        of_item = np.full(vectors.shape[0], -1)
        for item in np.flatnonzero(np.diff(vectors.indptr)):
            names = vectors.indices[vectors.indptr[item] : vectors.indptr[item + 1]].tobytes()
            of_item[item] = number.setdefault(names, len(number))
            if len(number) > len(first):
                first.append(int(item))
        return of_item, vectors[first]

    def entries(self, histories: Histories, candidate_items: CandidateItems) -> Evidence:
        """The most similar items of R users, the most similar sets of attributes first."""
        of_item, set_vectors = self._sets
        set_of_column = of_item[candidate_items.eligible]
        # Sets of other items cost time and give no entries: most of a large catalogue may never have been taken.
        occurring, number = np.unique(set_of_column, return_inverse=True)
        none = int(len(occurring) > 0 and occurring[0] < 0)
        set_of_column, set_vectors = number - none, set_vectors[occurring[none:]]
        members = np.argsort(set_of_column, kind="stable")
        first_member = np.searchsorted(set_of_column[members], np.arange(set_vectors.shape[0] + 1))
        every = np.arange(len(histories) + 1)
        seen_rows, seen_columns = candidate_items.seen(histories, every[:-1])
        seen = np.searchsorted(seen_rows, every)

        recent_RA, last_RA = (share @ self.vectors for share in self._shares(RecentEvents.of(histories)))
        parts = []
        for start, end in pairwise(_blocks(recent_RA, set_vectors)):
            recent, last = _similarities(recent_RA[start:end], last_RA[start:end], set_vectors)
            own_seen = seen[start : end + 1]
            size = np.diff(first_member)[recent.indices]
            kept, offsets = _most_similar(recent.data + last, size, recent.indptr, np.diff(own_seen))
            lengths = size[kept]
            columns = members[spans(first_member[recent.indices[kept]], lengths)]
            features = np.stack([recent.data[kept], last[kept]], axis=1)
            starts = offsets_of(lengths)[offsets]
            of_seen = (own_seen[:-1], own_seen[1:])
            is_new = np.flatnonzero(~among(columns, starts, seen_columns, of_seen, len(candidate_items)))
            row = owners(np.diff(starts))[is_new]
            is_first = np.arange(len(row)) - np.searchsorted(row, np.arange(end - start))[row] < _ENTRIES
            chosen = is_new[is_first]
            parts.append(Evidence(start + row[is_first], columns[chosen], features[owners(lengths)[chosen]]))
        if len(parts) == 1:
            return parts[0]
        fields = zip(*((part.rows, part.columns, part.features) for part in parts), strict=True)
        return Evidence(*map(np.concatenate, fields))

    def _shares(self, recent: RecentEvents) -> tuple[sp.csr_array, sp.csr_array]:
        """Weights (R, size) of the items in the means over R users' recent events, and over the last basket."""

        def shares(weight: npt.NDArray[np.float32]) -> sp.csr_array:
            total = np.bincount(recent.owner, weights=weight, minlength=recent.users)
            return recent.matrix(weight / total[recent.owner], self.vectors.shape[0])

        return shares(recent.faded), shares(recent.weights * (recent.ago == 0))

    def behind(
        self, weights: Mapping[str, float], histories: Histories, rows: IntArray, items: IntArray
    ) -> sp.csr_array:
        """The parts of the weighted sum of both means, which add up to what the term adds to the score."""

        def similar(sources: IntArray, targets: IntArray) -> npt.NDArray[np.float32]:
            found = np.empty(len(sources), dtype=np.float32)
            for start in range(0, len(sources), _PAIRS):
                part = slice(start, start + _PAIRS)
                found[part] = self.vectors[sources[part]].multiply(self.vectors[targets[part]]).sum(axis=1)
            return found

        recent, last = self._shares(RecentEvents.of(histories))
        return contributions(weights["recent"] * recent + weights["last"] * last, rows, items, similar)

    def resized(self, size: int) -> Attributes:
        """The vectors of item indices below ``size``."""
        return Attributes(self.vectors[:size])

    def save(self, folder: Path) -> None:
        """Write attributes.parquet: item_index, attribute, value."""
        write_matrix(self.vectors, folder / _FILE, (ITEM_INDEX, "attribute", "value"))

    @classmethod
    def load(cls, folder: Path, size: int) -> Attributes:
        """Read what :meth:`save` wrote."""
        return cls(read_matrix(folder / _FILE, size))


if TYPE_CHECKING:
    _conforms: type[CountedTerm] = Attributes


def _blocks(profile_RA: sp.csr_array, set_vectors: sp.csr_array) -> list[int]:
    """Bounds of blocks of rows. A block has at most ``_BLOCK`` similarities to the sets and those of one row more."""
    sets = np.bincount(set_vectors.indices, minlength=set_vectors.shape[1])
    so_far = offsets_of(sets[profile_RA.indices])[profile_RA.indptr]
    return [0, *run_starts(so_far[:-1] // _BLOCK)[1:].tolist(), profile_RA.shape[0]]


def _similarities(
    recent_RA: sp.csr_array, last_RA: sp.csr_array, set_vectors: sp.csr_array
) -> tuple[sp.csr_array, FloatArray]:
    """Similarities (R, S) of profiles of recent events to the sets of attributes, and those of the last basket.

    The latter are the values at the entries of the former, which include them.
    """
    # The conversion back sorts each row's sets, faster than by comparing them.
    recent, last = ((set_vectors @ profile.T.tocsr()).T.tocsr().astype(np.float32) for profile in (recent_RA, last_RA))
    keys = [owners(np.diff(found.indptr)) * len(set_vectors.indptr) + found.indices for found in (recent, last)]
    at_entries = np.zeros(recent.nnz, dtype=np.float32)
    at_entries[np.searchsorted(*keys)] = last.data
    return recent, at_entries


def _most_similar(values: FloatArray, sizes: IntArray, offsets: IntArray, seen: IntArray) -> tuple[IntArray, IntArray]:
    """Positions of the largest values of each row, whose sizes add up to ``_ENTRIES`` and ``seen`` (R,) more.

    Returns:
        The positions, the largest value of a row first, and (R + 1,) the rows' offsets. Rows whose sizes add up to
        ``_ENTRIES`` at most are returned whole, in any order.
    """
    # A float32 that is not negative sorts as its bits do; the position decides between equal values.
    keys = ((np.iinfo(np.int32).max - values.view(np.int32).astype(np.int64)) << 32) | np.arange(len(values))
    crowded = np.diff(offsets_of(sizes)[offsets]) > _ENTRIES
    rows = zip(offsets[:-1].tolist(), offsets[1:].tolist(), crowded.tolist(), (seen + _ENTRIES).tolist(), strict=True)
    kept = [np.zeros(0, dtype=np.int64)]
    for start, end, is_crowded, enough in rows:
        if is_crowded:
            order = np.sort(keys[start:end]) & 0xFFFFFFFF
            kept.append(order[: int(np.searchsorted(np.cumsum(sizes[order]), enough)) + 1])
        else:
            kept.append(np.arange(start, end))
    return np.concatenate(kept), np.cumsum([len(part) for part in kept])
