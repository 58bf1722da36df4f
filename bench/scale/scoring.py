"""Index, score, publish and report on a large synthetic snapshot, with an untrained model of the default shape."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from bench.scale.steps import CELLS, Done, run
from bench.tables import table
from hmamba.clock import end_of
from hmamba.config import Config
from hmamba.contracts.manifest import SnapshotManifest
from hmamba.contracts.verdict import Verdict
from hmamba.model.hmamba import HMamba
from hmamba.models import files as model_files
from hmamba.models.files import Provenance
from hmamba.progress import track
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import IntArray, midnight, owners, spans, stream_histories
from hmamba.sequences.snapshot import EVENT_SCHEMA, ITEM_SCHEMA, ROWS_PER_GROUP
from hmamba.storage.layout import Layout
from hmamba.storage.run_layout import ITEMS, MANIFEST, shard_name
from hmamba.terms.base import WeightedTerm
from hmamba.terms.cooccurrence import Cooccurrence

DAY = date(2025, 4, 10)
ITEM_COUNT = 50_000
_BLOCK = 50_000  # users generated at once
_COUNTED = 20_000  # users whose co-occurrence is counted
_MEAN, _SPREAD = 25.0, 1.2  # mean events of a user, and the standard deviation of their logarithm
_HOUR = 3_600_000_000

SHARDS = 8
"""Shards of the snapshot, for any number of users."""


@dataclass(frozen=True)
class Scored:
    """Scored shards.

    Attributes:
        workers: number of shards scored in parallel, each with its part of the cores.
        seconds: wall time of all shards.
        shards: the score step of each shard.
    """

    workers: int
    seconds: float
    shards: list[Done]


@dataclass(frozen=True)
class Night:
    """Steps of one night.

    Attributes:
        users: number of users of the snapshot.
        events: number of events of the snapshot.
        of: number of shards of the snapshot.
        index: the index step.
        scored: the score steps, once for each number of workers.
        after: publish and report; empty if not all shards were scored.
    """

    users: int
    events: int
    of: int
    index: Done
    scored: list[Scored]
    after: dict[str, Done]


def _block(draw: np.random.Generator, users: IntArray) -> tuple[IntArray, pa.Table]:
    """Lengths and events of users: items by Zipf's law, lognormal lengths, one event an hour."""
    mean = np.log(_MEAN) - _SPREAD**2 / 2
    lengths = np.ceil(draw.lognormal(mean, _SPREAD, len(users))).astype(np.int64)
    shares = (1.0 / np.arange(1, ITEM_COUNT + 1)).cumsum()
    items = np.searchsorted(shares / shares[-1], draw.random(lengths.sum())) + 1
    place = spans(np.zeros_like(lengths), lengths)
    names = pc.utf8_lpad(pa.array(users).cast(pa.string()), 9, "0")
    columns = [
        names.take(pa.array(owners(lengths))),
        pa.array(items, pa.int32()),
        pa.array(midnight(DAY) - (lengths.max() - place) * _HOUR, pa.timestamp("us")),
        pa.array(np.ones(len(items), np.float32)),
        *[pa.array(np.ones(len(items), dtype=bool))] * 2,
    ]
    return lengths, pa.Table.from_arrays(columns, schema=EVENT_SCHEMA)


def _write_snapshot(folder: Path, users: int, shards: int) -> int:
    """Write shards and items as the snapshot step does; returns the number of events."""
    folder.mkdir(parents=True)
    counts = np.zeros(ITEM_COUNT + 1, dtype=np.int64)
    for shard in track(range(shards), "make histories", shards, "shards"):
        own, draw = np.arange(shard, users, shards), np.random.default_rng(shard)
        with pq.ParquetWriter(folder / shard_name(shard), EVENT_SCHEMA, compression="zstd") as writer:
            for start in range(0, len(own), _BLOCK):
                _, rows = _block(draw, own[start : start + _BLOCK])
                counts += np.bincount(rows["item_index"].to_numpy(), minlength=len(counts))
                writer.write_table(rows, row_group_size=ROWS_PER_GROUP)
    index = np.arange(1, ITEM_COUNT + 1)
    names = pa.array(index).cast(pa.string())
    first_seen = pa.array(np.full(ITEM_COUNT, midnight(date(2025, 1, 1))), pa.timestamp("us"))
    paths = pa.array([[]] * ITEM_COUNT, pa.list_(pa.string()))
    columns = [pa.array(index, pa.int32()), names, names, paths, paths, first_seen, pa.array(counts[1:])]
    pq.write_table(pa.Table.from_arrays(columns, schema=ITEM_SCHEMA), folder / ITEMS)
    SnapshotManifest(
        day=DAY,
        end=end_of(DAY),
        by_position=False,
        shards=shards,
        users=users,
        events=int(counts.sum()),
        items=ITEM_COUNT,
        newest_event=None,
        batch=1,
        files=(),
        digest="made up",
    ).write(folder / MANIFEST)
    return int(counts.sum())


