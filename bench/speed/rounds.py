"""Timing in turns, so that whatever else the machine does falls on everyone alike."""

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
    """One line of the table.

    Attributes:
        what: was done.
        ours: the name of our way among ``seconds``.
        peer: the name of the way that ours is compared with.
        units: done in each round, and what they are called.
        seconds: of each way, the median of its rounds.
        spread: of each way, the slowest round divided by the fastest.
        target: ratio that is aimed at; None without one.
        way: our way, to be profiled where it missed its target; None: nothing to see.
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
        """How many times as fast as the peer."""
        return self.seconds[self.peer] / self.seconds[self.ours]

    @property
    def is_missed(self) -> bool:
        """Whether the ratio is below its target."""
        return self.target is not None and self.ratio < self.target


def in_turns(ways: Ways, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of each way, and its slowest round divided by its fastest; one round before is not counted."""
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
    """The functions in which a way spends most of its time by itself, and their shares of it, by cProfile.

    Calls of libraries are functions too, so what a product or a write takes is seen as such.
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
        HMambaError: it is wrong.
    """
    if not right:
        raise HMambaError(f"bench: not timed, because the result is wrong: {what}.")
