"""Collect what the steps of one run left behind.

A part that is missing is None or empty, and one that cannot be read is left out and named: a night that failed needs
its page most. What a later step left on an earlier try of the same run is left out as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Literal, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.columns import POINT
from hmamba.contracts import (
    Document,
    EpochMetrics,
    GateMetrics,
    IndexMetrics,
    IngestMetrics,
    Manifest,
    ModelMetrics,
    PublishMetrics,
    ScoreMetrics,
    ScoreTermFit,
    ShardMetrics,
    SnapshotMetrics,
    StepFailure,
    TrainMetrics,
    Verdict,
)
from hmamba.errors import InputError
from hmamba.report import statistics
from hmamba.report.disk import Disk
from hmamba.report.statistics import CandidateStatistics
from hmamba.report.steps import in_a_line
from hmamba.report.stopped import Stop, failed_at, unfinished
from hmamba.storage.layout import Layout, RunLayout

MODELS = ("challenger", "champion", "most_bought", "popularity")
_T = TypeVar("_T")
_D = TypeVar("_D", bound=Document)


@dataclass(frozen=True)
class Steps:
    """The metrics of the steps that have finished, in the order of the night; None for the others."""

    ingest: IngestMetrics | None = None
    snapshot: SnapshotMetrics | None = None
    train: TrainMetrics | None = None
    gate: GateMetrics | None = None
    index: IndexMetrics | None = None
    score: ScoreMetrics | None = None
    publish: PublishMetrics | None = None

    def only(self, names: Container[str]) -> Steps:
        """The metrics of these steps."""
        kept = (step.name for step in fields(self) if step.name in names)
        return Steps(**{name: getattr(self, name) for name in kept})


@dataclass(frozen=True)
class StepCost:
    """Wall time (seconds, summed over parts) and the highest peak memory (bytes) of one step; ``told``: what it did."""

    name: str
    told: str
    parts: int
    seconds: float
    longest: float
    peak_bytes: int


@dataclass(frozen=True)
class Training:
    """Epochs of a version, as the training step records them; epoch 0 is the champion before fine-tuning, without loss.

    ``origin``: trained by this run; found, already trained from the very same data and settings; or of an earlier
    night, that of the version which serves, because nothing was trained. ``score_terms``: of each counted term by name,
    its weights and what it changed on the validation events.
    """

    version: str
    origin: Literal["tonight", "found", "earlier"]
    epochs: tuple[EpochMetrics, ...]
    score_terms: dict[str, ScoreTermFit]


@dataclass(frozen=True)
class Night:
    """One run of one day.

    ``stopped``: where the run ended, if it has not published. ``readers``: the newest published table's manifest.
    ``unreadable``: a sentence about each file that could not be read.
    """

    day: date
    run_id: str
    steps: Steps
    costs: tuple[StepCost, ...]
    stopped: Stop | None
    readers: Manifest | None
    unreadable: tuple[str, ...]
    verdict: Verdict | None
    training: Training | None
    candidates: CandidateStatistics | None
    disk: Disk | None
    data_docs: str | None
    places: dict[str, str]

    @property
    def models(self) -> list[str]:
        """The models that were judged, in the order of the table."""
        return [name for name in MODELS if name in self.metrics]

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Figures of each judged model."""
        return {} if self.verdict is None else self.verdict.metrics

    @property
    def baseline(self) -> str | None:
        """The baseline whose table serves, such as popularity; None where a model serves, or nothing."""
        return None if self.verdict is None else self.verdict.baseline


@dataclass
class _Reading:
    """Reads files, and keeps a sentence about each that cannot be read."""

    faults: list[str] = field(default_factory=list)

    def attempt(self, place: Path, read: Callable[[], _T | None]) -> _T | None:
        """What ``read`` finds at a place; None if that cannot be read."""
        try:
            return read()
        except (InputError, OSError, duckdb.Error, pa.ArrowException) as error:
            told = str(error).strip() if isinstance(error, InputError) else f"{place} cannot be read ({error})."
            self.faults.append(f"A part of this page is left out: {told}")
            return None

    def document(self, kind: type[_D], path: Path) -> _D | None:
        """A document; None if the file is missing or cannot be read."""
        return self.attempt(path, lambda: kind.read_if_exists(path))


