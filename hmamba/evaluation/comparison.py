"""Is one ranking better than another, or cannot it be told? A paired bootstrap over users.

Both answer the same questions, so what makes one user harder than another cancels in the differences.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Says = Literal["better", "worse", "cannot be told"]

_RESAMPLES = 1_000
_AT_ONCE = 1 << 22  # users drawn at once
_LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """How ``one`` compares with ``other`` in the mean of a metric over users.

    Attributes:
        one, other: names of what is compared.
        metric: such as ndcg@10.
        users: how many there are.
        difference: mean of one minus mean of the other.
        low, high: 95 % interval of the difference, by bootstrap over users.
        relative: the difference, as a share of the other's mean; None where that is 0.
        says: better or worse where the interval is on one side of 0.
    """

    one: str
    other: str
    metric: str
    users: int
    difference: float
    low: float
    high: float
    relative: float | None
    says: Says

    def as_json(self) -> dict[str, Any]:
        """For the verdict."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.difference:+.4f}, 95 % interval {self.low:+.4f} to {self.high:+.4f}"


def compare(
    names: tuple[str, str], metric: str, one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]
) -> Comparison:
    """Compare two rankings.

    Args:
        names: of the two.
        metric: what was measured.
        one: (users,) of the first, at least one.
        other: (users,) of the second, of the same users.
    """
    gain = one - other
    users = len(gain)
    draw = np.random.default_rng(0)
    rows = max(1, _AT_ONCE // users)
    means = np.concatenate(
        [
            gain[draw.integers(users, size=(min(rows, _RESAMPLES - start), users))].mean(axis=1)
            for start in range(0, _RESAMPLES, rows)
        ]
    )
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    # Of one user every resample is the same, which would look like certainty.
    says: Says = "better" if low > 0 and users > 1 else "worse" if high < 0 and users > 1 else "cannot be told"
    base = float(other.mean())
    return Comparison(
        *names,
        metric,
        users,
        round(float(gain.mean()), 6),
        round(float(low), 6),
        round(float(high), 6),
        round(float(gain.mean()) / base, 6) if base > 0 else None,
        says,
    )
