"""Candidates of one shard of users: encode, search, add habit or co-occurrence, leave out what they had, write.

The search stays exact with all of these, see :func:`_search`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hmamba.candidates.part import PLAIN, part_writer
from hmamba.columns import FALLBACK_VERSION, ITEM_ID, MODEL_VERSION, POINT, RANK, SCORE, USER_ID
from hmamba.evaluation.baselines import popular
from hmamba.evaluation.ranking import repeats_of
from hmamba.files import atomic_file
from hmamba.index.base import Excluded, FloatArray, RealArray
from hmamba.index.index import ROWS, ItemIndex, point_column
from hmamba.inference.encode import Encode, encode_users
from hmamba.model.hmamba import HMamba
from hmamba.models.files import StoredModel
from hmamba.progress import Progress
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray, spans
from hmamba.sequences.sets import among
from hmamba.terms.repeats import RepeatFeatures

POINTS = pa.schema({USER_ID: pa.string(), POINT: pa.list_(pa.float32())})
"""Columns of the users' Lorentz points."""


@dataclass(frozen=True)
class Ranked:
    """Candidates: n rows, sorted by user and rank.

    Attributes:
        users: (n,) positions of users.
        items: (n,) item indices.
        scores: (n,) never rising within a user.
    """

    users: IntArray
    items: IntArray
    scores: FloatArray


def _best(k: int, *parts: tuple[IntArray, IntArray, RealArray]) -> tuple[IntArray, IntArray, RealArray]:
    """The ``k`` best entries of each row, best first; equal scores by column, so that the order is always the same.

    Args:
        k: entries a row.
        parts: (R + 1,) offsets of the rows, columns and scores; no column twice in a row.

    Returns:
        Row, column and score of each.
    """
    offsets = [part[0].tolist() for part in parts]
    best_columns, best_scores = [], []
    for row in range(len(offsets[0]) - 1):  # a row at a time: sorting all at once takes three times as long
        own = [slice(*of[row : row + 2]) for of in offsets]
        columns = np.concatenate([part[1][place] for part, place in zip(parts, own, strict=True)])
        scores = np.concatenate([part[2][place] for part, place in zip(parts, own, strict=True)])
        if len(scores) > k:
            keep = ~(scores < np.partition(scores, -k)[-k])  # what is no number is not lost on the way to the checks
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
    """The ``k`` best items of the index for every user, but for those that an approximate search misses.

    Args:
        stored: the model.
        index: its items.
        histories: (U) what the users did, in indices that the model knows.
        hidden_Ud: their hidden states.
        k: items a user.
        exclude_seen: leave out items that the user has had.
    """
    model = stored.model.in_float64() if index.vectors.dtype == np.float64 else stored.model
    users = np.arange(len(histories))
    repeats = (
        repeats_of(model, histories, index.candidate_items, users)
        if model.repeat_rate is not None and not exclude_seen
        else None
    )
    owner, columns = (
        index.candidate_items.seen(histories, users) if repeats is None else (repeats.rows, repeats.columns)
    )
    offsets = np.searchsorted(owner, np.arange(len(users) + 1))
    width = np.diff(offsets)
    parts: list[tuple[IntArray, IntArray, RealArray]] = []
    # Users with histories of like size together, so that few are asked for more than they need.
    by_width = np.argsort(width, kind="stable")
    with Progress("score: search", len(users), "users") as progress:
        for start in range(0, len(users), ROWS):
            block = by_width[start : start + ROWS]
            own = spans(offsets[block], width[block])
            within = np.repeat(np.arange(len(block)), width[block])
            excluded = (within, columns[own]) if exclude_seen else None
            again = None if repeats is None else repeats.part(within, own)
            hidden_Rd = hidden_Ud[torch.from_numpy(block)].to(model.tangents.weight.device, model.tangents.weight.dtype)
            rows, found, scores = _search(model, index, histories, block, hidden_Rd, excluded, again, k)
            parts.append((block[rows], found, scores))
            progress.update(len(block))
    rows, found, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    return Ranked(rows[order], index.candidate_items.eligible[found[order]], scores[order].astype(np.float32))


