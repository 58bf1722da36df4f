"""Exact ranking: the model scores every candidate item for every user. The reference for every index."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hmamba.inference.encode import encode_users
from hmamba.inference.rerank import Evidence, depth_of, values_for
from hmamba.model.hmamba import HMamba
from hmamba.progress import track
from hmamba.ranker import Shortlist, ValueArray
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray
from hmamba.terms.base import Entries

_RANK_ROWS = 256

Table: TypeAlias = tuple[IntArray, npt.NDArray[np.float32]]
"""Item indices (U, k) of U users, best first, and their scores."""


@dataclass(frozen=True)
class ScoreBlock:
    """The scores of all candidate items for a block of R users.

    Attributes:
        users: (R,) positions of the users.
        past: (R) their histories.
        logits: (R, V) their scores, on the model's device, score terms included.
        seen: (row, column) of the items that the users have seen, on the model's device.
        queries: (R, X) their query vectors, on the model's device.
        items: (V, X) the item vectors, on the model's device.
        evidence: the model's score terms with their entries for the users.
    """

    users: IntArray
    past: Histories
    logits: Tensor
    seen: tuple[Tensor, Tensor]
    queries: Tensor
    items: Tensor
    evidence: Evidence


@torch.inference_mode()
def score_blocks(
    model: HMamba,
    histories: Histories,
    candidate_items: CandidateItems,
    hidden_Ud: Tensor | None = None,
    *,
    rows: int | None = None,
) -> Iterator[ScoreBlock]:
    """Score all candidate items, ``rows`` users at a time; users are encoded without ``hidden_Ud``."""
    rows = rows or _RANK_ROWS
    device = model.tangents.weight.device
    hidden_Ud = (encode_users(model, histories) if hidden_Ud is None else hidden_Ud).to(device)
    score = model.score()
    items_VX = model.item_vectors(torch.from_numpy(candidate_items.eligible).to(device))
    users = len(histories)
    for start in track(range(0, users, rows), "rank", -(-users // rows), "blocks of users"):
        hidden_Rd = hidden_Ud[start : start + rows]
        block = np.arange(start, start + len(hidden_Rd))
        past = histories.select(block)
        queries_RX = model.query_vectors(hidden_Rd)
        logits_RV = score.logits(queries_RX @ items_VX.T)
        evidence = [(term, term.entries(past, candidate_items)) for term in model.terms]
        for term, entries in evidence:
            where = place_of(entries, device)
            logits_RV[where] = term.combine(logits_RV[where], entries, hidden_Rd)
        seen = place_of(Entries(*candidate_items.seen(past, np.arange(len(past)))), device)
        yield ScoreBlock(block, past, logits_RV, seen, queries_RX, items_VX, evidence)


def place_of(entries: Entries, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of entries in a block's logits, on a device."""
    return torch.from_numpy(entries.rows).to(device), torch.from_numpy(entries.columns).to(device)


@torch.inference_mode()
def rank_all(
    model: HMamba,
    histories: Histories,
    candidate_items: CandidateItems,
    *,
    k: int,
    exclude_seen: bool,
    rerank: bool = True,
    hidden_Ud: Tensor | None = None,
) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Rank all candidate items for every user, exactly.

    Args:
        model: the recommender.
        histories: histories of U users.
        candidate_items: the items to rank.
        k: number of items for each user.
        exclude_seen: whether items that the user has seen are left out.
        rerank: whether the model's ranker, if it has one, orders the best items.
        hidden_Ud: hidden states of the users; None to encode them.

    Returns:
        Item indices (U, k), best first and -1 where none is left, and their scores.
    """
    best = np.full((len(histories), k), -1, dtype=np.int64)
    scores = np.full((len(histories), k), -np.inf, dtype=np.float32)
    ranker = model.ranker if rerank else None
    for block in score_blocks(model, histories, candidate_items, hidden_Ud):
        if exclude_seen:
            block.logits[block.seen] = -torch.inf
        found = shortlist_of(block, depth_of(ranker, k))
        if ranker is not None:
            found = ranker.reranked(found, values_of_block(model, block, found.best(ranker.depth), candidate_items))
        found = found.best(k)
        at = block.users[found.rows], found.places
        best[at], scores[at] = candidate_items.eligible[found.columns], found.scores
    return best, scores


def shortlist_of(block: ScoreBlock, depth: int) -> Shortlist:
    """The ``depth`` best items of each user of a block."""
    top = torch.topk(block.logits, min(depth, block.logits.shape[1]), dim=1)
    return Shortlist.of_table(top.indices.cpu().numpy(), top.values.cpu().numpy())


@torch.inference_mode()
def values_of_block(
    model: HMamba, block: ScoreBlock, shortlist: Shortlist, candidate_items: CandidateItems
) -> ValueArray:
    """What the ranker reads of the entries of a block's shortlist."""
    rows, columns = place_of(shortlist, block.queries.device)
    products_E = (block.queries[rows] * block.items[columns]).sum(-1)
    base_E = model.score().logits(products_E).float().cpu().numpy()
    return values_for(model, block.past, candidate_items, block.evidence, shortlist, base_E)


