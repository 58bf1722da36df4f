"""Collect what the steps of one run left behind.

A part that is missing is None or empty, and one that cannot be read is left out and named: a night that failed needs
its page most. What a later step left on an earlier try of the same run is left out as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.columns import BASELINE_VERSION, POINT
from hmamba.errors import InputError
from hmamba.report import statistics
from hmamba.report.disk import Disk
from hmamba.report.statistics import CandidateStatistics
from hmamba.report.stopped import Readers, Stop, failed_at, unfinished
from hmamba.steps import PUBLISHING
from hmamba.storage.layout import Layout, RunLayout
from hmamba.storage.local import read_json

COUNTS = ("users", "fallback_users", "rows")
MODELS = ("challenger", "champion", "most_bought", "popularity")
Json = dict[str, Any]
_T = TypeVar("_T")


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
    night, that of the version which serves, because nothing was trained. ``score_terms``: of each counted term by name,
    its weights and what it changed on the validation events.
    """

    version: str
    origin: Literal["tonight", "found", "earlier"]
    epochs: tuple[Json, ...]
    score_terms: dict[str, Json]


@dataclass(frozen=True)
class Night:
    """One run of one day. Facts are the steps' own; see the steps for their keys.

    ``stopped``: where the run ended, if it has not published. ``readers``: what is published; None if nothing is.
    ``unreadable``: a sentence about each file that could not be read.
    """

    day: date
    run_id: str
    facts: dict[str, Json]
    costs: tuple[StepCost, ...]
    stopped: Stop | None
    readers: Readers | None
    unreadable: tuple[str, ...]
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
        found: dict[str, dict[str, float]] = (self.verdict or {}).get("metrics") or {}
        return found

    @property
    def baseline(self) -> str | None:
        """The baseline whose table serves, such as popularity; None where a model serves, or nothing."""
        serving = str((self.verdict or {}).get("serving") or "")
        return serving.removeprefix(BASELINE_VERSION) if serving.startswith(BASELINE_VERSION) else None


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

    def json(self, path: Path) -> Json | None:
        """A JSON object; None if the file is missing or holds something else."""
        found = self.attempt(path, lambda: read_json(path)) if path.exists() else {}
        if found is not None and not isinstance(found, dict):
            self.faults.append(f"A part of this page is left out: {path} is not a JSON object.")
        return found if found and isinstance(found, dict) else None


def gather(layout: Layout, day: date, run_id: str) -> Night:
    """Read everything there is about a run.

    Raises:
        ConfigError: the run id cannot be a folder's name.
    """
    run, reading = layout.run(day, run_id), _Reading()
    shards = run.shards
    facts, costs = _facts(run, len(shards), reading)
    stopped = _stop(run, costs, len(shards), reading)
    if stopped is not None:
        facts = {step: found for step, found in facts.items() if step in stopped.before}
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
        facts=facts,
        costs=costs,
        stopped=stopped,
        readers=_readers(layout, reading),
        verdict=verdict,
        training=_training(layout, facts.get("train", {}), verdict, reading),
        candidates=_described(parts, items, shards, points, reading) if parts and items.exists() else None,
        disk=reading.attempt(vectors, lambda: statistics.disk(vectors, items)) if points and items.exists() else None,
        data_docs=_data_docs(layout, facts.get("ingest", {}), report),
        places={
            "Candidates of this night": _relative(layout.published(day), layout.root),
            "Manifest of the newest night": _relative(layout.latest, layout.root),
            "Facts of every step": _relative(run.facts, layout.root),
            **({"Records of failed steps": _relative(run.failures, layout.root)} if stopped else {}),
        },
        unreadable=tuple(dict.fromkeys(reading.faults)),
    )


def _facts(run: RunLayout, shards: int, reading: _Reading) -> tuple[dict[str, Json], tuple[StepCost, ...]]:
    """The facts of each step, counts summed where it is mapped over shards, and what each step cost.

    Parts of shards from ``shards`` on are what an earlier snapshot of this run has left.
    """
    facts: dict[str, Json] = {}
    costs = []
    for name in PUBLISHING:
        paths = [run.step_facts(name), *(run.step_facts(name, shard) for shard in range(shards))]
        found = [part for part in map(reading.json, paths) if part is not None]
        if found:
            counts = {key: sum(part.get(key, 0) for part in found) for key in COUNTS if key in found[0]}
            facts[name] = found[0] if len(found) == 1 else counts
            seconds = [float(part.get("seconds", 0.0)) for part in found]
            peak = max(int(part.get("peak_bytes", 0)) for part in found)
            costs.append(StepCost(name, len(found), sum(seconds), max(seconds), peak))
    return facts, tuple(costs)


def _stop(run: RunLayout, costs: tuple[StepCost, ...], shards: int, reading: _Reading) -> Stop | None:
    """Where the run ended: at a step that failed, or after the last one that finished."""
    failures = [record for path in run.failed if (record := reading.json(path)) is not None]
    finished = [cost.name for cost in costs if cost.name != "score" or cost.parts >= shards]
    return failed_at(failures, shards) or unfinished(finished)


def _verdict(run: RunLayout, stopped: Stop | None, reading: _Reading) -> Json | None:
    """The verdict, unless it is of an earlier try: a gate that refuses the night leaves one by which nobody serves."""
    verdict = reading.json(run.verdict)
    if verdict is None or stopped is None or "gate" in stopped.before:
        return verdict
    return verdict if stopped.step == "gate" and verdict.get("serving") is None else None


def _has_points(vectors: Path) -> bool:
    """Whether a file of items has their points: that of a baseline only lists the items that it may recommend."""
    return vectors.exists() and POINT in pq.read_schema(vectors).names


def _described(
    parts: list[Path], items: Path, shards: list[Path], points: Path | None, reading: _Reading
) -> CandidateStatistics | None:
    return reading.attempt(parts[0].parent, lambda: statistics.describe(parts, items, shards, points))


def _readers(layout: Layout, reading: _Reading) -> Readers | None:
    manifest = reading.json(layout.latest)
    if manifest is None:
        return None
    return Readers(*(str(manifest.get(key, "unknown")) for key in ("day", "run_id", "model_version")))


def _training(layout: Layout, train: Json, verdict: Json | None, reading: _Reading) -> Training | None:
    """What tonight's training tells, or that of the version that serves."""
    version = train.get("version")
    origin: Literal["tonight", "found", "earlier"] = "found" if train.get("reused") else "tonight"
    if not version or not train.get("epochs"):
        version, origin = (verdict or {}).get("serving"), "earlier"
        metrics = reading.json(layout.metrics(version)) if version else None
        train = (metrics or {}).get("training") or {}
    epochs = train.get("epochs") or []
    return Training(str(version), origin, tuple(epochs), train.get("score_terms") or {}) if epochs else None


def _relative(path: Path, start: Path) -> str:
    return os.path.relpath(path, start).replace(os.sep, "/")


def _data_docs(layout: Layout, ingest: Json, report: Path) -> str | None:
    """Link from the report to the Data Docs, relative so that the root can be moved."""
    named = ingest.get("data_docs")
    if not named:
        return None
    path = layout.root / str(named)
    return _relative(path, report) if path.exists() else None