def _search(
    model: HMamba,
    index: ItemIndex,
    histories: Histories,
    users: IntArray,
    hidden_Rd: torch.Tensor,
    excluded: Excluded | None,
    again: RepeatFeatures | None,
    k: int,
) -> tuple[IntArray, IntArray, RealArray]:
    """The best ``k`` of each of a block of users: (row, column, score), best first in each row.

    ``excluded`` may not be recommended, ``again`` may although the user has had it, at a rate of its own.

    The index holds base scores only. A score term never lowers a score, so an item without an entry in it can be among
    the k best only if it is among the k best by base score: k results of the index, which leaves out excluded items,
    suffice.
    """
    score, device = model.score(), hidden_Rd.device
    queries = model.query_vectors(hidden_Rd).cpu().numpy()
    products, columns = index.search(queries, k, excluded)
    every = np.arange(len(users) + 1)
    raised_rows, raised_columns, score_of = _raised(model, index.candidate_items, histories, users, hidden_Rd, again)
    raised = np.searchsorted(raised_rows, every)
    asked, columns = every * columns.shape[1], columns.ravel()
    is_raised = among(columns, asked, raised_columns, (raised[:-1], raised[1:]), len(index.candidate_items))
    is_plain = np.isfinite(products.ravel()) & ~is_raised
    plain, columns = np.concatenate([[0], np.cumsum(is_plain)])[asked], columns[is_plain]
    # Multiplied again, so that scores do not depend on what searched.
    base = score.logits(_products(index, queries, plain, columns).to(device)).cpu().numpy()
    lifted = score_of(score.logits(_products(index, queries, raised, raised_columns).to(device))).cpu().numpy()
    return _best(k, (plain, columns, base), (raised, raised_columns, lifted))


def _products(index: ItemIndex, queries: RealArray, offsets: IntArray, columns: IntArray) -> torch.Tensor:
    """Inner products of entries, query by query."""
    products = np.empty(len(columns), dtype=queries.dtype)
    # A row at a time, in memory that is used again: the vectors of all entries at once would be gigabytes.
    gathered = np.empty((int(np.diff(offsets).max(initial=0)), queries.shape[1]), dtype=index.vectors.dtype)
    for query, (start, end) in zip(queries, pairwise(offsets.tolist()), strict=True):
        mine = gathered[: end - start]
        np.take(index.vectors, columns[start:end], axis=0, out=mine, mode="clip")  # other modes copy once more
        np.dot(mine, query, out=products[start:end])
    return torch.from_numpy(products)


def _raised(
    model: HMamba,
    candidate_items: CandidateItems,
    histories: Histories,
    users: IntArray,
    hidden_Rd: torch.Tensor,
    again: RepeatFeatures | None,
) -> tuple[IntArray, IntArray, Callable[[torch.Tensor], torch.Tensor]]:
    """Rows and columns whose base score is not all of their score, and what makes a score of it."""
    device, dtype = hidden_Rd.device, hidden_Rd.dtype
    if model.cooccurrence is not None:
        entries = model.cooccurrence.after(histories, candidate_items, users)
        by = torch.from_numpy(model.cooccurrence.raises(entries.shares)).to(device, dtype)
        return entries.rows, entries.columns, lambda base_E: base_E + by
    if model.repeat_rate is not None and again is not None:
        rates_E = model.log_repeat_rates(hidden_Rd, again, torch.from_numpy(candidate_items.eligible).to(device))
        return again.rows, again.columns, lambda base_E: torch.logaddexp(base_E, rates_E)
    none = np.zeros(0, dtype=np.int64)
    return none, none, lambda base_E: base_E


@dataclass(frozen=True)
class ShardCounts:
    """What scoring a shard has to say."""

    users: int
    fallback_users: int
    rows: int

    def and_so(self, users: int, fallback_users: int, rows: int) -> ShardCounts:
        """With a further block."""
        return ShardCounts(self.users + users, self.fallback_users + fallback_users, self.rows + rows)


@dataclass(frozen=True)
class ScoredBlock:
    """What a block of U users gets.

    Attributes:
        ranked: their candidates.
        versions: (U,) what made each user's, for model_version.
        points: (U, d + 1) the users' Lorentz points; None where nobody has one.
        fallback_users: who got popular items for want of a history.
    """

    ranked: Ranked
    versions: pa.Array
    points: FloatArray | None
    fallback_users: int


def write_candidates(
    score: Callable[[Histories], ScoredBlock],
    item_ids: pa.Array,
    blocks: Iterable[Histories],
    *,
    candidates: Path,
    vectors: Path,
) -> ShardCounts:
    """Write the candidates and the Lorentz points of a shard's users, a block of them at a time.

    Args:
        score: what ranks a block.
        item_ids: (size,) item ids by index.
        blocks: the shard's users; no more than one block is held.
        candidates: file to write: user_id, rank, item_id, score, model_version.
        vectors: file to write: user_id, point, which is null where users have none.
    """
    counts = ShardCounts(0, 0, 0)
    with ExitStack() as stack:
        target, target_of_points = (stack.enter_context(atomic_file(path)) for path in (candidates, vectors))
        tables = stack.enter_context(part_writer(target))
        points = stack.enter_context(pq.ParquetWriter(target_of_points, POINTS, compression="zstd"))
        for histories in blocks:
            block = score(histories)
            tables.write_table(_table(block, item_ids, histories))
            names = histories.users.cast(pa.string())
            none = pa.nulls(len(names), POINTS.field(POINT).type)
            column = none if block.points is None else point_column(block.points)
            points.write_table(pa.table([names, column], schema=POINTS))
            counts = counts.and_so(len(histories), block.fallback_users, len(block.ranked.users))
    return counts


