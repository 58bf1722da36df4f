"""Why an item is recommended: what each kind of evidence adds to its score (``[candidates] because``).

A score is a logit: a base score, to which score terms add. What a term adds has a meaning of its own, but the base
score has an arbitrary origin, because a softmax does not change if all logits do. Its origin is therefore set to the
user's mean base score over all events of all users: an item that is drawn blindly from what everybody takes adds 0 on
average. The rest is divided into the item's bias, which is its popularity as the model has learned it, and the part
that depends on the user:

    popular  = bias(v) - mean of bias over all events
    taste    = base(u, v) - bias(v) - mean of base(u) - bias over all events
    again    = log(exp(base) + exp(log rate)) - base, for the learned term
    together = weights times features, for a counted term; alike likewise

These parts add up to the score, less the mean, exactly. The largest part is the reason of a row. Corrections by a
ranker and by rules are no evidence and no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from hmamba.columns import BECAUSE, BECAUSE_ITEM, PADDING_INDEX
from hmamba.index.base import DoubleArray, RealArray
from hmamba.index.index import ROWS, ItemIndex
from hmamba.models.files import StoredModel
from hmamba.ranker import Known
from hmamba.score_terms import NEW, POPULAR, SCORE_TERMS, TASTE, reason_names
from hmamba.sequences.histories import Histories, IntArray

if TYPE_CHECKING:
    import scipy.sparse as sp

_VECTORS = 1 << 16  # vectors that are gathered, or converted to float64, at a time
_LOGITS = 1 << 22  # logits that are computed at a time for a mean
_OF_BASE = (TASTE, POPULAR)


@dataclass(frozen=True)
class Reasons:
    """The reasons of n rows of candidates.

    Attributes:
        names: (n,) kind of evidence of each row, one of :func:`hmamba.score_terms.reason_names`.
        items: (n,) item index of the user's history that has contributed most; 0 where there is none.
    """

    names: pa.DictionaryArray
    items: IntArray

    def columns(self, item_ids: pa.Array) -> dict[str, pa.Array]:
        """The columns ``because`` and ``because_item``, given the item ids (size,) by index."""
        items = pa.array(self.items, mask=self.items == PADDING_INDEX)
        return {BECAUSE: self.names.cast(pa.string()), BECAUSE_ITEM: item_ids.take(items)}

    @classmethod
    def of_names(cls, names: npt.NDArray[np.str_]) -> Reasons:
        """Reasons (n,) without items of the history."""
        return cls(pa.array(names, pa.string()).dictionary_encode(), np.zeros(len(names), dtype=np.int64))


@dataclass(frozen=True)
class Parts:
    """What each kind of evidence adds to the scores of P pairs of a user and an item.

    Attributes:
        names: K kinds of evidence; those of the base score are first.
        values: (P, K) parts in logits.
        means: (P,) the user's mean base score over all events, to which the parts are added.
        is_new: (P,) whether the item is a new item.
    """

    names: tuple[str, ...]
    values: DoubleArray
    means: DoubleArray
    is_new: npt.NDArray[np.bool_]

    @property
    def scores(self) -> DoubleArray:
        """(P,) the model's scores, without the corrections of a ranker."""
        found: DoubleArray = self.means + self.values.sum(axis=1)
        return found

    @property
    def largest(self) -> IntArray:
        """(P,) the kind with the largest part. A score term is one only where it has raised the score."""
        values = self.values.copy()
        terms = values[:, len(_OF_BASE) :]
        terms[terms <= 0] = -np.inf
        found: IntArray = values.argmax(axis=1)
        return found


