"""Users for an item: the k users of a shard who are likeliest to take each of some items.

Scores of a model are comparable within one user only. The score here is therefore normalised: the log of the softmax of
the user's scores over all items that may be recommended to them, that is the log-probability that the user takes this
item if they take one of these. It includes score terms; a ranker, which orders only the best items, is left out. It is
exact: every user is scored against every item, one block of users at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch

from hmamba.columns import ITEM_ID, RANK, SCORE, TABLES, USER_ID
from hmamba.evaluation.ranking import score_blocks
from hmamba.index.base import FloatArray
from hmamba.index.index import ItemIndex
from hmamba.index.matmul import block_rows
from hmamba.models.files import StoredModel
from hmamba.rules.night import BlockRules
from hmamba.sequences.histories import Histories, IntArray

PART = pa.schema(TABLES["segments"])
"""Columns of a shard's part; ranks are those within the shard."""


class LikeliestUsers:
    """Collects the ``k`` likeliest users of some items over the blocks of a shard.

    Memory is that of k users for each item, the ids of the shard's users, and the scores of a block of users.

    Args:
        stored: the model.
        index: the items that may be recommended.
        items: (T,) item indices of the items; all are in the index.
        k: users of each item.
        exclude_seen: whether users who have seen an item are left out for it.
        rules: makes the rules for a block of users, who are left out for items that these remove; None without rules.
    """

    def __init__(
        self,
        stored: StoredModel,
        index: ItemIndex,
        items: IntArray,
        k: int,
        exclude_seen: bool,
        rules: Callable[[Histories], BlockRules] | None = None,
    ) -> None:
        self._stored, self._items, self._k, self._exclude_seen = stored, items, k, exclude_seen
        self._rules = rules
        self._model = stored.model.in_float64() if index.vectors.dtype == np.float64 else stored.model
        self._parts = [index.candidate_items] + ([] if index.new is None else [index.new.candidate_items])
        self._rows = block_rows(max(1, len(index.served_items)))
        self._columns, start = np.full(len(items), -1), 0
        for part in self._parts:
            place = part.column[items]
            self._columns = np.where(place >= 0, start + place, self._columns)
            start += len(part)
        self._scores: FloatArray = np.zeros((len(items), 0), dtype=np.float32)
        self._users = np.zeros((len(items), 0), dtype=np.int64)
        self._names: list[pa.Array] = []
        self._count = 0

    @torch.inference_mode()
    def add(self, histories: Histories, users: IntArray, hidden_Rd: torch.Tensor) -> None:
        """Score the users (R,) of a block, whose hidden states are given. Users come in the order of their ids."""
        past = histories.select(users)
        hidden_Rd = hidden_Rd.to(self._model.tangents.weight.device, self._model.tangents.weight.dtype)
        parts = [score_blocks(self._model, past, part, hidden_Rd, rows=self._rows) for part in self._parts if len(part)]
        columns = torch.from_numpy(self._columns).to(hidden_Rd.device)
        rules = None if self._rules is None else self._rules(past)
        for blocks in zip(*parts, strict=True):
            for block in blocks:
                if self._exclude_seen:
                    block.logits[block.seen] = -torch.inf
            logits_RV = torch.cat([block.logits for block in blocks], dim=1) if len(blocks) > 1 else blocks[0].logits
            wanted_RT = logits_RV[:, columns]
            scores_RT = torch.where(wanted_RT > -torch.inf, wanted_RT - _log_sums(logits_RV), -torch.inf)
            found_TR = scores_RT.float().cpu().numpy().T
            if rules is not None:
                of_items, of_users = np.meshgrid(self._items, blocks[0].users, indexing="ij")
                keeps = rules.keeps(of_users.ravel(), of_items.ravel()).reshape(found_TR.shape)
                found_TR = np.where(keeps, found_TR, np.float32(-np.inf))
            self._merge(self._count + blocks[0].users, found_TR)
        self._names.append(past.users.cast(pa.large_string()))
        self._count += len(past)

    def _merge(self, users: IntArray, scores_TR: FloatArray) -> None:
        """Keep the ``k`` best of those that are kept and more; of equal scores, the first user."""
        scores = np.concatenate([self._scores, scores_TR], axis=1)
        every = np.concatenate([self._users, np.broadcast_to(users, scores_TR.shape)], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self._k]
        self._scores = np.take_along_axis(scores, best, axis=1)
        self._users = np.take_along_axis(every, best, axis=1)

    def table(self) -> pa.Table:
        """The users of each item, the likeliest first, with the columns of ``PART``."""
        rows, places = np.nonzero(np.isfinite(self._scores))
        names = pa.concat_arrays([pa.array([], pa.large_string()), *self._names])
        columns = {
            ITEM_ID: self._stored.item_ids.take(pa.array(self._items[rows])),
            RANK: pa.array(places + 1, pa.int32()),
            USER_ID: names.take(pa.array(self._users[rows, places])).cast(pa.string()),
            SCORE: pa.array(self._scores[rows, places]),
        }
        return pa.table(columns, schema=PART)


def _log_sums(logits_RV: torch.Tensor) -> torch.Tensor:
    """As ``logits_RV.logsumexp(1, keepdim=True)``, but several times as fast on a CPU; ``logits_RV`` is overwritten."""
    largest_R1 = logits_RV.amax(1, keepdim=True)
    # exp(-80) adds nothing to a sum of at least 1. Subnormal results take ten times as long.
    return logits_RV.sub_(largest_R1).clamp_min_(-80).exp_().sum(1, keepdim=True).log_().add_(largest_R1)