def gather(layout: Layout, day: date, run_id: str) -> Night:
    """Read everything there is about a run.

    Raises:
        ConfigError: the run id cannot be a folder's name.
    """
    run, reading = layout.run(day, run_id), _Reading()
    shards = run.shards
    steps, costs = _steps(run, len(shards), reading)
    stopped = _stop(run, costs, len(shards), reading)
    if stopped is not None:
        steps = steps.only(stopped.before)
        costs = tuple(cost for cost in costs if cost.name in stopped.before)
    verdict = _verdict(run, stopped, reading)
    parts = [part for part in map(run.candidate_part, range(len(shards))) if part.exists()]
    items, vectors = run.items, run.item_points
    if stopped is None:
        parts = parts or layout.published_parts(day)
    elif "score" not in stopped.before:
        parts = []
    points = None
    if (stopped is None or "index" in stopped.before) and reading.attempt(vectors, lambda: _has_points(vectors)):
        points = vectors
    report = layout.report(day).parent
    return Night(
        day=day,
        run_id=run_id,
        steps=steps,
        costs=costs,
        stopped=stopped,
        readers=reading.document(Manifest, layout.latest),
        verdict=verdict,
        training=_training(layout, steps.train, verdict, reading),
        candidates=_described(parts, items, shards, points, reading) if parts and items.exists() else None,
        disk=reading.attempt(vectors, lambda: statistics.disk(vectors, items)) if points and items.exists() else None,
        data_docs=_data_docs(layout, steps.ingest, report),
        places={
            "Candidates of this night": _relative(layout.published(day), layout.root),
            "Manifest of the newest night": _relative(layout.latest, layout.root),
            "Metrics of every step": _relative(run.metrics, layout.root),
            **({"Records of failed steps": _relative(run.failures, layout.root)} if stopped else {}),
        },
        unreadable=tuple(dict.fromkeys(reading.faults)),
    )


def _steps(run: RunLayout, shards: int, reading: _Reading) -> tuple[Steps, tuple[StepCost, ...]]:
    """The metrics of each step, summed where it is mapped over shards, and what each step cost.

    Parts of shards from ``shards`` on are what an earlier snapshot of this run has left.
    """
    paths = [run.step_metrics("score", shard) for shard in range(shards)]
    parts = [part for path in paths if (part := reading.document(ShardMetrics, path)) is not None]
    steps = Steps(
        ingest=reading.document(IngestMetrics, run.step_metrics("ingest")),
        snapshot=reading.document(SnapshotMetrics, run.step_metrics("snapshot")),
        train=reading.document(TrainMetrics, run.step_metrics("train")),
        gate=reading.document(GateMetrics, run.step_metrics("gate")),
        index=reading.document(IndexMetrics, run.step_metrics("index")),
        score=ScoreMetrics.of(parts) if parts else None,
        publish=reading.document(PublishMetrics, run.step_metrics("publish")),
    )
    costs = []
    for step in fields(steps):
        metrics = getattr(steps, step.name)
        if metrics is not None:
            seconds = [part.seconds for part in parts] if step.name == "score" else [metrics.seconds]
            told, total = in_a_line(metrics), metrics.seconds
            costs.append(StepCost(step.name, told, len(seconds), total, max(seconds), metrics.peak_bytes))
    return steps, tuple(costs)


def _stop(run: RunLayout, costs: tuple[StepCost, ...], shards: int, reading: _Reading) -> Stop | None:
    """Where the run ended: at a step that failed, or after the last one that finished."""
    failures = [found for path in run.failed if (found := reading.document(StepFailure, path)) is not None]
    finished = [cost.name for cost in costs if cost.name != "score" or cost.parts >= shards]
    return failed_at(failures, shards) or unfinished(finished)


def _verdict(run: RunLayout, stopped: Stop | None, reading: _Reading) -> Verdict | None:
    """The verdict, unless it is of an earlier try: a gate that refuses the night leaves one by which nobody serves."""
    verdict = reading.document(Verdict, run.verdict)
    if verdict is None or stopped is None or "gate" in stopped.before:
        return verdict
    return verdict if stopped.step == "gate" and verdict.serving is None else None


def _has_points(vectors: Path) -> bool:
    """Whether a file of items has their points: that of a baseline only lists the items that it may recommend."""
    return vectors.exists() and POINT in pq.read_schema(vectors).names


def _described(
    parts: list[Path], items: Path, shards: list[Path], points: Path | None, reading: _Reading
) -> CandidateStatistics | None:
    return reading.attempt(parts[0].parent, lambda: statistics.describe(parts, items, shards, points))


def _training(
    layout: Layout, train: TrainMetrics | None, verdict: Verdict | None, reading: _Reading
) -> Training | None:
    """Tonight's training, or that of the version that serves."""
    if train is not None and train.version is not None and train.epochs:
        origin: Literal["tonight", "found"] = "found" if train.reused else "tonight"
        return Training(train.version, origin, train.epochs, train.score_terms)
    serving = None if verdict is None else verdict.serving
    metrics = reading.document(ModelMetrics, layout.model_metrics(serving)) if serving else None
    if metrics is None or metrics.training is None or not metrics.training.epochs:
        return None
    return Training(metrics.training.version, "earlier", metrics.training.epochs, metrics.training.score_terms)


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(path, start).replace(os.sep, "/")


def _data_docs(layout: Layout, ingest: IngestMetrics | None, report: Path) -> str | None:
    """Link from the report to the Data Docs, relative so that the root can be moved."""
    if ingest is None or ingest.data_docs is None:
        return None
    path = layout.root / ingest.data_docs
    return _relative(path, report) if path.exists() else None
