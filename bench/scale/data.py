"""Synthetic events of a shop of any size: one Parquet file a day, with a known number of faults.

Items follow Zipf's law, users' activity is lognormal, ids are numbers of up to nine digits as text, and every event has
a time of its own.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.columns import EVENT_TIME, ITEM_ID, USER_ID, WEIGHT
from hmamba.progress import track
from hmamba.sequences.histories import MICROSECONDS_A_DAY, IntArray, midnight

DAYS = 100
"""Days of the first pull. The next day adds 1 % of new events."""

FIRST_DAY = date(2025, 1, 1)
COPIES, BROKEN, LATE = 0.005, 0.001, 0.01
"""Shares of a day's events: copies, events without an item, and (in the last day's file) events up to a month late."""

_SPREAD = 1.2  # standard deviation of the logarithm of users' activity
_ROWS_PER_GROUP = 131_072
_SCHEMA = pa.schema({USER_ID: pa.string(), ITEM_ID: pa.string(), EVENT_TIME: pa.timestamp("us"), WEIGHT: pa.float32()})


@dataclass(frozen=True)
class Written:
    """Contents of written files; ``rows`` are distinct events, copies of events, and broken rows."""

    files: int
    rows: int
    events: int
    copies: int
    broken: int
    bytes: int


@dataclass(frozen=True)
class _Events:
    users: IntArray
    items: IntArray
    times: IntArray
    weights: npt.NDArray[np.float32]

    def rows(self, at: IntArray) -> _Events:
        return _Events(self.users[at], self.items[at], self.times[at], self.weights[at])


def last_day() -> date:
    """The day after the first days."""
    return FIRST_DAY + timedelta(days=DAYS)


@dataclass(frozen=True)
class Shop:
    """Size of a shop.

    Attributes:
        events: number of events of the first ``DAYS`` days, a multiple of ``DAYS``.
        users: number of users; the least active of them may have no events.
        items: number of items.
    """

    events: int
    users: int
    items: int

    @classmethod
    def of(cls, events: int) -> Shop:
        """A shop with 25 events a user and 100,000 items, fewer for a small number of events."""
        return cls(events, max(events // 25, 100), min(100_000, max(events // 50, 100)))

    @cached_property
    def _user_shares(self) -> npt.NDArray[np.float64]:
        """(users,) cumulative shares of the users' events."""
        activity = np.random.default_rng(0).lognormal(0.0, _SPREAD, self.users).cumsum()
        shares: npt.NDArray[np.float64] = activity / activity[-1]
        return shares

    @cached_property
    def _item_shares(self) -> npt.NDArray[np.float64]:
        """(items,) cumulative shares of the items' events."""
        popularity = (1.0 / np.arange(1, self.items + 1)).cumsum()
        shares: npt.NDArray[np.float64] = popularity / popularity[-1]
        return shares

    def first(self, folder: Path) -> Written:
        """Write the first days."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = [self._write(folder, day) for day in track(range(DAYS), "make events", DAYS, "days")]
        return Written(*map(sum, zip(*map(astuple, parts), strict=True)))

    def next(self, folder: Path) -> Written:
        """Write the next day, with some late events. Its copies are of events of the day before."""
        return self._write(folder, DAYS)

    def _day(self, day: int) -> _Events:
        count, draw = self.events // DAYS, np.random.default_rng([day, 1])
        step = MICROSECONDS_A_DAY // count
        times = (np.arange(count) * step + draw.integers(0, step, count)) // 2 * 2
        if day == DAYS:
            late = int(count * LATE)
            times[:late] += 1 - draw.integers(1, 31, late) * MICROSECONDS_A_DAY  # odd, unlike all other times
        return _Events(
            np.searchsorted(self._user_shares, draw.random(count)),
            np.searchsorted(self._item_shares, draw.random(count)),
            times + midnight(FIRST_DAY + timedelta(days=day)),
            draw.integers(1, 4, count).astype(np.float32),
        )

    def _write(self, folder: Path, day: int) -> Written:
        events = self._day(day)
        count = len(events.times)
        again = np.random.default_rng([day, 2]).integers(0, count, int(count * COPIES))
        copies = (self._day(day - 1) if day == DAYS else events).rows(again)
        broken = events.rows(np.arange(int(count * BROKEN)))
        parts = [_table(events), _table(copies), _table(broken, with_item=False)]
        path = folder / f"{FIRST_DAY + timedelta(days=day)}.parquet"
        # Without Arrow's own schema, as other writers of Parquet.
        with pq.ParquetWriter(path, _SCHEMA, compression="zstd", store_schema=False) as writer:
            writer.write_table(pa.concat_tables(parts).combine_chunks(), row_group_size=_ROWS_PER_GROUP)
        rows = sum(map(len, parts))
        return Written(1, rows, count, len(again), len(parts[2]), path.stat().st_size)


def _table(events: _Events, *, with_item: bool = True) -> pa.Table:
    items = (
        pa.array(10_007 + events.items * 11).cast(pa.string()) if with_item else pa.nulls(len(events.times), "string")
    )
    columns = [
        pa.array(100_000_007 + events.users * 37).cast(pa.string()),
        items,
        pa.array(events.times, pa.timestamp("us")),
        pa.array(events.weights),
    ]
    return pa.table(columns, schema=_SCHEMA)
