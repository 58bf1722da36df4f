"""Measure whether the items' geometry follows popularity and the category hierarchy, each against chance.

Shapes: N items, d the width of the tangent space. Distances are geodesic and in units of sqrt K. A *level* of the
hierarchy is a depth of the category path, 1 for the widest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from hmamba.model import lorentz
from hmamba.progress import track

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Path = tuple[str, ...]

NEIGHBOURS = 10
LEAST_MEMBERS = 5
"""Minimum number of items of a group; centroids of fewer items are left out."""

_ROWS = 512


@dataclass(frozen=True)
class Level:
    """The groups of one level with at least ``LEAST_MEMBERS`` items.

    Attributes:
        name: name of the level.
        groups: number of these groups.
        centroids: (groups,) distances of their centroids from the origin.
        shuffled: (groups,) the same for groups of the same sizes with random items.
        near: share of an item's nearest items that belong to its own group, over all groups of the level.
        chance: expected value of that share for items at random places.
    """

    name: str
    groups: int
    centroids: Floats
    shuffled: Floats
    near: float
    chance: float


def spearman(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Spearman's rank correlation; ties share their mean rank."""
    return float(pd.Series(x).rank().corr(pd.Series(y).rank()))


def curved(tangents: Floats, points: Floats, sample: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Relative excess of the hyperbolic distances between items over the flat ones between their tangents.

    Args:
        tangents: [N, d] tangents at the origin.
        points: [N, d+1] the same items as points with K = 1.
        sample: number of items whose pairwise distances are compared.
        seed: seed of the sample.

    Returns:
        The mean and the largest excess, as shares of the flat distance.
    """
    rows = np.random.default_rng(seed).permutation(len(points))[:sample]
    flat, x = torch.from_numpy(tangents[rows]), torch.from_numpy(points[rows])
    distance = lorentz.distance_from_gap(-2 - 2 * (lorentz.flip(x) @ x.T), K=1.0)
    above = torch.triu_indices(len(rows), len(rows), offset=1)
    excess = (distance / torch.cdist(flat, flat))[above[0], above[1]] - 1
    return float(excess.mean()), float(excess.max())


def centroid(points: Floats) -> Floats:
    """The Lorentzian centroid of points [n, d+1] with K = 1, as its tangent at the origin [d].

    The centroid is the sum of the points, scaled to the hyperboloid (Law et al., ICML 2019). Its distance from the
    origin is artanh(|space part| / time part) of the sum.
    """
    whole = points.sum(axis=0)
    norm = np.linalg.norm(whole[1:])
    tangent: Floats = whole[1:] * (np.arctanh(norm / whole[0]) / max(float(norm), 1e-12))
    return tangent


def nearest(points: Floats, count: int = NEIGHBOURS) -> Ints:
    """The ``count`` nearest other items [N, count] of each item, by hyperbolic distance."""
    table = torch.from_numpy(points)
    found = np.empty((len(points), count), dtype=np.int64)
    starts = range(0, len(points), _ROWS)
    for start in track(starts, "nearest items", len(starts), "blocks of items"):
        closeness = lorentz.flip(table[start : start + _ROWS]) @ table.T
        rows = torch.arange(len(closeness))
        closeness[rows, start + rows] = -torch.inf
        found[start : start + _ROWS] = closeness.topk(count, dim=1).indices.numpy()
    return found


def levels(points: Floats, paths: Sequence[Path], names: Sequence[str], seed: int = 0) -> list[Level]:
    """Measure each level.

    Any centroid is nearer the origin than its members, the more so the more members it has. Random groups of the same
    sizes therefore show what the hierarchy adds.

    Args:
        points: [N, d+1] points with K = 1.
        paths: N category paths.
        names: names of the levels, the widest first.
        seed: seed of the random groups.
    """
    random = np.random.default_rng(seed)
    neighbours = nearest(points, min(NEIGHBOURS, len(points) - 1))
    found = []
    for depth, name in enumerate(names, start=1):
        groups, codes = group(paths, depth)
        members = [np.flatnonzero(codes == number) for number in range(len(groups))]
        large = [rows for rows in members if len(rows) >= LEAST_MEMBERS]
        drawn = [random.choice(len(points), len(rows), replace=False) for rows in large]
        sizes = np.array([len(rows) for rows in members])
        has_group = codes >= 0
        near = (codes[neighbours] == codes[:, None])[has_group]
        found.append(
            Level(
                name,
                len(large),
                np.array([np.linalg.norm(centroid(points[rows])) for rows in large]),
                np.array([np.linalg.norm(centroid(points[rows])) for rows in drawn]),
                float(near.mean()) if has_group.any() else 0.0,
                float((sizes * (sizes - 1)).sum() / max(1, has_group.sum() * (len(points) - 1))),
            )
        )
    return found


def group(paths: Sequence[Path], depth: int) -> tuple[list[Path], Ints]:
    """Groups of items whose paths share their first ``depth`` names.

    Returns:
        The common path of each group, and the group [N] of each item; -1 for paths shorter than ``depth``.
    """
    codes, groups = pd.factorize(
        pd.Series([path[:depth] if len(path) >= depth else None for path in paths], dtype=object)
    )
    return list(groups), np.asarray(codes, dtype=np.int64)
