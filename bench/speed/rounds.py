"""Timing in turns, so that whatever else the machine does falls on everyone alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hmamba.errors import HMambaError

Ways = Mapping[str, Callable[[], Any]]


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
    """

    what: str
    ours: str
    peer: str
    units: tuple[int, str]
    seconds: dict[str, float]
    spread: dict[str, float]
    target: float | None = None

    @property
    def ratio(self) -> float:
        """How many times as fast as the peer."""
        return self.seconds[self.peer] / self.seconds[self.ours]


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


def check(right: bool, what: str) -> None:
    """Refuse to time a wrong result.

    Raises:
        HMambaError: it is wrong.
    """
    if not right:
        raise HMambaError(f"bench: not timed, because the result is wrong: {what}.")
