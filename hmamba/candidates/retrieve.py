"""Retrieve the best items of users: search the index, combine with score terms, exclude seen items.

Score terms and exclusion keep the search exact; see :func:`_search`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from hmamba.evaluation.ranking import Quota, Table
from hmamba.index.base import DoubleArray, Excluded, FloatArray, RealArray, Searcher
from hmamba.index.index import ROWS, ItemIndex
from hmamba.inference.rerank import depth_of, values_for
from hmamba.model.hmamba import HMamba
from hmamba.models.files import StoredModel
from hmamba.progress import Progress
from hmamba.ranker import Ranker, Shortlist
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray, spans
from hmamba.sequences.sets import among
from hmamba.terms.base import AnyTerm, Entries


@dataclass(frozen=True)
class Ranked:
    """Candidates: n rows, sorted by user and rank.

    Attributes:
        users: (n,) positions of users.
        items: (n,) item indices.
        scores: (n,) descending within a user.
    """

    users: IntArray
    items: IntArray
    scores: FloatArray

    @classmethod
    def together(cls, parts: Sequence[Ranked]) -> Ranked:
        """The candidates of several groups of users."""
        none = cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        users = np.concatenate([part.users for part in (none, *parts)])
        order = np.argsort(users, kind="stable")
        items = np.concatenate([part.items for part in (none, *parts)])
        scores = np.concatenate([part.scores for part in (none, *parts)])
        return cls(users[order], items[order], scores[order])

    @property
    def ranks(self) -> IntArray:
        """(n,) ranks from 1 of each user's candidates."""
        ranks: IntArray = np.arange(1, len(self.users) + 1) - np.searchsorted(self.users, self.users)
        return ranks

    def table(self, users: int) -> Table:
        """Item indices (U, most of a user) of U users and their scores, padded with -1 and -inf."""
        place = self.users, self.ranks - 1
        shape = users, int(place[1].max(initial=-1)) + 1
        items, scores = np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32)
        items[place], scores[place] = self.items, self.scores
        return items, scores

    @classmethod
    def of_table(cls, table: Table) -> Ranked:
        """The entries of a table, see :meth:`table`."""
        users, places = np.nonzero(table[0] >= 0)
        return cls(users, table[0][users, places], table[1][users, places])

    def of(self, users: IntArray) -> Ranked:
        """The same candidates, with the users at these positions in place of 0, 1, ..."""
        return Ranked(users[self.users], self.items, self.scores)


def shares_of(table: IntArray, counts: IntArray) -> tuple[IntArray, IntArray, DoubleArray]:
    """Users, items and shares of all events of the entries of a table of items (U, k), whose rows end with -1."""
    users, places = np.nonzero(table >= 0)
    items = table[users, places]
    return users, items, counts[items] / counts.sum()


def _best(k: int, *parts: tuple[IntArray, IntArray, RealArray]) -> tuple[IntArray, IntArray, RealArray]:
    """Select the ``k`` best entries of each row, best first. Equal scores are ordered by column.

    Args:
        k: entries per row.
        parts: (R + 1,) row offsets, columns and scores. A column occurs once per row, over all parts.

    Returns:
        Row, column and score of each entry.
    """
    offsets = [part[0].tolist() for part in parts]
    best_columns, best_scores = [], []
    for row in range(len(offsets[0]) - 1):  # per row: sorting all rows at once takes three times as long
        own = [slice(*of[row : row + 2]) for of in offsets]
        columns = np.concatenate([part[1][place] for part, place in zip(parts, own, strict=True)])
        scores = np.concatenate([part[2][place] for part, place in zip(parts, own, strict=True)])
        if len(scores) > k:
            keep = ~(scores < np.partition(scores, -k)[-k])  # keeps NaN, so that the checks find it
            columns, scores = columns[keep], scores[keep]
        order = np.lexsort((columns, -scores))[:k]
        best_columns.append(columns[order])
        best_scores.append(scores[order])
    rows = np.repeat(np.arange(len(best_columns)), [len(columns) for columns in best_columns])
    return rows, np.concatenate(best_columns), np.concatenate(best_scores)


@torch.inference_mode()
def retrieve(
    stored: StoredModel,
    index: ItemIndex,
    histories: Histories,
    hidden_Ud: torch.Tensor,
    *,
    k: int,
    exclude_seen: bool,
) -> Ranked:
    """Retrieve the ``k`` best items of the index for each user; an approximate index may miss some.

    Of these, ``index.new_share`` are new items at least, see :class:`hmamba.evaluation.ranking.Quota`.

    Args:
        stored: the model.
        index: index of the candidate items.
        histories: (U) histories of the users, in the model's item indices.
        hidden_Ud: hidden states of the users.
        k: items per user.
        exclude_seen: exclude items that the user has seen.
    """
    known = _retrieve(stored, index, histories, hidden_Ud, k=k, exclude_seen=exclude_seen)
    if index.new is None or not k:
        return known
    new = _retrieve(stored, index.new, histories, hidden_Ud, k=k, exclude_seen=exclude_seen, rerank=False)
    quota, number = Quota.of(k, index.new_share), len(histories)
    return Ranked.of_table(quota.apply(known.table(number), new.table(number), k))


