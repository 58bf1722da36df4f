"""Candidates of one shard of users: encode, search, add habit or leave out what they had, write.

The search stays exact with both. Of a user who has had n competing items the index is asked for k + n: among those are
the k best that are new to the user. What the user had is scored from the points directly and merged, or left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hmamba.columns import FALLBACK_VERSION, ITEM_ID, MODEL_VERSION, RANK, SCORE, USER_ID
from hmamba.evaluation.baselines import popular
from hmamba.evaluation.ranking import encode_users
from hmamba.files import atomic_file
from hmamba.model.habit import Had
from hmamba.progress import Progress
from hmamba.registry import StoredModel
from hmamba.retrieval import double
from hmamba.retrieval.double import RealArray
from hmamba.retrieval.index import FLOAT64, FloatArray, ItemIndex, point_column
from hmamba.sequences.histories import Histories, IntArray, spans

_ROWS = 512


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


def _best(rows: IntArray, columns: IntArray, scores: RealArray, k: int) -> tuple[IntArray, IntArray, RealArray]:
    """The ``k`` best entries of each row, best first; equal scores by column, so that the order is always the same."""
    order = np.lexsort((columns, -scores, rows))
    rows, columns, scores = rows[order], columns[order], scores[order]
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]]) if len(rows) else np.zeros(0, dtype=np.int64)
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    keep = place < k
    return rows[keep], columns[keep], scores[keep]


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
    """The ``k`` best items of the index for every user, exactly.

    Args:
        stored: the model.
        index: its items.
        histories: (U) what the users did, in indices that the model knows.
        hidden_Ud: their hidden states.
        k: items a user.
        exclude_seen: leave out items that the user has had.
    """
    model = double.widen(stored.model) if index.kind == FLOAT64 else stored.model
    score, device, dtype = model.score(), model.tangents.weight.device, model.tangents.weight.dtype
    users = np.arange(len(histories))
    had = Had.before(histories, index.catalogue, users, histories.offsets[users + 1])
    had_offsets = np.searchsorted(had.rows, np.arange(len(users) + 1))
    width = np.diff(had_offsets)
    parts: list[tuple[IntArray, IntArray, RealArray]] = []
    # Users with histories of like size together, so that few are asked for more than they need.
    by_width = np.argsort(width, kind="stable")
    with Progress("score: search", len(users), "users") as progress:
        for start in range(0, len(users), _ROWS):
            block = by_width[start : start + _ROWS]
            hidden_Rd = hidden_Ud[torch.from_numpy(block)].to(device, dtype)
            queries = model.query_vectors(hidden_Rd).cpu().numpy()
            products, columns = index.search(queries, k + int(width[block].max()))
            rows = np.repeat(np.arange(len(block)), columns.shape[1])
            own = spans(had_offsets[block], width[block])
            own_rows, own_columns = np.repeat(np.arange(len(block)), width[block]), had.columns[own]
            stride = len(index.catalogue)
            new = ~np.isin(rows * stride + columns.ravel(), own_rows * stride + own_columns)
            found_rows, found_columns = rows[new], columns.ravel()[new]
            found = score.logits(torch.from_numpy(products.ravel()[new]).to(device)).cpu().numpy()
            if not exclude_seen:
                own_products = np.einsum("ex,ex->e", queries[own_rows], index.vectors[own_columns])
                again = score.logits(torch.from_numpy(own_products).to(device))
                if model.habit is not None:
                    rows_E, shares_EK = torch.from_numpy(own_rows), torch.from_numpy(had.shares[own])
                    habit_E = model.habit(hidden_Rd, rows_E.to(device), shares_EK.to(device, dtype))
                    again = torch.logaddexp(again, habit_E)
                found_rows = np.concatenate([found_rows, own_rows])
                found_columns = np.concatenate([found_columns, own_columns])
                found = np.concatenate([found, again.cpu().numpy()])
            best_rows, best_columns, best_scores = _best(found_rows, found_columns, found, k)
            parts.append((block[best_rows], best_columns, best_scores))
            progress.update(len(block))
    rows, columns, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(rows, kind="stable")
    return Ranked(rows[order], index.catalogue.eligible[columns[order]], scores[order].astype(np.float32))


def readable(stored: StoredModel, histories: Histories) -> tuple[Histories, npt.NDArray[np.bool_]]:
    """Histories in indices that the model knows, and which users (U,) have at least one event that it does."""
    read = Histories(histories.users, histories.offsets, stored.known(histories.items), histories.times)
    return read, np.bincount(read.owner, weights=read.items > 0, minlength=len(read)) > 0


@dataclass(frozen=True)
class ShardFacts:
    """What scoring a shard has to say."""

    users: int
    fallback_users: int
    rows: int


def score_shard(
    stored: StoredModel,
    index: ItemIndex,
    histories: Histories,
    popularity: IntArray,
    *,
    k: int,
    exclude_seen: bool,
    candidates: Path,
    vectors: Path,
) -> ShardFacts:
    """Write the candidates and the Lorentz points of a shard's users.

    Args:
        stored: the model that serves.
        index: its items.
        histories: the shard.
        popularity: (size,) events of each item index, for users whose history holds nothing that the model knows.
        k: items a user.
        exclude_seen: leave out items that the user has had.
        candidates: file to write: user_id, rank, item_id, score, model_version.
        vectors: file to write: user_id, point.
    """
    read, is_known = readable(stored, histories)
    hidden_Ud = encode_users(stored.model, read)
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
        ranked = _with_fallback(ranked, lost, index, popularity, histories, k)
    order = np.lexsort((np.arange(len(ranked.users)), ranked.users))
    users, items, scores = ranked.users[order], ranked.items[order], ranked.scores[order]
    starts = np.searchsorted(users, users)
    table = pa.table(
        {
            USER_ID: histories.users.take(pa.array(users)).cast(pa.string()),
            RANK: pa.array(np.arange(len(users)) - starts + 1, pa.int32()),
            ITEM_ID: stored.item_ids.take(pa.array(items)),
            SCORE: pa.array(scores, pa.float32()),
            MODEL_VERSION: pa.array(np.where(is_known, stored.version, FALLBACK_VERSION)).take(pa.array(users)),
        }
    )
    with atomic_file(candidates) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    with torch.inference_mode():
        points = stored.model.user_points(hidden_Ud.to(stored.model.tangents.weight.device)).float().cpu().numpy()
    with atomic_file(vectors) as temporary:
        pq.write_table(pa.table({USER_ID: histories.users.cast(pa.string()), "point": point_column(points)}), temporary)
    return ShardFacts(len(histories), len(lost), len(table))


def _with_fallback(
    ranked: Ranked, lost: IntArray, index: ItemIndex, popularity: IntArray, histories: Histories, k: int
) -> Ranked:
    """Add the most popular items of the index for users of whom the model knows nothing.

    Such users have had no item of the index, so there is nothing to leave out. The score is the log share of events.
    """
    size = len(index.catalogue.column)
    counts = np.zeros(size, dtype=np.int64)
    eligible = index.catalogue.eligible
    counts[eligible] = np.maximum(popularity[eligible], 1)
    top = popular(histories.select(lost), counts, k, exclude_seen=False)
    rows, places = np.nonzero(top >= 0)
    items = top[rows, places]
    scores = np.log(counts[items] / counts.sum()).astype(np.float32)
    return Ranked(
        np.concatenate([ranked.users, lost[rows]]),
        np.concatenate([ranked.items, items]),
        np.concatenate([ranked.scores, scores]),
    )
