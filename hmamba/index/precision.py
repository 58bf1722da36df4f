"""Float32 recall: the share of the best items by float64 that float32 finds, measured each night on real queries.

The error of the scores does not show the problem: its median is still 1e-7 when the ranking of near items is already
noise. Therefore the rankings are compared, and the night searches in float64 if the recall is too low.

Only base scores are compared, because the index holds nothing else. Score terms are added afterwards, are computed
without the products whose rounding grows with the norms, and do not amplify an error of the base score: the derivative
of the score in the base score is 1 (additive terms) or less (log(exp(base) + exp(rate))). The comparison thus covers
the items on which an error has the largest effect, those whose order depends on the base score alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hmamba.index.base import DoubleArray, RealArray
from hmamba.index.index import ROWS, ItemIndex
from hmamba.index.matmul import block_rows
from hmamba.models.files import StoredModel
from hmamba.progress import track
from hmamba.sequences.histories import Histories, read_group, row_groups

USERS = ROWS
"""Users in the sample, one search call of scoring: encoded in seconds, and the mean is known to a few 1e-4."""

PLACES = 16
"""Row groups of the snapshot that the users are drawn from."""

LEAST_DEPTH = 100


@dataclass(frozen=True)
class Float32Recall:
    """Measured float32 recall.

    Attributes:
        share: share of each user's ``depth`` best items by float64 that float32 finds, averaged over users, in [0, 1].
            None if no user has a history that the model can read.
        depth: number of best items compared.
        users: number of users compared.
    """

    share: float | None
    depth: int
    users: int


def depth_of(k: int, items: int) -> int:
    """Number of best items to compare: ``k`` but at least 100, or half of the items if there are no more than that.

    If all items were compared, every ranking would have a recall of 1.
    """
    depth = max(k, LEAST_DEPTH)
    return depth if items > depth else max(1, items // 2)


def sample(stored: StoredModel, shards: list[Path], users: int = USERS) -> Iterator[Histories]:
    """Sample up to ``users`` users with a history that the model can read; the same users on each call.

    Users are hashed to shards and sorted by id within them, and the order of ids may correlate with time. The sample
    therefore takes a few users from each of several row groups spread over all shards. Memory is that of a row group.

    Yields:
        Histories of the users from one row group.
    """
    groups = [(file, group) for file in shards for group in range(row_groups(file))]
    chosen = np.unique(np.linspace(0, len(groups) - 1, min(PLACES, len(groups))).round().astype(int))
    draw, left = np.random.default_rng(0), users
    taken: set[str] = set()
    for number, group in enumerate(chosen):
        histories, is_known = stored.readable(read_group(*groups[group]))
        # A user whose history spans row groups can occur in several of them.
        is_new = np.array([user not in taken for user in histories.users.to_pylist()], dtype=bool)
        share = -(-left // (len(chosen) - number))
        drawn = np.sort(draw.permutation(np.flatnonzero(is_known & is_new))[:share])
        if len(drawn):
            part = histories.select(drawn)
            taken.update(part.users.to_pylist())
            yield part
        left -= len(drawn)


@torch.inference_mode()
def measure(
    stored: StoredModel, single: ItemIndex, exact: ItemIndex, hidden_Rd: torch.Tensor, depth: int
) -> Float32Recall:
    """Measure the float32 recall by searching both indexes for the same users.

    Args:
        stored: the model.
        single: index of its items in float32.
        exact: index of the same items in float64.
        hidden_Rd: hidden states of the users.
        depth: number of best items to compare.
    """
    if not len(hidden_Rd):
        return Float32Recall(None, depth, 0)
    hidden_Rd = hidden_Rd.to(stored.model.tangents.weight.device)
    queries = stored.model.query_vectors(hidden_Rd).cpu().numpy()
    precise = stored.model.in_float64().query_vectors(hidden_Rd.double()).cpu().numpy()
    return Float32Recall(round(float(shares(single, exact, queries, precise, depth).mean()), 6), depth, len(queries))


def shares(single: ItemIndex, exact: ItemIndex, queries: RealArray, precise: DoubleArray, depth: int) -> DoubleArray:
    """Share (R,) of each query's ``depth`` best items by float64 that the float32 index finds.

    A tie at the end of the list is no error: an item is correct if its float64 product is not smaller than the
    ``depth``-th largest, up to the rounding of float64, X eps |q| |v| for a sum of X products.

    Args:
        single: index in float32.
        exact: index of the same items in float64.
        queries: (R, X) queries for ``single``.
        precise: (R, X) the same queries in float64.
        depth: number of best items, at most the number of items.
    """
    table = torch.from_numpy(exact.vectors)
    rounding = table.shape[1] * torch.finfo(torch.float64).eps * table.norm(dim=1).max()
    rows = block_rows(len(table))
    parts = []
    starts = range(0, len(queries), rows)
    for start in track(starts, "index: float32 against float64", len(starts), "blocks of users"):
        queries_RX = torch.from_numpy(precise[start : start + rows])
        products_RV = queries_RX @ table.T
        last_R1 = products_RV.topk(depth, dim=1).values[:, -1:]
        _, columns = single.search(queries[start : start + rows], depth)
        found = products_RV.gather(1, torch.from_numpy(columns))
        right = found >= last_R1 - rounding * queries_RX.norm(dim=1, keepdim=True)
        parts.append(right.double().mean(dim=1).numpy())
    return np.concatenate(parts)