@dataclass(frozen=True)
class ModelScorer:
    """Ranks by the model that serves.

    Attributes:
        stored: the model.
        index: its items.
        popularity: (size,) events of each item index, for users whose history holds nothing that the model knows.
        k: items a user.
        exclude_seen: leave out items that the user has seen.
        encode: what makes hidden states of histories; it may keep, or resume from, carried states.
    """

    stored: StoredModel
    index: ItemIndex
    popularity: IntArray
    k: int
    exclude_seen: bool
    encode: Encode = encode_users

    @torch.inference_mode()
    def __call__(self, histories: Histories) -> ScoredBlock:
        """Candidates and points of a block of users."""
        stored = self.stored
        ranked, hidden_Ud, is_known = _rank(
            stored, self.index, histories, self.popularity, self.k, self.exclude_seen, self.encode
        )
        points_UX = stored.model.user_points(hidden_Ud.to(stored.model.tangents.weight.device)).float().cpu().numpy()
        versions = pa.array(np.where(is_known, stored.version, FALLBACK_VERSION))
        return ScoredBlock(ranked, versions, points_UX, int((~is_known).sum()))


def _rank(
    stored: StoredModel,
    index: ItemIndex,
    histories: Histories,
    popularity: IntArray,
    k: int,
    exclude_seen: bool,
    encode: Encode,
) -> tuple[Ranked, torch.Tensor, npt.NDArray[np.bool_]]:
    """Candidates of a block of users, their hidden states (U, d), and of whom (U,) the model knows something."""
    read, is_known = stored.readable(histories)
    hidden_Ud = encode(stored.model, read)
    served, lost = np.flatnonzero(is_known), np.flatnonzero(~is_known)
    ranked = Ranked(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    if len(served):
        part = retrieve(
            stored,
            index,
            read.select(served),
            hidden_Ud[torch.from_numpy(served)],
            k=k,
            exclude_seen=exclude_seen,
        )
        ranked = Ranked(served[part.users], part.items, part.scores)
    if len(lost):
        ranked = _with_fallback(ranked, lost, index, popularity, read, k, exclude_seen)
    order = np.argsort(ranked.users, kind="stable")
    return Ranked(ranked.users[order], ranked.items[order], ranked.scores[order]), hidden_Ud, is_known


def _table(block: ScoredBlock, item_ids: pa.Array, histories: Histories) -> pa.Table:
    """Candidates as rows of what is published."""
    ranked = block.ranked
    users, starts = ranked.users, np.searchsorted(ranked.users, ranked.users)
    columns = {
        USER_ID: histories.users.take(pa.array(users)).cast(pa.string()),
        RANK: pa.array(np.arange(len(users)) - starts + 1, pa.int32()),
        ITEM_ID: item_ids.take(pa.array(ranked.items)),
        SCORE: pa.array(ranked.scores, pa.float32()),
        MODEL_VERSION: block.versions.take(pa.array(users)),
    }
    return pa.table(columns, schema=PLAIN)


def _with_fallback(
    ranked: Ranked,
    lost: IntArray,
    index: ItemIndex,
    popularity: IntArray,
    histories: Histories,
    k: int,
    exclude_seen: bool,
) -> Ranked:
    """Add the most popular items of the index for users of whom the model knows nothing.

    Such users may still have seen items of the index: events of weight 0 are not read. The score is the log share of
    events.
    """
    size = len(index.candidate_items.column)
    counts = np.zeros(size, dtype=np.int64)
    eligible = index.candidate_items.eligible
    counts[eligible] = np.maximum(popularity[eligible], 1)
    top = popular(histories.select(lost), counts, k, exclude_seen=exclude_seen)
    rows, places = np.nonzero(top >= 0)
    items = top[rows, places]
    scores = np.log(counts[items] / counts.sum()).astype(np.float32)
    return Ranked(
        np.concatenate([ranked.users, lost[rows]]),
        np.concatenate([ranked.items, items]),
        np.concatenate([ranked.scores, scores]),
    )