class Attribution:
    """Attributes the scores of a model to evidence. Scores are computed as in the search.

    Args:
        stored: the model.
        index: the index that is searched.
        popularity: (size,) events of each item index.

    Attributes:
        model: the model in the precision of the index.
        names: kinds of evidence, those of the base score first.
    """

    def __init__(self, stored: StoredModel, index: ItemIndex, popularity: IntArray) -> None:
        is_double = index.vectors.dtype == np.float64
        self.model = stored.model.in_float64() if is_double else stored.model
        self._indexes = [index] if index.new is None else [index, index.new]
        counts = index.served_items.counts(popularity)
        shares = [counts[part.candidate_items.eligible] / counts.sum() for part in self._indexes]
        # Item vectors end with the bias, whose factor in a query is 1.
        self._vectors = list(zip((part.vectors for part in self._indexes), shares, strict=True))
        self._mean_vector = _mean(self._vectors, index.vectors.shape[1])
        self._learned = [] if self.model.learned_term is None else [self.model.learned_term]
        self._terms = [SCORE_TERMS[name].because for name in self.model.learned_terms]
        self._terms += [SCORE_TERMS[weighted.term.name].because for weighted in self.model.counted_terms]
        self.names = (*_OF_BASE, *self._terms)

    @torch.inference_mode()
    def parts(self, histories: Histories, hidden_Ud: Tensor, users: IntArray, items: IntArray) -> Parts:
        """The parts of the scores of P pairs.

        Args:
            histories: (U) histories of the users, in the model's item indices.
            hidden_Ud: their hidden states.
            users: (P,) position of each pair's user, ascending.
            items: (P,) item index of each pair, each pair once; all of them may be recommended.
        """
        values = np.zeros((len(users), len(self.names)))
        means, is_new = np.zeros(len(users)), np.zeros(len(users), dtype=bool)
        for place, block, rows in _blocks(users):
            past, hidden_Rd = histories.select(block), hidden_Ud[torch.from_numpy(block)]
            hidden_Rd = hidden_Rd.to(self.model.tangents.weight.device, self.model.tangents.weight.dtype)
            queries_RX = self.model.query_vectors(hidden_Rd)
            means[place] = self._means(queries_RX)[rows]
            for number, index in enumerate(self._indexes):
                columns = index.candidate_items.column[items[place]]
                own = np.flatnonzero(columns >= 0)
                if len(own):
                    at = np.arange(place.start, place.stop)[own]
                    values[at] = self._of_index(index, past, hidden_Rd, queries_RX, rows[own], columns[own])
                    is_new[at] = number > 0
        values[:, 0] -= means
        return Parts(self.names, values, means, is_new)

    def _of_index(
        self,
        index: ItemIndex,
        past: Histories,
        hidden_Rd: Tensor,
        queries_RX: Tensor,
        rows: IntArray,
        columns: IntArray,
    ) -> DoubleArray:
        """Parts (P, K) of pairs of one index; the mean is not taken off the first one."""
        queries, device = queries_RX.cpu().numpy(), hidden_Rd.device
        products = np.empty(len(rows), dtype=queries.dtype)
        for start in range(0, len(rows), _VECTORS):
            part = slice(start, start + _VECTORS)
            products[part] = np.einsum("px,px->p", queries[rows[part]], index.vectors[columns[part]])
        base = self.model.score().logits(torch.from_numpy(products).to(device)).double().cpu().numpy()
        bias = index.vectors[columns, -1].astype(np.float64)
        width = len(index.candidate_items)
        keys = rows * width + columns
        # The origin of the bias is its mean; what is taken off here belongs to the other part of the base score.
        origin = float(self._mean_vector[-1])
        found, running = [base - bias + origin, bias - origin], base
        for term in self._learned:
            entries = term.entries(past, index.candidate_items)
            rates = term.log_rates(hidden_Rd, entries).double().cpu().numpy()
            rate = _at(entries.rows * width + entries.columns, rates, keys, -np.inf)
            found.append(np.logaddexp(running, rate) - running)
            running = running + found[-1]
        for weighted in self.model.counted_terms:
            added = weighted.added(past, index.candidate_items)
            found.append(_at(added.rows * width + added.columns, added.added, keys, 0.0))
        return np.stack(found, axis=1)

    def _means(self, queries_RX: Tensor) -> DoubleArray:
        """Mean base scores (R,) over all events."""
        score = self.model.score()
        if score.is_affine:
            mean_X = torch.from_numpy(self._mean_vector).to(queries_RX.device)
            means: DoubleArray = score.logits(queries_RX.double() @ mean_X.double()).double().cpu().numpy()
            return means
        total = np.zeros(len(queries_RX))
        step = max(1, _LOGITS // max(1, len(queries_RX)))
        for vectors, share in self._vectors:
            for start in range(0, len(vectors), step):
                items_VX = torch.from_numpy(np.array(vectors[start : start + step])).to(queries_RX.device)
                logits_RV = score.logits(queries_RX @ items_VX.T)
                total += logits_RV.double().cpu().numpy() @ share[start : start + step]
        return total

    def reasons(
        self, histories: Histories, hidden_Ud: Tensor, is_known: npt.NDArray[np.bool_], users: IntArray, items: IntArray
    ) -> Reasons:
        """The reasons of n rows of candidates.

        Args:
            histories: as for :meth:`parts`.
            hidden_Ud: likewise.
            is_known: (U,) whether each user's items were ranked by the model; others got popular ones.
            users: (n,) position of each row's user, ascending.
            items: (n,) its item index.
        """
        names = reason_names()
        codes, sources = np.full(len(users), names.index(POPULAR)), np.zeros(len(users), dtype=np.int64)
        ranked = np.flatnonzero(is_known[users])
        users, items = users[ranked], items[ranked]
        parts = self.parts(histories, hidden_Ud, users, items)
        best = parts.largest
        own = np.array([names.index(name) for name in parts.names])[best]
        own[parts.is_new & (best < len(_OF_BASE))] = names.index(NEW)
        codes[ranked] = own
        for name in self._terms:
            wanted = np.flatnonzero(best == parts.names.index(name))
            sources[ranked[wanted]] = self._sources(name, histories, users[wanted], items[wanted])
        return Reasons(pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names)), sources)

    def _sources(self, name: str, histories: Histories, users: IntArray, items: IntArray) -> IntArray:
        """The item of the history (P,) with the largest part of a term; 0 where there is none."""
        found = np.zeros(len(users), dtype=np.int64)
        for place, block, rows in _blocks(users):
            matrix = self.behind(name, histories.select(block), rows, items[place])
            if matrix is not None:
                found[place] = _largest(matrix)
        return found

    def behind(self, name: str, histories: Histories, rows: IntArray, items: IntArray) -> sp.csr_array | None:
        """What each item of the history contributes to a term, see :meth:`hmamba.terms.base.CountedTerm.behind`.

        Args:
            name: the term's word.
            histories: (R) histories.
            rows: (P,) row of each pair.
            items: (P,) item index of each pair.

        Returns:
            (P, size); None for a term whose evidence does not come from single items.
        """
        for weighted in self.model.counted_terms:
            if SCORE_TERMS[weighted.term.name].because == name:
                return weighted.term.behind(weighted.weights, histories, rows, items)
        return None


