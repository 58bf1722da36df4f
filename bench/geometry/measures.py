"""Measures of rankings and of radii.

Shapes: U queries with P relevant items, V candidate items, ``size`` item indices. NaN: undefined for a query or item.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc
from scipy import sparse
from scipy.special import stdtrit

from hmamba.evaluation.metrics import best_gain
from hmamba.sequences.categories import Categories
from hmamba.sequences.histories import BoolArray, Histories, IntArray

Floats = npt.NDArray[np.float64]

GROUPS = 10
RARE = 5
NORMAL_95 = 1.959964
_ITEMS = 1024  # items whose audiences are counted at once
FIELLER = 1.06
"""Variance of Fisher's z of Spearman's rho, times n - 3 (Fieller, Hartley and Pearson, Biometrika 44, 1957)."""


def by_query(ranks: IntArray, rows: IntArray, queries: int, chosen: BoolArray | None = None) -> dict[str, Floats]:
    """NDCG@10, HR@10, R@100 and the reciprocal rank of the first relevant item, (U,) each.

    Args:
        ranks: (P,) rank of each relevant item from 1; 0 if it is not ranked.
        rows: (P,) the query of each relevant item.
        queries: U.
        chosen: (P,) the relevant items that count, all others are misses; queries without one have NaN. None: all.
    """
    if chosen is not None:
        ranks, rows = ranks[chosen], rows[chosen]
    relevant = np.bincount(rows, minlength=queries)
    gain = np.where((ranks > 0) & (ranks <= 10), 1 / np.log2(np.maximum(ranks, 1) + 1), 0.0)
    first = np.zeros(queries)
    np.maximum.at(first, rows, np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0))
    within = np.bincount(rows, weights=(ranks > 0) & (ranks <= 100), minlength=queries)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "NDCG@10": np.bincount(rows, weights=gain, minlength=queries) / best_gain(relevant, 10),
            "HR@10": np.where(relevant > 0, first >= 0.1, np.nan),
            "R@100": within / relevant,
            "reciprocal rank": np.where(relevant > 0, first, np.nan),
        }


def popularity_groups(events: IntArray, groups: int = GROUPS) -> IntArray:
    """Group (P,) of each relevant item by its number of training events (P,), 0 for the least popular.

    The groups hold about equal numbers of test answers, which is close to equal numbers of interactions, as in SGL (Wu
    et al., SIGIR 2021). Items with the same number of events are in the same group, so the sizes differ
    and a group may be empty.
    """
    middle = pd.Series(events).rank().to_numpy() - 0.5
    found: IntArray = (middle * groups / len(events)).astype(np.int64)
    return found


def exposure(top: IntArray, candidates: IntArray) -> IntArray:
    """How often each candidate item (V,) is among the listed items (U, k); -1 is no item."""
    counts: IntArray = np.bincount(top[top >= 0], minlength=int(candidates.max()) + 1)[candidates]
    return counts


def gini(counts: IntArray) -> float:
    """Gini coefficient of non-negative counts (V,): 0 if all are equal, 1 - 1 / V if one item has all."""
    if not counts.any():
        return float("nan")
    order, n = np.sort(counts), len(counts)
    return float(((2 * np.arange(1, n + 1) - n - 1) * order).sum() / (n * order.sum()))


def name_matrix(categories: Categories) -> sparse.csr_array:
    """Matrix (size, names): 1 if the item has this category name anywhere in its path."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(categories.paths), 0), dtype=np.int64)
    encoded = categories.paths.flatten().dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    pairs = np.unique(np.repeat(categories.index, lengths) * max(len(encoded.dictionary), 1) + codes)
    rows, columns = np.divmod(pairs, max(len(encoded.dictionary), 1))
    ones = np.ones(len(pairs))
    return sparse.csr_array((ones, (rows, columns)), shape=(categories.size, max(len(encoded.dictionary), 1)))


def diversity(top: IntArray, names: sparse.csr_array) -> Floats:
    """Mean Jaccard distance (U,) of the category names of the items in a list (U, k), over all pairs with names.

    Jaccard's distance needs no order of the names. NaN for lists with fewer than two items that have names.
    """
    has = np.asarray(names.sum(axis=1)).ravel()
    total, pairs = np.zeros(len(top)), np.zeros(len(top))
    for one in range(top.shape[1]):
        for other in range(one):
            a, b = top[:, one], top[:, other]
            known = np.flatnonzero((a >= 0) & (b >= 0) & (has[a] > 0) & (has[b] > 0))
            common = np.asarray(names[a[known]].multiply(names[b[known]]).sum(axis=1)).ravel()
            total[known] += 1 - common / (has[a[known]] + has[b[known]] - common)
            pairs[known] += 1
    return np.where(pairs > 0, total / np.maximum(pairs, 1), np.nan)


