"""Rules as docs/rules.md describes them, one user and one item at a time, over the scores of all items."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Pair = Callable[[int, int], bool]


@dataclass
class Slow:
    """Rules as functions of a row and an item index."""

    removes: list[Pair] = field(default_factory=list)
    boosts: list[tuple[Pair, float]] = field(default_factory=list)
    diversity: tuple[float, int, int, Callable[[int], object]] | None = None
    caps: list[tuple[Callable[[int], object], int, int]] = field(default_factory=list)
    pins: list[tuple[list[int], int, Callable[[int], bool]]] = field(default_factory=list)

    def ranked(
        self, row: int, scores: np.ndarray, k: int, *, is_log: bool, new: frozenset[int] = frozenset(), least: int = 0
    ) -> list[int]:
        """The k items of a row, best first; ``scores``: by item index, -inf for items that may not be recommended."""
        left = [item for item in np.flatnonzero(np.isfinite(scores)).tolist() if not self._removed(row, item)]
        value = {}
        for item in left:
            log = sum(math.log(factor) for boosted, factor in self.boosts if boosted(row, item))
            value[item] = scores[item] + log if is_log else scores[item] * math.exp(log)
        left.sort(key=lambda item: (-value[item], item))
        left = _with_new(left, value, new, least, k)
        if self.diversity is not None:
            left = _diverse(left, value, *self.diversity)
        return self._picked(row, left, np.isfinite(scores), k)

    def _removed(self, row: int, item: int) -> bool:
        return any(removed(row, item) for removed in self.removes)

    def _picked(self, row: int, left: list[int], may: np.ndarray, k: int) -> list[int]:
        slots: dict[int, int] = {}
        for items, rank, wanted in self.pins:
            place = rank
            for item in items:
                if not wanted(row) or not may[item] or self._removed(row, item) or item in slots.values():
                    continue
                while place in slots:
                    place += 1
                if place <= k:
                    slots[place] = item
                    place += 1
        counts = [Counter(group(item) for place, item in slots.items() if place <= top) for group, _, top in self.caps]
        left = [item for item in left if item not in slots.values()]
        for place in range(1, k + 1):
            if place in slots:
                continue
            for item in left:
                held = zip(self.caps, counts, strict=True)
                full = any(
                    place <= top and group(item) is not None and count[group(item)] >= most
                    for (group, most, top), count in held
                )
                if not full:
                    slots[place] = item
                    left.remove(item)
                    for (group, _, _), count in zip(self.caps, counts, strict=True):
                        count[group(item)] += 1
                    break
            else:
                left = []  # the list ends
        return [slots[place] for place in sorted(slots)]


def _with_new(left: list[int], value: dict[int, float], new: frozenset[int], least: int, k: int) -> list[int]:
    """The k candidates, ``least`` of them new if there are so many, then the others."""
    forced = [item for item in left if item in new][:least]
    others = [item for item in left if item not in forced]
    first = forced + others[: max(0, k - len(forced))]
    first.sort(key=lambda item: (-value[item], item))
    return first + [item for item in left if item not in first]


def _diverse(
    left: list[int], value: dict[int, float], weight: float, top: int, pool: int, group: Callable[[int], object]
) -> list[int]:
    some, chosen = left[:pool], []
    if not some:
        return left
    low, high = min(value[item] for item in some), max(value[item] for item in some)

    def gain(item: int) -> float:
        relevance = (value[item] - low) / (high - low) if high > low else 1.0
        like = any(group(other) is not None and group(other) == group(item) for other in chosen)
        return weight * relevance - (1 - weight) * like

    while some and len(chosen) < top:
        best = max(some, key=gain)  # the first of equal ones
        chosen.append(best)
        some.remove(best)
    return chosen + some + left[pool:]


def groups_of(values: Sequence[object]) -> Callable[[int], object]:
    """Group of an item index, given values by index."""
    return lambda item: values[item]
