"""Histories for tests, from lists."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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


def valued(histories: Histories, weights: Any = None, targets: Any = None, seen: Any = None) -> Histories:
    """The same events with other weights, targets and seen flags, each (N,) or None for ordinary ones."""
    return replace(
        histories,
        weights=None if weights is None else np.array(weights, dtype=np.float32),
        targets=None if targets is None else np.array(targets, dtype=bool),
        seen=None if seen is None else np.array(seen, dtype=bool),
    )


def randomly_valued(histories: Histories, seed: int = 0) -> Histories:
    """The same events, some of weight 0, some heavier, some no targets, some not seen."""
    random = np.random.default_rng(seed)
    size = histories.events
    return valued(
        histories, random.choice([0.0, 0.5, 1.0, 3.0], size), random.random(size) < 0.8, random.random(size) < 0.8
    )


def shard_table(users: list[str] | pa.Array, items: Any, times: Any, *flags: Any) -> pa.Table:
    """Rows of a shard; times in microseconds since 1970; ``flags``: weights, targets, seen, None where ordinary."""
    kinds = pa.float32(), pa.bool_(), pa.bool_()
    given = flags or (None, None, None)
    columns = [users, pa.array(items, pa.int32()), pa.array(times, pa.timestamp("us"))]
    columns += [pa.array(np.ones(len(users)) if a is None else a).cast(k) for a, k in zip(given, kinds, strict=True)]
    return pa.table(dict(zip(EVENT_SCHEMA.names, columns, strict=True)))


def write_shard(path: Path, histories: Histories) -> Path:
    """Write histories, whose users ascend, as a shard of a snapshot."""
    users = histories.users.take(pa.array(histories.owner))
    flags = histories.weights, histories.targets, histories.seen
    pq.write_table(shard_table(users, histories.items, histories.times, *flags), path)
    return path


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
