"""Collect what the steps of one run left behind. A part that is missing is None or empty, never an error."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq

from hmamba.columns import POINT
from hmamba.files import read_json
from hmamba.layout import Layout, RunLayout
from hmamba.report import statistics
from hmamba.report.disk import Disk
from hmamba.report.statistics import CandidateStatistics

STEPS = ("ingest", "snapshot", "train", "gate", "index", "score", "publish")
COUNTS = ("users", "fallback_users", "rows")
MODELS = ("challenger", "champion", "most_bought", "popularity")
Json = dict[str, Any]


@dataclass(frozen=True)
class StepCost:
    """Wall time (seconds, summed over parts) and the highest peak memory (bytes) of one step."""

    name: str
    parts: int
    seconds: float
    longest: float
    peak_bytes: int


@dataclass(frozen=True)
class Training:
    """Epochs of a version, as the training step records them; epoch 0 is the champion before fine-tuning, without loss.

    ``origin``: trained by this run; found, already trained from the very same data and settings; or of an earlier
    night, that of the version which serves, because nothing was trained. ``transitions``: their strength and scale, and
    what they changed on the validation days; None where the version was trained without.
    """

    version: str
    origin: Literal["tonight", "found", "earlier"]
    epochs: tuple[Json, ...]
    transitions: Json | None


@dataclass(frozen=True)
class Night:
    """One run of one day. Facts are the steps' own; see the steps for their keys."""

    day: date
    run_id: str
    facts: dict[str, Json]
    costs: tuple[StepCost, ...]
    verdict: Json | None
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
        found: dict[str, dict[str, float]] = (self.verdict or {}).get("metrics", {})
        return found


def gather(layout: Layout, day: date, run_id: str) -> Night:
    """Read everything there is about a run.

    Raises:
        InputError: a file that should be JSON is not.
        ConfigError: the run id cannot be a folder's name.
    """
    run = layout.run(day, run_id)
    shards = sorted(run.sequences.glob("shard-*.parquet"))
    facts, costs = _facts(run, len(shards))
    verdict = read_json(run.verdict) if run.verdict.exists() else None
    items = run.sequences / "items.parquet"
    vectors: Path | None = run.vectors / "items.parquet"
    # A baseline has no points, only a list of the items that it may recommend.
    if vectors is not None and not (vectors.exists() and POINT in pq.read_schema(vectors).names):
        vectors = None
    parts = [part for part in map(run.candidate_part, range(len(shards))) if part.exists()]
    parts = parts or layout.published_parts(day)
    report = layout.report(day).parent
    return Night(
        day=day,
        run_id=run_id,
        facts=facts,
        costs=costs,
        verdict=verdict,
        training=_training(layout, facts.get("train", {}), verdict),
        candidates=statistics.describe(parts, items, shards, vectors) if parts and items.exists() else None,
        disk=statistics.disk(vectors, items) if vectors is not None and items.exists() else None,
        data_docs=_data_docs(layout, facts.get("ingest", {}), report),
        places={
            "Candidates of this night": _relative(layout.published(day), layout.root),
            "Manifest of the newest night": _relative(layout.latest, layout.root),
            "Facts of every step": _relative(run.facts, layout.root),
        },
    )


def _facts(run: RunLayout, shards: int) -> tuple[dict[str, Json], tuple[StepCost, ...]]:
    """The facts of each step, counts summed where it is mapped over shards, and what each step cost.

    Parts of shards from ``shards`` on are what an earlier snapshot of this run has left.
    """
    facts: dict[str, Json] = {}
    costs = []
    for name in STEPS:
        paths = [run.step_facts(name), *(run.step_facts(name, shard) for shard in range(shards))]
        found = [read_json(path) for path in paths if path.exists()]
        if found:
            counts = {key: sum(part.get(key, 0) for part in found) for key in COUNTS if key in found[0]}
            facts[name] = found[0] if len(found) == 1 else counts
            seconds = [float(part.get("seconds", 0.0)) for part in found]
            peak = max(int(part.get("peak_bytes", 0)) for part in found)
            costs.append(StepCost(name, len(found), sum(seconds), max(seconds), peak))
    return facts, tuple(costs)


def _training(layout: Layout, train: Json, verdict: Json | None) -> Training | None:
    """What tonight's training tells, or that of the version that serves."""
    version = train.get("version")
    origin: Literal["tonight", "found", "earlier"] = "found" if train.get("reused") else "tonight"
    if not version or not train.get("epochs"):
        version, origin = (verdict or {}).get("serving"), "earlier"
        metrics = layout.model(version) / "metrics.json" if version else None
        if metrics is None or not metrics.exists():
            return None
        train = read_json(metrics).get("training") or {}
    epochs = train.get("epochs") or []
    return Training(str(version), origin, tuple(epochs), train.get("transitions")) if epochs else None


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(path, start).replace(os.sep, "/")


def _data_docs(layout: Layout, ingest: Json, report: Path) -> str | None:
    """Link from the report to the Data Docs, relative so that the root can be moved."""
    named = ingest.get("data_docs")
    if not named:
        return None
    path = layout.root / str(named)
    return _relative(path, report) if path.exists() else None
