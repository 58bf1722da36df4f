"""Collect the output files of one run's steps.

A missing part is None or empty. A file that cannot be read is left out and reported, so that a failed night has a page
too. Outputs of an earlier try of the same run, by steps after the failed one, are left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from dataclasses import dataclass, field, fields
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.columns import POINT
from hmamba.config import ReportConfig
from hmamba.contracts import Manifest
from hmamba.contracts.document import Document
from hmamba.contracts.manifest import SnapshotManifest
from hmamba.contracts.models import EpochMetrics, ModelMetrics, RankerFit, RecipeUsed, ScoreTermFit
from hmamba.contracts.published import PublishMetrics
from hmamba.contracts.scored import ScoreMetrics, ShardMetrics
from hmamba.contracts.step import StepFailure
from hmamba.contracts.steps import KEPT_METRICS, GateMetrics, IndexMetrics, IngestMetrics, SnapshotMetrics, TrainMetrics
from hmamba.contracts.verdict import Verdict
from hmamba.errors import InputError
from hmamba.report import statistics
from hmamba.report.changes import Changes, since_last
from hmamba.report.disk import Disk
from hmamba.report.drift import Drift, measure
from hmamba.report.examples import Example, choose
from hmamba.report.neighbours import reported_days
from hmamba.report.statistics import CandidateStatistics
from hmamba.report.stopped import Stop, failed_at, unfinished
from hmamba.rules.files import RulesDocument
from hmamba.steps import PUBLISHING
from hmamba.storage.base import Storage
from hmamba.storage.layout import Layout
from hmamba.storage.run_layout import RULES, RunLayout

MODELS = ("challenger", "champion", "most_bought", "popularity")
_T = TypeVar("_T")
_D = TypeVar("_D", bound=Document)


@dataclass(frozen=True)
class Steps:
    """Metrics of the finished steps, in the order of the night; None for the others."""

    ingest: IngestMetrics | None = None
    snapshot: SnapshotMetrics | None = None
    train: TrainMetrics | None = None
    gate: GateMetrics | None = None
    index: IndexMetrics | None = None
    score: ScoreMetrics | None = None
    publish: PublishMetrics | None = None

    def only(self, names: Container[str]) -> Steps:
        """Only the metrics of the named steps."""
        kept = (step.name for step in fields(self) if step.name in names)
        return Steps(**{name: getattr(self, name) for name in kept})


@dataclass(frozen=True)
class StepCost:
    """Cost of one step: wall time in seconds (``longest``: of one part), peak memory in bytes, ``summary`` in words."""

    name: str
    summary: str
    parts: int
    seconds: float
    longest: float
    peak_bytes: int


@dataclass(frozen=True)
class Training:
    """Recorded epochs of a version; epoch 0 is the champion before fine-tuning, without loss.

    ``origin``: "tonight", trained by this run; "found", already trained from the same data and settings; "earlier", the
    serving version's own training, because nothing was trained. ``score_terms``: by name, the weights of each term and
    its effect on the validation events. ``ranker``: the same of the ranker; None without ``rank.model``. ``recipe``:
    settings from the data; None if they are not recorded.
    """

    version: str
    origin: Literal["tonight", "found", "earlier"]
    epochs: tuple[EpochMetrics, ...]
    score_terms: dict[str, ScoreTermFit]
    ranker: RankerFit | None
    recipe: RecipeUsed | None


@dataclass(frozen=True)
class Night:
    """One run of one day.

    ``stopped``: where the run ended; None if it published. ``readers``: manifest of the newest published table.
    ``changes``: None if there is no table of an earlier day. ``drift``: None without a snapshot, or if events have no
    times (``by_position``). ``examples``: None if they are switched off, or without candidates. ``reports``: days that
    have a report. ``rules``: kind and name of each rule. ``unreadable``: a message for each file that could not be
    read.
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
    reports: tuple[date, ...] = ()
    changes: Changes | None = None
    drift: Drift | None = None
    by_position: bool = False
    examples: tuple[Example, ...] | None = None
    rules: tuple[tuple[str, str], ...] = ()

    @property
    def models(self) -> list[str]:
        """Names of the evaluated systems, in the order of the table."""
        return [name for name in MODELS if name in self.metrics]

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Metrics of each evaluated system."""
        return {} if self.verdict is None else self.verdict.metrics

    @property
    def baseline(self) -> str | None:
        """The baseline that serves, such as popularity; None if a model or nothing serves."""
        return None if self.verdict is None else self.verdict.baseline


@dataclass
class _Reading:
    """Reads files and collects a message for each that cannot be read."""

    storage: Storage
    faults: list[str] = field(default_factory=list)

    def attempt(self, place: Path, read: Callable[[], _T | None]) -> _T | None:
        """Result of ``read`` for a path; None if the file cannot be read."""
        try:
            return read()
        except (InputError, OSError, duckdb.Error, pa.ArrowException) as error:
            reason = str(error).strip() if isinstance(error, InputError) else f"{place} cannot be read ({error})."
            self.faults.append(f"A part of this page is left out: {reason}")
            return None

    def document(self, kind: type[_D], path: Path) -> _D | None:
        """A document; None if the file is missing or cannot be read."""
        return self.attempt(path, lambda: kind.read_if_exists(path, self.storage))


def gather(layout: Layout, day: date, run_id: str, config: ReportConfig | None = None) -> Night:
    """Read all outputs of a run.

    Args:
        layout: the root.
        day: the night's day.
        run_id: the run.
        config: what to show; None for the defaults.

    Raises:
        ConfigError: the run id cannot be a folder's name.
    """
    config = config or ReportConfig()
    run, reading = layout.run(day, run_id), _Reading(layout.storage)
    shards, snapshot = run.shards, None
    steps, costs = _steps(run, reading)
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
    points = candidates = None
    if (stopped is None or "index" in stopped.before) and reading.attempt(vectors, lambda: _has_points(vectors)):
        points = vectors
    if parts and items.exists():
        candidates = reading.attempt(parts[0].parent, lambda: statistics.describe(parts, items, shards, points))
    if stopped is None or "snapshot" in stopped.before:
        snapshot = reading.document(SnapshotManifest, run.manifest)
    changes = drift = None
    examples: list[Example] | None = None
    if snapshot is not None and shards and items.exists():
        drift = reading.attempt(run.sequences, partial(measure, snapshot, shards, items, config.drift_days))
        if parts and stopped is None and config.examples:
            chosen = partial(choose, snapshot, parts, shards, items, config.examples)
            examples = reading.attempt(parts[0].parent, chosen)
    published = reading.document(Manifest, layout.published_manifest(day)) if stopped is None else None
    if published is not None and parts:
        changes = reading.attempt(layout.candidates, partial(since_last, layout, published, parts))
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
        candidates=candidates,
        disk=reading.attempt(vectors, lambda: statistics.disk(vectors, items)) if points and items.exists() else None,
        data_docs=_relative(layout.checks.index, report) if layout.checks.index.exists() else None,
        places={
            "Candidates of this night": _relative(layout.published(day), layout.root),
            "Manifest of the newest night": _relative(layout.latest, layout.root),
            "Metrics of every step": _relative(run.metrics, layout.root),
            **({"Records of failed steps": _relative(run.failures, layout.root)} if stopped else {}),
        },
        reports=tuple(reported_days(layout)),
        changes=changes,
        drift=drift,
        by_position=snapshot is not None and snapshot.by_position,
        examples=None if examples is None else tuple(examples),
        rules=_rules(run, reading),
        unreadable=tuple(dict.fromkeys(reading.faults)),
    )


def _rules(run: RunLayout, reading: _Reading) -> tuple[tuple[str, str], ...]:
    """Kind and name of the rules of the run, in the order in which they are applied."""
    written = reading.document(RulesDocument, run.sequences / RULES)
    book = None if written is None else reading.attempt(run.sequences / RULES, lambda: written.book)
    return () if book is None else tuple(book.described())


def _steps(run: RunLayout, reading: _Reading) -> tuple[Steps, tuple[StepCost, ...]]:
    """Metrics and cost of each step, summed over shards."""
    parts = [part for path in run.score_metrics if (part := reading.document(ShardMetrics, path)) is not None]
    found: dict[str, Any] = {
        step: reading.document(KEPT_METRICS[step], run.step_metrics(step)) for step in PUBLISHING if step != "score"
    }
    steps = Steps(**found, score=ScoreMetrics.of(parts) if parts else None)
    costs = []
    for step in fields(steps):
        metrics = getattr(steps, step.name)
        if metrics is not None:
            seconds = [part.seconds for part in parts] if step.name == "score" else [metrics.seconds]
            summary, total = metrics.in_a_line, metrics.seconds
            costs.append(StepCost(step.name, summary, len(seconds), total, max(seconds), metrics.peak_bytes))
    return steps, tuple(costs)


def _stop(run: RunLayout, costs: tuple[StepCost, ...], shards: int, reading: _Reading) -> Stop | None:
    """Where the run ended: at a failed step, or after the last finished one."""
    failures = [found for path in run.failed if (found := reading.document(StepFailure, path)) is not None]
    finished = [cost.name for cost in costs if cost.name != "score" or cost.parts >= shards]
    return failed_at(failures, shards) or unfinished(finished)


def _verdict(run: RunLayout, stopped: Stop | None, reading: _Reading) -> Verdict | None:
    """The verdict, unless it is of an earlier try. A gate that refuses the night writes one without a serving model."""
    verdict = reading.document(Verdict, run.verdict)
    if verdict is None or stopped is None or "gate" in stopped.before:
        return verdict
    return verdict if stopped.step == "gate" and verdict.serving is None else None


def _has_points(vectors: Path) -> bool:
    """Whether an item file has points; a baseline's file lists its candidate items only."""
    return vectors.exists() and POINT in pq.read_schema(vectors).names


def _training(
    layout: Layout, train: TrainMetrics | None, verdict: Verdict | None, reading: _Reading
) -> Training | None:
    """Training of this run, or of the version that serves."""
    if train is not None and train.version is not None and train.epochs:
        origin: Literal["tonight", "found"] = "found" if train.reused else "tonight"
        return Training(train.version, origin, train.epochs, train.score_terms, train.ranker, train.recipe)
    serving = None if verdict is None else verdict.serving
    metrics = reading.document(ModelMetrics, layout.model_metrics(serving)) if serving else None
    if metrics is None or metrics.training is None or not metrics.training.epochs:
        return None
    found = metrics.training
    return Training(found.version, "earlier", found.epochs, found.score_terms, found.ranker, found.recipe)


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(path, start).replace(os.sep, "/")