def _retrieve(
    stored: StoredModel,
    index: ItemIndex,
    histories: Histories,
    hidden_Ud: torch.Tensor,
    *,
    k: int,
    exclude_seen: bool,
    rerank: bool = True,
) -> Ranked:
    """The ``k`` best items of one index for each user, as :func:`retrieve`; new items are not ranked again."""
    parts = [
        Ranked(block[found.rows], index.candidate_items.eligible[found.columns], found.scores.astype(np.float32))
        for block, found in _blocks(stored, index, histories, hidden_Ud, k, exclude_seen=exclude_seen, rerank=rerank)
    ]
    return Ranked.together(parts)


@dataclass(frozen=True)
class Favoured:
    """Items that are searched again by themselves, because they may rise.

    Attributes:
        searcher: finds these items only.
        depth: number of them to find.
        kept: number of entries to keep in all.
    """

    searcher: Searcher
    depth: int
    kept: int


@torch.inference_mode()
def retrieve_table(
    stored: StoredModel,
    index: ItemIndex,
    histories: Histories,
    hidden_Ud: torch.Tensor,
    *,
    k: int,
    exclude_seen: bool,
    rerank: bool = True,
    favoured: Favoured | None = None,
) -> Table:
    """The ``k`` best items of one index for each user: indices (U, D) and scores, -1 and -inf where none is left.

    With ``favoured`` items, the ``favoured.kept`` best of: the k best, the best favoured ones, and all with a score
    term. The first k are then still the k best.
    """
    width = k if favoured is None else favoured.kept
    items = np.full((len(histories), width), -1, dtype=np.int64)
    scores = np.full((len(histories), width), -np.inf, dtype=np.float32)
    blocks = _blocks(
        stored, index, histories, hidden_Ud, k, exclude_seen=exclude_seen, rerank=rerank, favoured=favoured
    )
    for block, found in blocks:
        at = block[found.rows], found.places
        items[at], scores[at] = index.candidate_items.eligible[found.columns], found.scores
    return items, scores


def _blocks(
    stored: StoredModel,
    index: ItemIndex,
    histories: Histories,
    hidden_Ud: torch.Tensor,
    k: int,
    *,
    exclude_seen: bool,
    rerank: bool,
    favoured: Favoured | None = None,
) -> Iterator[tuple[IntArray, Shortlist]]:
    """Search for blocks of users: their positions, and their best items."""
    if not len(index.candidate_items):
        return
    model = stored.model.in_float64() if index.vectors.dtype == np.float64 else stored.model
    ranker = model.ranker if rerank else None
    users = np.arange(len(histories))
    owner, columns = index.candidate_items.seen(histories, users)
    offsets = np.searchsorted(owner, np.arange(len(users) + 1))
    width = np.diff(offsets)
    # Group users by the number of excluded items, so that few searches return more than they need.
    by_width = np.argsort(width, kind="stable")
    with Progress("score: search", len(users), "users") as progress:
        for start in range(0, len(users), ROWS):
            block = by_width[start : start + ROWS]
            own = spans(offsets[block], width[block])
            excluded = (np.repeat(np.arange(len(block)), width[block]), columns[own]) if exclude_seen else None
            hidden_Rd = hidden_Ud[torch.from_numpy(block)].to(model.tangents.weight.device, model.tangents.weight.dtype)
            past = histories.select(block)
            yield block, _search(model, index, past, hidden_Rd, excluded, k, ranker, favoured)
            progress.update(len(block))