def _store_model(layout: Layout, config: Config, shard: Path) -> str:
    """Store an untrained model with co-occurrence counts of some users; returns its version."""
    torch.manual_seed(0)
    model = HMamba(config.model, ITEM_COUNT)
    if Cooccurrence.name in (config.model.score_terms or ()):
        some = next(stream_histories(shard, events=_COUNTED * int(_MEAN), users=_COUNTED))
        model.counted_terms = [WeightedTerm(Cooccurrence.count(some, ITEM_COUNT + 1), Cooccurrence.features)]
    candidate_items = CandidateItems.of(np.ones(ITEM_COUNT + 1, dtype=np.int64), 1)
    ids = pa.array([None, *map(str, range(1, ITEM_COUNT + 1))])
    return model_files.save(layout, model, Provenance(DAY, None, "made up", 0, "untrained"), candidate_items, ids)


def _score(root: Path, shards: Sequence[int], workers: int) -> Scored:
    """Score shards in parallel, as ``hmamba run`` does."""
    threads = {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // workers))}
    started = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        steps = [pool.submit(run, "score", root, DAY, "--shard", str(shard), environment=threads) for shard in shards]
        done = [step.result() for step in steps]
    return Scored(workers, time.monotonic() - started, done)


def measure(users: int, root: Path, scored: int | None, workers: Sequence[int]) -> Night:
    """Index, score, publish and report a night.

    Args:
        users: number of users.
        root: an empty folder.
        scored: number of shards to score; None: all, which are then published.
        workers: numbers of shards to score in parallel; all shards are scored again for each.
    """
    layout, config = Layout.at(root), Config.model_validate({})
    night = layout.run(DAY, "manual")
    events = _write_snapshot(night.sequences, users, SHARDS)
    version = _store_model(layout, config, night.sequences / shard_name(0))
    Verdict(
        day=DAY,
        holdout_from=None,
        holdout_to=None,
        users=0,
        queries=0,
        split="days",
        split_why="made up",
        challenger=version,
        champion=None,
        metric=config.gate.metric,
        k=config.candidates.k,
        metrics={},
        serving=version,
        reason="made up",
    ).write(night.verdict)
    index = run("index", root, DAY)
    shards = range(SHARDS if scored is None else scored)
    done = []
    for count in workers:
        done.append(_score(root, shards, count))
        for shard, step in zip(shards, done[-1].shards, strict=True):
            expected = len(range(shard, users, SHARDS))
            rows = pq.read_metadata(night.candidate_part(shard)).num_rows
            if step.metrics["users"] != expected or rows != expected * config.candidates.k:
                raise AssertionError(
                    f"shard {shard}: {rows} candidates of {step.metrics['users']} users, not {expected}"
                )
    whole = len(shards) == SHARDS
    after = {step: run(step, root, DAY) for step in (("publish", "report") if whole else ())}
    if whole and after["publish"].metrics["users"] != users:
        raise AssertionError(f"{after['publish'].metrics['users']} users were published, not {users}")
    return Night(users, events, SHARDS, index, done, after)


def report(nights: Sequence[Night]) -> str:
    """The tables as Markdown."""
    lines = []
    for night in nights:
        size = [f"{night.users:,}", f"{night.events:,}"]
        lines.append(
            [*size, "index", f"{night.index.metrics['float32_recall_users']:,}", *night.index.cells(), "-", "-"]
        )
        for scored in night.scored:
            users, processor = (
                sum(done.metrics["users"] for done in scored.shards),
                sum(done.processor for done in scored.shards),
            )
            peak = max(done.metrics["peak_bytes"] for done in scored.shards) / 1e9
            load = max(done.load for done in scored.shards)
            what = f"score, {len(scored.shards)} of {night.of} shards, {scored.workers} at once"
            cells = [f"{scored.seconds:.1f}", f"{processor:.1f}", f"{peak:.2f}", f"{load:.1f}"]
            speeds = [f"{users / scored.seconds:,.0f}", f"{users / processor:,.0f}"]
            lines.append([*size, what, f"{users:,}", *cells, *speeds])
        lines += [[*size, step, f"{night.users:,}", *done.cells(), "-", "-"] for step, done in night.after.items()]
    header = ["users", "events", "step", "queries", *CELLS, "users a second", "users a processor second"]
    kinds = ", ".join(sorted({str(night.index.metrics["kind"]) for night in nights}))
    note = (
        f"{ITEM_COUNT:,} items, {Config().candidates.k} candidates a user, seen items excluded, co-occurrence on. Each "
        f"shard is a process; the processes share the cores equally, and the peak is that of the largest. Search: "
        f"{kinds}."
    )
    return "\n\n".join(["## Scoring", table(header, lines), note])
