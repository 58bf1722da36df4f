"""Time several ways in turns, so that other load on the machine affects all of them equally."""

from __future__ import annotations

import cProfile
import pstats
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hmamba.errors import HMambaError

Ways = Mapping[str, Callable[[], Any]]
Hot = list[tuple[str, float]]
_HOT = 8


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        what: description of the work.
        ours: name of our way among ``seconds``.
        peer: name of the way that ours is compared with.
        units: number of units in each round, and their name.
        seconds: median of the rounds of each way.
        spread: slowest round of each way divided by its fastest.
        target: target of the ratio; None if there is none.
        way: our way, to be profiled if it misses its target; None: not profiled.
    """

    what: str
    ours: str
    peer: str
    units: tuple[int, str]
    seconds: dict[str, float]
    spread: dict[str, float]
    target: float | None = None
    way: Callable[[], Any] | None = None

    @property
    def ratio(self) -> float:
        """Speed relative to the peer."""
        return self.seconds[self.peer] / self.seconds[self.ours]

    @property
    def is_missed(self) -> bool:
        """Whether the ratio is below its target."""
        return self.target is not None and self.ratio < self.target


def in_turns(ways: Ways, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each way, and its slowest round divided by its fastest, after one warm-up round."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn:
                taken[name].append(time.perf_counter() - started)
    return (
        {name: statistics.median(times) for name, times in taken.items()},
        {name: max(times) / min(times) for name, times in taken.items()},
    )


def hot(way: Callable[[], Any]) -> Hot:
    """The functions with most time of their own, and their shares of the total, by cProfile.

    Library calls are functions too, so matrix products and writes are listed separately.
    """
    way()
    profile = cProfile.Profile()
    profile.runcall(way)
    seconds: Counter[str] = Counter()
    for (file, _, name), (_, _, own, _, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        seconds[name if file == "~" else f"{Path(file).parent.name}/{Path(file).name}: {name}"] += own
    return [(name, own / seconds.total()) for name, own in seconds.most_common(_HOT)]


def check(right: bool, what: str) -> None:
    """Refuse to time a wrong result.

    Raises:
        HMambaError: the result is wrong.
    """
    if not right:
        raise HMambaError(f"bench: not timed, because the result is wrong: {what}.")