def _search(
    model: HMamba,
    index: ItemIndex,
    histories: Histories,
    hidden_Rd: torch.Tensor,
    excluded: Excluded | None,
    k: int,
    ranker: Ranker | None,
    favoured: Favoured | None = None,
) -> Shortlist:
    """Retrieve the ``k`` best items of each of R users, and ``favoured`` ones.

    The index holds base scores only. A score term never lowers a score, so an item without an entry in it can be among
    the k best only if it is among the k best by base score: k results of the index, which leaves out excluded items,
    suffice. With a ranker, the order of the best items is its own.
    """
    depth = depth_of(ranker, k)
    score, device, width = model.score(), hidden_Rd.device, len(index.candidate_items)
    queries = model.query_vectors(hidden_Rd).cpu().numpy()
    products, columns = index.search(queries, depth, excluded)
    if favoured is not None:
        products, columns = _with_favoured(favoured, queries, excluded, products, columns, width)
    every = np.arange(len(histories) + 1)
    offsets, columns = every * columns.shape[1], columns.ravel()
    raised = _Raised.of(model.terms, histories, index.candidate_items)
    at = np.searchsorted(raised.rows, every)
    is_plain = np.isfinite(products.ravel()) & ~among(columns, offsets, raised.columns, (at[:-1], at[1:]), width)
    is_open = np.ones(len(raised.rows), dtype=bool)
    if excluded is not None:
        ends = np.searchsorted(excluded[0], every)
        is_open = ~among(raised.columns, at, excluded[1], (ends[:-1], ends[1:]), width)
    plain, columns = np.concatenate([[0], np.cumsum(is_plain)])[offsets], columns[is_plain]
    # Recomputed, so that scores do not depend on the kind of search.
    base = score.logits(_products(index, queries, plain, columns).to(device)).cpu().numpy()
    base_E = score.logits(_products(index, queries, at, raised.columns).to(device))
    lifted = raised.combine(base_E, hidden_Rd).cpu().numpy()[is_open]
    opened = np.concatenate([[0], np.cumsum(is_open)])[at]
    kept = depth if favoured is None else favoured.kept
    found = Shortlist(*_best(kept, (plain, columns, base), (opened, raised.columns[is_open], lifted)))
    if ranker is None:
        return found
    head = found.best(ranker.depth)
    of_head = score.logits(_products(index, queries, np.searchsorted(head.rows, every), head.columns).to(device))
    evidence = [(term, entries) for term, entries, _ in raised.parts]
    values = values_for(model, histories, index.candidate_items, evidence, head, of_head.cpu().numpy())
    return ranker.reranked(found, values).best(k)


def _with_favoured(
    favoured: Favoured,
    queries: RealArray,
    excluded: Excluded | None,
    products: RealArray,
    columns: IntArray,
    width: int,
) -> tuple[RealArray, IntArray]:
    """Products (R, D) and columns of found items, with those of favoured items beside them; -inf for repeated ones."""
    more, others = favoured.searcher.search(queries, min(favoured.depth, width), excluded)
    starts, ends = np.arange(len(columns)) * columns.shape[1], np.arange(1, len(columns) + 1) * columns.shape[1]
    offsets = np.arange(len(others) + 1) * others.shape[1]
    more[among(others.ravel(), offsets, columns.ravel(), (starts, ends), width).reshape(others.shape)] = -np.inf
    return np.concatenate([products, more], axis=1), np.concatenate([columns, others], axis=1)


def _products(index: ItemIndex, queries: RealArray, offsets: IntArray, columns: IntArray) -> torch.Tensor:
    """Inner products of each query with its entries."""
    products = np.empty(len(columns), dtype=queries.dtype)
    # One row at a time into a reused buffer: the vectors of all entries together would take gigabytes.
    gathered = np.empty((int(np.diff(offsets).max(initial=0)), queries.shape[1]), dtype=index.vectors.dtype)
    for query, (start, end) in zip(queries, pairwise(offsets.tolist()), strict=True):
        block = gathered[: end - start]
        np.take(index.vectors, columns[start:end], axis=0, out=block, mode="clip")  # other modes make another copy
        np.dot(block, query, out=products[start:end])
    return torch.from_numpy(products)


@dataclass(frozen=True)
class _Raised:
    """Items with a score term: the entries of all terms, each (row, column) once.

    Attributes:
        rows, columns: (E,) sorted by row.
        parts: each term with its entries and their positions among these.
    """

    rows: IntArray
    columns: IntArray
    parts: list[tuple[AnyTerm, Entries, IntArray | slice]]

    @classmethod
    def of(cls, terms: Sequence[AnyTerm], histories: Histories, candidate_items: CandidateItems) -> _Raised:
        if not terms:
            return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), [])
        entries = [term.entries(histories, candidate_items) for term in terms]
        if len(terms) == 1:  # avoids sorting millions of entries
            return cls(entries[0].rows, entries[0].columns, [(terms[0], entries[0], slice(None))])
        width = max(len(candidate_items), 1)
        keys, place = np.unique(
            np.concatenate([part.rows * width + part.columns for part in entries]), return_inverse=True
        )
        places = np.split(place, np.cumsum([len(part.rows) for part in entries])[:-1])
        return cls(keys // width, keys % width, list(zip(terms, entries, places, strict=True)))

    def combine(self, base_E: torch.Tensor, hidden_Rd: torch.Tensor) -> torch.Tensor:
        """Scores (E,) of the entries, given their base scores. ``base_E`` is overwritten."""
        for term, entries, place in self.parts:
            base_E[place] = term.combine(base_E[place], entries, hidden_Rd)
        return base_E