def audience_entropy(train: Histories, names: sparse.csr_array) -> Floats:
    """Breadth (size,) of each item's audience: entropy in nats of the category names that its users take elsewhere.

    Each training event of a user of the item counts once for each name of its item, if it is not of the item itself.
    NaN for items whose users have taken nothing else that has a name.
    """
    size = names.shape[0]
    events = sparse.coo_array((np.ones(train.events), (train.owner, train.items)), shape=(len(train), size)).tocsr()
    took, of_user = events.sign().T.tocsr(), events @ names
    own = np.asarray(events.sum(axis=0)).ravel()  # these events of an item's users are of the item itself
    found = np.full(size, np.nan)
    for start in range(0, size, _ITEMS):
        rows = np.arange(start, min(start + _ITEMS, size))
        counts = (took[rows] @ of_user - sparse.diags_array(own[rows]) @ names[rows]).tocsr()
        total = np.asarray(counts.sum(axis=1)).ravel()
        share = counts.data / np.repeat(np.maximum(total, 1), np.diff(counts.indptr))
        counts.data = -share * np.log(np.where(share > 0, share, 1))
        found[rows] = np.where(total > 0, np.asarray(counts.sum(axis=1)).ravel(), np.nan)
    return found


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with a 95 % interval; NaN where it is undefined."""

    rho: float
    low: float
    high: float


def spearman(x: npt.ArrayLike, y: npt.ArrayLike, *given: npt.ArrayLike) -> Correlation:
    """Spearman's rho of x and y (N,), or their partial correlation without what ``given`` (N,) explain of the ranks.

    Entries with NaN are left out; ties share their mean rank. The interval is that of Fisher's z with Fieller's
    variance.
    """
    frame = pd.DataFrame([np.asarray(values, dtype=np.float64) for values in (x, y, *given)]).T.dropna()
    ranks, n = frame.rank().to_numpy(), len(frame) - len(given)
    if n <= 3:
        return Correlation(float("nan"), float("nan"), float("nan"))
    explaining = np.column_stack([np.ones(len(ranks)), ranks[:, 2:]])
    left = ranks[:, :2] - explaining @ np.linalg.lstsq(explaining, ranks[:, :2])[0]
    square = (left**2).sum(axis=0)
    if (square < 1e-9 * (ranks[:, :2] ** 2).sum(axis=0)).any():
        return Correlation(float("nan"), float("nan"), float("nan"))
    rho = float((left[:, 0] * left[:, 1]).sum() / np.sqrt(square.prod()))
    half = NORMAL_95 * np.sqrt(FIELLER / (n - 3))
    z = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    return Correlation(rho, float(np.tanh(z - half)), float(np.tanh(z + half)))


@dataclass(frozen=True)
class Difference:
    """A mean difference and its standard errors.

    Attributes:
        mean: mean over seeds, of each the mean over users; NaN if nothing is compared.
        users: standard error over users, whose values are means over seeds; NaN if there are no values of users.
        seeds: standard error over seeds; NaN with fewer than two.
        count: number of seeds.
    """

    mean: float = float("nan")
    users: float = float("nan")
    seeds: float = float("nan")
    count: int = 0

    @property
    def clear(self) -> bool:
        """Whether 0 is outside of both 95 % intervals: the normal one over users, and Student's over seeds."""
        if not np.isfinite(self.seeds):
            return False
        over_seeds = stdtrit(self.count - 1, 0.975) * self.seeds
        return bool(abs(self.mean) > max(over_seeds, NORMAL_95 * self.users if np.isfinite(self.users) else 0.0))


def standard_error(values: Floats) -> float:
    """Standard error of the mean of values (N,); NaN with fewer than two. NaN values are left out."""
    values = values[~np.isnan(values)]
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def paired(ours: Floats, theirs: Floats) -> Difference:
    """Difference of values (S, U) of the same S seeds and U users, or (S, 1) of figures that no user has."""
    gain = ours - theirs
    gain = gain[:, ~np.isnan(gain).all(axis=0)]
    if not gain.size:
        return Difference()
    of_users = standard_error(np.nanmean(gain, axis=0)) if gain.shape[1] > 1 else float("nan")
    of_seeds = np.nanmean(gain, axis=1)
    return Difference(float(of_seeds.mean()), of_users, standard_error(of_seeds), len(of_seeds))
