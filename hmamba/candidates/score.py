"""Compute the candidates of one shard of users: encode, retrieve, apply rules, write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hmamba.candidates.because import Attribution, Reasons
from hmamba.candidates.fallback import Fallback
from hmamba.candidates.part import part_writer, plain
from hmamba.candidates.retrieve import Ranked, retrieve
from hmamba.candidates.ruled import Ruled
from hmamba.columns import EXPERIMENT, FALLBACK_VERSION, ITEM_ID, MODEL_VERSION, POINT, RANK, SCORE, USER_ID
from hmamba.index.base import FloatArray
from hmamba.index.index import ItemIndex, point_column
from hmamba.inference.encode import Encode, encode_users
from hmamba.models.files import StoredModel
from hmamba.rules.apply import Effects
from hmamba.sequences.histories import Histories, IntArray

POINTS = pa.schema({USER_ID: pa.string(), POINT: pa.list_(pa.float32())})
"""Columns of the users' Lorentz points."""


@dataclass
class ShardCounts:
    """Counts of a scored shard, and what rules did to its lists; None without rules."""

    users: int = 0
    fallback_users: int = 0
    rows: int = 0
    effects: Effects | None = None

    def add(self, block: ScoredBlock) -> None:
        """Count a block."""
        self.users += len(block.versions)
        self.fallback_users += block.fallback_users
        self.rows += len(block.ranked.users)
        if block.effects is not None:
            self.effects = self.effects or Effects()
            self.effects.add(block.effects)


@dataclass(frozen=True)
class ScoredBlock:
    """Results for a block of U users.

    Attributes:
        ranked: their candidates.
        versions: (U,) model_version of each user's candidates.
        points: (U, d + 1) the users' Lorentz points; None from a baseline.
        fallback_users: number of users without usable history, who received popular items.
        reasons: the reason of each candidate; None if they are not asked for.
        groups: (U,) group of each user in an experiment; None without one.
        effects: what rules did to the lists; None without rules.
    """

    ranked: Ranked
    versions: pa.Array
    points: FloatArray | None
    fallback_users: int
    reasons: Reasons | None = None
    groups: pa.Array | None = None
    effects: Effects | None = None


def write_candidates(
    score: Callable[[Histories], ScoredBlock],
    item_ids: pa.Array,
    blocks: Iterable[Histories],
    *,
    candidates: Path,
    vectors: Path,
    optional: Sequence[str] = (),
) -> ShardCounts:
    """Write the candidates and the Lorentz points of a shard's users, block by block.

    Args:
        score: ranks a block of users.
        item_ids: (size,) item ids by index.
        blocks: the shard's users; one block is in memory at a time.
        candidates: file to write: user_id, rank, item_id, score, model_version, and the optional columns.
        vectors: file to write: user_id, point; the point is null from a baseline.
        optional: names of the optional columns for which ``score`` gives values.
    """
    counts = ShardCounts()
    with ExitStack() as stack:
        tables = stack.enter_context(part_writer(candidates, plain(optional)))
        points = stack.enter_context(pq.ParquetWriter(vectors, POINTS, compression="zstd"))
        for histories in blocks:
            block = score(histories)
            tables.write_table(_table(block, item_ids, histories))
            names = histories.users.cast(pa.string())
            column = (
                pa.nulls(len(names), POINTS.field(POINT).type) if block.points is None else point_column(block.points)
            )
            points.write_table(pa.table([names, column], schema=POINTS))
            counts.add(block)
    return counts


@dataclass(frozen=True)
class ModelScorer:
    """Ranks items by the model that serves.

    Attributes:
        stored: the model.
        index: index of the candidate items.
        popularity: (size,) events of each item index, for users whose history holds no item of the model.
        k: items per user.
        exclude_seen: exclude items that the user has seen.
        encode: computes hidden states from histories; it may store carried states or resume from them.
        attribution: gives the reasons of the candidates; None without reasons.
        ruled: makes lists under the rules of the night; None without rules.
        fallback: ranks the items of users whose history holds no item of the model; None for popularity among all.
    """

    stored: StoredModel
    index: ItemIndex
    popularity: IntArray
    k: int
    exclude_seen: bool
    encode: Encode = encode_users
    attribution: Attribution | None = None
    ruled: Ruled | None = None
    fallback: Fallback | None = None

    @torch.inference_mode()
    def __call__(self, histories: Histories) -> ScoredBlock:
        """Compute the candidates and points of a block of users.

        Users whose history holds no item of the model receive popular candidate items, see :class:`.Fallback`.
        """
        stored, k, exclude_seen = self.stored, self.k, self.exclude_seen
        read, is_known = stored.readable(histories)
        hidden_Ud = self.encode(stored.model, read)
        served, unknown = np.flatnonzero(is_known), np.flatnonzero(~is_known)
        fallback = self.fallback or Fallback(self.index.served_items.counts(self.popularity))
        hidden_Rd, reading = hidden_Ud[torch.from_numpy(served)], read.select(served)
        effects, parts = None if self.ruled is None else Effects(), []
        if self.ruled is None or effects is None:
            known = retrieve(stored, self.index, reading, hidden_Rd, k=k, exclude_seen=exclude_seen)
        else:
            known = self.ruled.of_model(
                stored, self.index, reading, hidden_Rd, histories.select(served), effects, exclude_seen=exclude_seen
            )
        parts.append(known.of(served))
        if len(unknown):
            # They may still have seen items of the index, because events of weight 0 are not read.
            of_popular = partial(fallback.rank, exclude_seen=exclude_seen)
            if self.ruled is None or effects is None:
                others = of_popular(read.select(unknown), k)
            else:
                others = self.ruled.of_baseline(
                    of_popular,
                    read.select(unknown),
                    self.index.served_items,
                    effects,
                    exclude_seen=exclude_seen,
                    is_log=True,
                )
            parts.append(others.of(unknown))
        ranked = Ranked.together(parts)
        points_UX = stored.model.user_points(hidden_Ud.to(stored.model.tangents.weight.device)).float().cpu().numpy()
        versions = pa.array(np.where(is_known, stored.version, FALLBACK_VERSION))
        give = self.attribution
        rows, reasons = (ranked.users, ranked.items), None
        if give is not None:
            reasons = give.reasons(read, hidden_Ud, is_known, *rows, fallback)
        return ScoredBlock(ranked, versions, points_UX, int((~is_known).sum()), reasons=reasons, effects=effects)


def _table(block: ScoredBlock, item_ids: pa.Array, histories: Histories) -> pa.Table:
    """Candidates as rows of the published schema."""
    ranked, users = block.ranked, block.ranked.users
    columns = {
        USER_ID: histories.users.take(pa.array(users)).cast(pa.string()),
        RANK: pa.array(ranked.ranks, pa.int32()),
        ITEM_ID: item_ids.take(pa.array(ranked.items)),
        SCORE: pa.array(ranked.scores, pa.float32()),
        MODEL_VERSION: block.versions.take(pa.array(users)),
    }
    columns |= {} if block.reasons is None else block.reasons.columns(item_ids)
    columns |= {} if block.groups is None else {EXPERIMENT: block.groups.take(pa.array(users))}
    return pa.table(columns, schema=plain(columns))
