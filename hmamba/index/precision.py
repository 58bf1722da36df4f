"""How much of the float64 ranking the float32 index keeps, measured each night on real queries.

The error of the scores tells nothing: its median stays at 1e-7 while the ranking of near items is already noise. So the
rankings themselves are compared, and where float32 keeps too little of them the night searches in float64.

Only base scores are compared, which are all that the index holds. Score terms are added afterwards. They are computed
without the products whose rounding grows with the norms, and none amplifies an error of the base score: the derivative
of the score in the base score is 1 (base + raise) or less (log(exp(base) + exp(rate))). So float32 is judged where an
error counts most, among items whose order depends on the base score alone.
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
"""Enough to know the mean to a few ten-thousandths, few enough to encode in seconds; what scoring searches at once."""

PLACES = 16
"""Row groups of the snapshot that they are drawn from."""

LEAST_DEPTH = 100


@dataclass(frozen=True)
class Float32Recall:
    """What was measured.

    Attributes:
        share: of the ``depth`` best items of each user by float64, how many float32 finds; the mean over users, in
            [0, 1]. None where nobody has a history that the model can read.
        depth: how many of the best items are compared.
        users: how many users were compared.
    """

    share: float | None
    depth: int
    users: int


def depth_of(k: int, items: int) -> int:
    """How many of the best items to compare: ``k`` and at least 100; half of a catalogue that has no more than that.

    All of a catalogue would be found in whatever order, and the comparison would say nothing.
    """
    depth = max(k, LEAST_DEPTH)
    return depth if items > depth else max(1, items // 2)


def sample(stored: StoredModel, shards: list[Path], users: int = USERS) -> Iterator[Histories]:
    """Up to ``users`` users of whom the model knows something, always the same ones, a place at a time.

    Users are hashed over the shards and lie there in the order of their ids, which may tell who came when. So a few
    each are taken from places that are spread over all shards: memory is that of a place, however large the shards are.
    """
    groups = [(file, group) for file in shards for group in range(row_groups(file))]
    chosen = np.unique(np.linspace(0, len(groups) - 1, min(PLACES, len(groups))).round().astype(int))
    draw, left = np.random.default_rng(0), users
    taken: set[str] = set()
    for number, place in enumerate(chosen):
        histories, is_known = stored.readable(read_group(*groups[place]))
        # A user who is longer than a place is met from several.
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
    """Search both indices for the same users.

    Args:
        stored: the model.
        single: its items, searched in float32.
        exact: the same items in float64.
        hidden_Rd: (R, d) hidden states of the users.
        depth: how many of the best items are compared.
    """
    if not len(hidden_Rd):
        return Float32Recall(None, depth, 0)
    hidden_Rd = hidden_Rd.to(stored.model.tangents.weight.device)
    queries = stored.model.query_vectors(hidden_Rd).cpu().numpy()
    precise = stored.model.in_float64().query_vectors(hidden_Rd.double()).cpu().numpy()
    return Float32Recall(round(float(shares(single, exact, queries, precise, depth).mean()), 6), depth, len(queries))


def shares(single: ItemIndex, exact: ItemIndex, queries: RealArray, precise: DoubleArray, depth: int) -> DoubleArray:
    """Share (R,) of each query's ``depth`` best items by float64 that the float32 index finds.

    Exact ties at the end of the list are nobody's mistake: an item is right if its float64 product is no smaller than
    the last one that float64 would take, up to float64's own rounding, X eps |q| |v| for a sum of X products.

    Args:
        single: searched in float32.
        exact: the same items in float64.
        queries: (R, X) for ``single``.
        precise: (R, X) the same queries for ``exact``.
        depth: at most as many as there are items.
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