def _mean(parts: list[tuple[RealArray, DoubleArray]], width: int) -> DoubleArray:
    """Mean vector (width,) of several groups of vectors with their shares."""
    mean = np.zeros(width)
    for vectors, share in parts:
        for start in range(0, len(vectors), _VECTORS):
            part = slice(start, start + _VECTORS)
            mean += share[part] @ vectors[part].astype(np.float64)
    return mean


def _blocks(users: IntArray) -> Iterator[tuple[slice, IntArray, IntArray]]:
    """Divide pairs with ascending users by users: the pairs, the users of a block and each pair's row among these."""
    distinct, row = np.unique(users, return_inverse=True)
    for start in range(0, len(distinct), ROWS):
        first, end = np.searchsorted(row, [start, start + ROWS]).tolist()
        yield slice(first, end), distinct[start : start + ROWS], row[first:end] - start


def _at(keys: IntArray, values: npt.NDArray[np.floating], wanted: IntArray, missing: float) -> DoubleArray:
    """Values (P,) of wanted keys (P,), each once; ``missing`` for those that are not among ``keys`` (E,)."""
    found = Known(keys, values.astype(np.float32)[:, None]).at(wanted)[:, 0].astype(np.float64)
    return np.where(np.isnan(found), missing, found)


def _largest(matrix: sp.csr_array) -> IntArray:
    """Column (P,) of the largest value of each row, the first of equal ones; 0 where no value is above 0."""
    found = np.zeros(matrix.shape[0], dtype=np.int64)
    rows = np.flatnonzero(np.diff(matrix.indptr))
    if len(rows):
        starts = matrix.indptr[rows]
        most = np.maximum.reduceat(matrix.data, starts)
        lengths = np.diff(matrix.indptr)[rows]
        is_most = (matrix.data == np.repeat(most, lengths)) & (matrix.data > 0)
        owner, place = np.repeat(rows, lengths)[is_most], matrix.indices[is_most]
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        found[owner[first]] = place[first]
    return found
