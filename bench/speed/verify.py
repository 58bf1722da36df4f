"""Reading a snapshot with its files verified, against reading it without."""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.speed.rounds import Figure, Ways, check, in_turns
from hmamba.contracts.contents import HashedFile
from hmamba.sequences.histories import Histories, read_histories
from hmamba.sequences.snapshot import EVENT_SCHEMA, ROWS_PER_GROUP

log = logging.getLogger("hmamba")

EVENTS, USERS, ITEMS = 4_000_000, 200_000, 50_000
VERIFIED, UNVERIFIED = "read and verified", "read"


def _write(path: Path, events: int) -> None:
    draw = np.random.default_rng(0)
    owner = np.sort(draw.integers(0, USERS, events))
    times = np.sort(draw.integers(0, 90 * 86_400, events)) * 1_000_000
    columns = [
        pa.array([f"user-{user:06d}" for user in range(USERS)]).take(pa.array(owner)),
        pa.array(draw.zipf(1.3, events) % ITEMS + 1, pa.int32()),
        pa.array(times, pa.timestamp("us")),
        pa.array(np.ones(events, dtype=np.float32)),
        pa.array(np.ones(events, dtype=bool)),
        pa.array(np.ones(events, dtype=bool)),
    ]
    pq.write_table(pa.table(columns, schema=EVENT_SCHEMA), path, compression="zstd", row_group_size=ROWS_PER_GROUP)


def _verified(path: Path, file: HashedFile) -> Histories:
    return read_histories([file.verified(path, "Run this again.")])


def figures(*, quick: bool) -> list[Figure]:
    """Events read per second."""
    events, rounds = (EVENTS // 10, 2) if quick else (EVENTS, 5)
    log.info("verification, %d events", events)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard-0000.parquet"
        _write(path, events)
        file = HashedFile.of(path)
        check(len(_verified(path, file).items) == events, "events are missing")
        ways: Ways = {VERIFIED: partial(_verified, path, file), UNVERIFIED: partial(read_histories, [path])}
        seconds, spread = in_turns(ways, rounds)
    title = f"Snapshot of {events:,} events, {file.bytes / 1e6:.0f} MB"
    return [Figure(title, VERIFIED, UNVERIFIED, (events, "events"), seconds, spread)]
