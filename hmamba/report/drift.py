"""Drift of the data: how much the events of the last days differ from those of as many days before.

The Population Stability Index (PSI) of two distributions p and q over the same bins is the sum of (p - q) ln(p / q). By
convention, below 0.1 nothing has changed, and above 0.25 the change is large. Half an event is added to each bin, so
that empty bins are finite.

Without any drift the index is not 0, but about (bins - 1) (1/n + 1/m) for n and m events: n m / (n + m) times the index
follows the chi-squared distribution with bins - 1 degrees of freedom (Yurdakul, 2018). ``chance`` is its 95 % quantile.
It is a lower bound where events come in baskets, because these are no independent draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.special import chdtri

from hmamba.contracts.manifest import SnapshotManifest
from hmamba.report.statistics import LIMITS
from hmamba.statements import rows
from hmamba.warehouse.connection import in_memory

MODERATE, LARGE = 0.1, 0.25
BINS = 20
"""Items, and categories, with a bin of their own; all others share one."""

HISTORY_BANDS = (1, 2, 5, 10, 20, 50, 100)
_OTHERS = "all others"
_MOVES = 3
_LEVEL = 0.05

Level = Literal["stable", "chance", "moderate", "large"]
Kind = Literal["items", "categories", "histories"]
NAMES: dict[Kind, str] = {
    "items": "items",
    "categories": "categories",
    "histories": "lengths of history of active users",
}
"""What is distributed, in words."""


@dataclass(frozen=True)
class Move:
    """A bin and its share of all events, or users, before and in the last days."""

    name: str
    before: float
    recent: float


@dataclass(frozen=True)
class Shift:
    """The drift of one distribution.

    Attributes:
        kind: what is distributed.
        psi: the index.
        chance: what the index would stay below in 95 % of cases without drift.
        moves: the bins that contribute most, with their shares.
    """

    kind: Kind
    psi: float
    chance: float
    moves: tuple[Move, ...]

    @property
    def name(self) -> str:
        """What is distributed, in words."""
        return NAMES[self.kind]

    @property
    def level(self) -> Level:
        """The band, by convention; "chance" if as much is expected without drift."""
        if self.psi < MODERATE:
            return "stable"
        if self.psi <= self.chance:
            return "chance"
        return "moderate" if self.psi < LARGE else "large"


@dataclass(frozen=True)
class Drift:
    """The drift of a night's data.

    Attributes:
        first, split, last: first day of both periods, first day of the later period, last day.
        before, recent: number of events in both periods.
        shifts: of items, categories and lengths of history; empty if there is nothing to compare, see ``missing``.
        missing: why something is left out, as sentences.
    """

    first: date
    split: date
    last: date
    before: int
    recent: int
    shifts: tuple[Shift, ...]
    missing: tuple[str, ...]


def measure(manifest: SnapshotManifest, shards: list[Path], items: Path, days: int) -> Drift | None:
    """Measure the drift between the last days of a snapshot and as many before; None if its events have no times.

    Args:
        manifest: of the snapshot.
        shards: its sequences.
        items: its items.
        days: length of both periods.
    """
    if manifest.by_position:
        return None
    split_time = manifest.end - timedelta(days=days)
    from_time = split_time - timedelta(days=days)
    bound: dict[str, object] = {
        "shards": list(map(str, shards)),
        "from_time": from_time,
        "split_time": split_time,
    }
    with in_memory(LIMITS) as connection:
        items_bound = {**bound, "items": str(items), "most": BINS}
        of_items = rows(connection, "report/item_drift", items_bound)
        of_categories = rows(connection, "report/category_drift", items_bound)
        of_users = rows(connection, "report/history_drift", {**bound, "bands": list(HISTORY_BANDS)})
    before, recent = (sum(row[key] for row in of_items) for key in ("earlier", "recent"))
    period = from_time.date(), split_time.date(), _last_day(manifest.end), before, recent
    if not before or not recent:
        empty = "before these days" if recent else "of these days"
        return Drift(*period, (), (f"There are no events {empty}, so that nothing can be compared.",))
    shifts = [shift_of("items", [(row["name"] or _OTHERS, row["earlier"], row["recent"]) for row in of_items])]
    missing = []
    if len(of_categories) > 1:
        named = [(row["name"] or _OTHERS, row["earlier"], row["recent"]) for row in of_categories]
        shifts.append(shift_of("categories", named))
    else:
        missing.append("Categories are left out: the items of these days have no more than one.")
    banded = [(_band(row["band"]), row["earlier"], row["recent"]) for row in of_users]
    shifts.append(shift_of("histories", banded))
    return Drift(*period, tuple(shifts), tuple(missing))


def shift_of(kind: Kind, bins: Sequence[tuple[str, int, int]]) -> Shift:
    """Compare two distributions.

    Args:
        kind: what is distributed.
        bins: for each bin its name and its numbers before and in the last days; at least one of each is positive.
    """
    counts = np.array([numbers for _, *numbers in bins], dtype=np.float64)
    totals = counts.sum(axis=0)
    before, recent = ((counts + 0.5) / (totals + 0.5 * len(bins))).T
    parts = (recent - before) * np.log(recent / before)
    order = np.argsort(-parts, kind="stable")[:_MOVES]
    shares = counts / totals
    chance = float(chdtri(len(bins) - 1, _LEVEL) * (1 / totals).sum()) if len(bins) > 1 else 0.0
    moves = tuple(Move(bins[place][0], *map(float, shares[place])) for place in order if parts[place] > 0)
    return Shift(kind, float(parts.sum()), chance, moves)


def _band(least: int) -> str:
    following = dict(pairwise(HISTORY_BANDS)).get(least)
    if following is None:
        return f"{least} or more events"
    return "1 event" if following == 2 else f"{least} to {following - 1} events"


def _last_day(end: datetime) -> date:
    return (end - timedelta(microseconds=1)).date()
