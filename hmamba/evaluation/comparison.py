"""Is one ranking better than another, or cannot it be told? A paired bootstrap over users.

Both answer the same questions, so what makes one user harder than another cancels in the differences.

The bootstrap of a few users is too narrow, so its interval is widened as Student's t widens that of a normal mean
(the expanded percentile interval of Hesterberg, "What Teachers Should Know About the Bootstrap", 2015). And where so
few users differ that chance would put all of them on one side more often than one time in twenty, nothing is shown.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from hmamba.contracts.verdict import Comparison, Says

_RESAMPLES = 1_000
_AT_ONCE = 1 << 22  # users drawn at once
_LEVEL = 0.95
_TAILS = (1 - _LEVEL) / 2, (1 + _LEVEL) / 2
_FEWEST = 6  # users who differ: 2 * 0.5**6 is less than 1 - _LEVEL, 2 * 0.5**5 is not


def compare(
    names: tuple[str, str],
    metric: str,
    one: npt.NDArray[np.float64],
    other: npt.NDArray[np.float64],
    user: npt.NDArray[np.int64] | None = None,
) -> Comparison:
    """Compare two rankings.

    Args:
        names: of the two.
        metric: what was measured.
        one: (n,) of the first, at least one.
        other: (n,) of the second, of the same users.
        user: (n,) whose each entry is, from 0 without gaps: where users were asked several times, on several nights,
            it is users that are drawn, with all that is theirs. None: each entry is of a user of its own.
    """
    gain = one - other
    owner = np.arange(len(gain)) if user is None else user
    gain_U, entries_U = np.bincount(owner, weights=gain).astype(np.float64), np.bincount(owner)
    users, difference = len(gain_U), float(gain.mean())
    low, high = difference + _widening(users) * (_quantiles(gain_U, entries_U) - difference)
    is_told = np.count_nonzero(gain_U) >= _FEWEST
    says: Says = "better" if is_told and low > 0 else "worse" if is_told and high < 0 else "cannot be told"
    base = float(other.mean())
    return Comparison(
        one=names[0],
        other=names[1],
        metric=metric,
        users=users,
        difference=round(difference, 6),
        low=round(float(low), 6),
        high=round(float(high), 6),
        relative=round(difference / base, 6) if base > 0 else None,
        says=says,
    )


def _quantiles(gain_U: npt.NDArray[np.float64], entries_U: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Where the middle of the resampled means begins and ends."""
    draw, users = np.random.default_rng(0), len(gain_U)
    rows = max(1, _AT_ONCE // users)
    means = []
    for start in range(0, _RESAMPLES, rows):
        drawn = draw.integers(users, size=(min(rows, _RESAMPLES - start), users))
        means.append(gain_U[drawn].sum(axis=1) / entries_U[drawn].sum(axis=1))
    quantiles: npt.NDArray[np.float64] = np.quantile(np.concatenate(means), _TAILS)
    return quantiles


def _widening(users: int) -> float:
    """By how much the bootstrap of so many users is too narrow; of one it has no width."""
    if users == 1:
        return 1.0
    of_t, of_normal = stdtrit(users - 1, _TAILS[1]), ndtri(_TAILS[1])
    return float(of_t / of_normal * np.sqrt(users / (users - 1)))