@dataclass(frozen=True)
class Quota:
    """How many of a user's candidates are new items at least.

    Attributes:
        k: number of candidates of a user.
        least: number of new items among them, if there are so many.
    """

    k: int
    least: int

    @classmethod
    def of(cls, k: int, share: float) -> Quota:
        """A share of ``k``, rounded down."""
        return cls(k, math.floor(k * share + 1e-9))

    def apply(self, known: Table, new: Table, depth: int) -> Table:
        """The best of known and new items: first the user's k candidates, then all others, each by score.

        Where fewer than ``least`` new items are among the k best, the best other new ones replace the last known ones.
        Equal scores are ordered as given, known items first.

        Args:
            known: item indices (U, A) and scores, best first; -1 and -inf where none is left.
            new: the same (U, B) of new items.
            depth: number of items of each user, ``k`` or more.

        Returns:
            Item indices (U, depth) and scores, -1 and -inf where none is left.
        """
        items = np.concatenate([known[0], new[0]], axis=1)
        scores = np.concatenate([known[1], new[1]], axis=1)
        place = np.arange(items.shape[1]) - known[0].shape[1]
        # NaN sorts first, so that the checks of the candidates find it.
        first = np.where((items >= 0) & (((place >= 0) & (place < self.least)) | np.isnan(scores)), np.inf, scores)
        is_candidate = np.zeros(items.shape, dtype=bool)
        np.put_along_axis(is_candidate, np.argsort(-first, axis=1, kind="stable")[:, : self.k], True, axis=1)
        order = np.lexsort((-scores, ~is_candidate), axis=1)[:, :depth]
        items, scores = np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1)
        missing = ((0, 0), (0, max(0, depth - items.shape[1])))
        return np.pad(items, missing, constant_values=-1), np.pad(scores, missing, constant_values=-np.inf)


@torch.inference_mode()
def rank_served(
    model: HMamba,
    histories: Histories,
    candidate_items: CandidateItems,
    new_items: CandidateItems,
    *,
    depth: int,
    quota: Quota,
    exclude_seen: bool,
) -> IntArray:
    """Rank all candidate items and new items for every user as they are served, exactly.

    Score terms choose their entries among the candidate items and among the new items separately.

    Args:
        model: the recommender.
        histories: histories of U users.
        candidate_items: the candidate items.
        new_items: the new items; none of them is a candidate item.
        depth: number of items for each user, ``quota.k`` or more.
        quota: the number of new items among the first.
        exclude_seen: whether items that the user has seen are left out.

    Returns:
        Item indices (U, depth), first the user's candidates and then the best others; -1 where none is left.
    """
    hidden_Ud = encode_users(model, histories)
    known = rank_all(model, histories, candidate_items, k=depth, exclude_seen=exclude_seen, hidden_Ud=hidden_Ud)
    if not len(new_items):
        return known[0]
    new = rank_all(model, histories, new_items, k=depth, exclude_seen=exclude_seen, rerank=False, hidden_Ud=hidden_Ud)
    return quota.apply(known, new, depth)[0]
