"""Compare two rankings by a paired bootstrap over users.

Both rankings answer the same queries, so differences in difficulty between users cancel.

With few users a bootstrap interval is too narrow. It is widened by the ratio of Student's t to the normal quantile (the
expanded percentile interval of Hesterberg, "What Teachers Should Know About the Bootstrap", 2015). With fewer than six
users who differ, chance puts all of them on one side in more than 5 % of cases, so no difference is reported.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from hmamba.contracts.verdict import Comparison, Interval, Says

_RESAMPLES = 1_000
_AT_ONCE = 1 << 22  # users drawn in one block
_LEVEL = 0.95
_TAILS = (1 - _LEVEL) / 2, (1 + _LEVEL) / 2
_FEWEST = 6  # users who differ: 2 * 0.5**6 < 1 - _LEVEL, but 2 * 0.5**5 is not


def compare(
    names: tuple[str, str],
    metric: str,
    one: npt.NDArray[np.float64],
    other: npt.NDArray[np.float64],
    user: npt.NDArray[np.int64] | None = None,
) -> Comparison:
    """Compare two rankings.

    Args:
        names: names of the two rankings.
        metric: name of the metric.
        one: (n,) values of the first ranking, n >= 1.
        other: (n,) values of the second ranking, of the same users in the same order.
        user: (n,) the user of each entry, numbered from 0 without gaps. Where users have several entries, such as one
            a night, users are drawn with all their entries. None: each entry is of another user.
    """
    gain = one - other
    owner = np.arange(len(gain)) if user is None else user
    gain_U, entries_U = np.bincount(owner, weights=gain).astype(np.float64), np.bincount(owner)
    users, difference = len(gain_U), float(gain.mean())
    low, high = _interval(gain_U, entries_U)
    enough_differ = np.count_nonzero(gain_U) >= _FEWEST
    says: Says = "better" if enough_differ and low > 0 else "worse" if enough_differ and high < 0 else "cannot be told"
    base = float(other.mean())
    return Comparison(
        one=names[0],
        other=names[1],
        metric=metric,
        users=users,
        difference=round(difference, 6),
        low=round(low, 6),
        high=round(high, 6),
        relative=round(difference / base, 6) if base > 0 else None,
        says=says,
    )


def interval_of(values: npt.NDArray[np.float64]) -> Interval:
    """The interval of the mean of values (n,) of n >= 1 users."""
    low, high = _interval(values, np.ones(len(values), dtype=np.int64))
    return Interval(low=round(low, 6), high=round(high, 6))


def _interval(gain_U: npt.NDArray[np.float64], entries_U: npt.NDArray[np.int64]) -> tuple[float, float]:
    """The bounds of the mean over all entries, by the sum and the number of the entries of each user."""
    mean = gain_U.sum() / entries_U.sum()
    low, high = mean + _widening(len(gain_U)) * (_quantiles(gain_U, entries_U) - mean)
    return float(low), float(high)


def _quantiles(gain_U: npt.NDArray[np.float64], entries_U: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The lower and upper quantile of the resampled means."""
    draw, users = np.random.default_rng(0), len(gain_U)
    rows = max(1, _AT_ONCE // users)
    means = []
    for start in range(0, _RESAMPLES, rows):
        drawn = draw.integers(users, size=(min(rows, _RESAMPLES - start), users))
        means.append(gain_U[drawn].sum(axis=1) / entries_U[drawn].sum(axis=1))
    quantiles: npt.NDArray[np.float64] = np.quantile(np.concatenate(means), _TAILS)
    return quantiles


def _widening(users: int) -> float:
    """The factor that widens the bootstrap interval of this many users; 1 for one user, whose interval has no width."""
    if users == 1:
        return 1.0
    of_t, of_normal = stdtrit(users - 1, _TAILS[1]), ndtri(_TAILS[1])
    return float(of_t / of_normal * np.sqrt(users / (users - 1)))
