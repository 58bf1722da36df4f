"""Histories for tests, from lists."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, midnight
from hmamba.sequences.snapshot import EVENT_SCHEMA

START = midnight(date(2024, 1, 1))


def histories_of(*users: list[tuple[float, int]]) -> Histories:
    """Each user is a list of (day since 2024-01-01, item index)."""
    events = [sorted(user) for user in users]
    lengths = [len(user) for user in events]
    flat = [event for user in events for event in user]
    return Histories(
        pa.array([f"u{i}" for i in range(len(users))], pa.string()),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.array([item for _, item in flat], dtype=np.int64),
        START + np.array([round(day * MICROSECONDS_A_DAY) for day, _ in flat], dtype=np.int64),
    )


def shard_table(users: list[str] | pa.Array, items: Any, times: Any) -> pa.Table:
    """Rows of a snapshot's shard, each an ordinary event; times in microseconds since 1970."""
    ordinary = pa.array([True] * len(users), pa.bool_())
    columns = [
        users,
        pa.array(items, pa.int32()),
        pa.array(times, pa.timestamp("us")),
        pa.array([1.0] * len(users), pa.float32()),
        ordinary,
        ordinary,
    ]
    return pa.table(dict(zip(EVENT_SCHEMA.names, columns, strict=True)))


def random_histories(
    users: int = 30, items: int = 20, events: int = 25, seed: int = 0, *, baskets: bool = True
) -> Histories:
    """Users with 1 to ``events`` events each, some of which share a time if there are ``baskets``."""
    random = np.random.default_rng(seed)
    users_events = []
    for n in random.integers(1, events + 1, users):
        days = random.integers(0, 40, n) if baskets else random.random(n) * 40
        users_events.append([(float(d), int(i)) for d, i in zip(days, random.integers(1, items + 1, n), strict=True)])
    return histories_of(*users_events)


def planted_histories(users: int = 60, items: int = 12, events: int = 16, seed: int = 0) -> Histories:
    """Everybody walks through the items in one fixed cycle: after item i comes i + 1, without exception."""
    random = np.random.default_rng(seed)
    return histories_of(
        *(
            [(float(day), 1 + (start + day) % items) for day in range(events)]
            for start in random.integers(0, items, users)
        )
    )
