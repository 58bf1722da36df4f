"""The nights of a root, from the documents that they have left: for ``hmamba history`` and the page of all nights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import TypeVar

from hmamba.columns import BASELINES
from hmamba.contracts.document import Document
from hmamba.contracts.manifest import Manifest
from hmamba.contracts.published import PublishMetrics
from hmamba.contracts.scored import ShardMetrics
from hmamba.contracts.step import StepFailure, StepMetrics
from hmamba.contracts.steps import KEPT_METRICS, SnapshotMetrics
from hmamba.contracts.verdict import Comparison, Verdict
from hmamba.errors import InputError
from hmamba.report.stopped import failed_at, unfinished
from hmamba.steps import PUBLISHING
from hmamba.storage.layout import Layout
from hmamba.storage.run_layout import RunLayout

_D = TypeVar("_D", bound=Document)
_T = TypeVar("_T")

_AFTER_INGEST = frozenset(PUBLISHING[1:])


@dataclass(frozen=True)
class Night:
    """One run of one day.

    Attributes:
        day: the night's day.
        run_id: the run.
        verdict: promoted, not promoted, baseline, refused, failed, or unknown.
        reason: the gate's reason, the message of the failed step, or why nothing is known.
        serving: the model or baseline that served; None if none did.
        metric: the deciding metric, such as ndcg@10; None before a verdict.
        value: its mean over the evaluated users, of what served; None if no user was evaluated.
        interval: the 95 % interval of that mean; None if it was not measured.
        baselines: its mean of each baseline.
        compared: the model compared with the champion, or without one with the best baseline; None if neither was
            possible.
        items: number of different items in the published table; None if the run published none.
        rows, users: those of the published table; None if the run published none.
        seconds: wall time of all steps, added up; None if no step left its metrics.
        published_at: when its table was published; None unless it is the table of that day.
        rolled_back: whether a rollback has taken the night back.
        problems: a sentence for each file that is missing or cannot be read.
    """

    day: date
    run_id: str
    verdict: str = "unknown"
    reason: str = ""
    serving: str | None = None
    metric: str | None = None
    value: float | None = None
    interval: tuple[float, float] | None = None
    baselines: dict[str, float] = field(default_factory=dict)
    compared: Comparison | None = None
    items: int | None = None
    rows: int | None = None
    users: int | None = None
    seconds: float | None = None
    published_at: datetime | None = None
    rolled_back: bool = False
    problems: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """``value`` divided by that of the best baseline; None without either, or if the latter is 0."""
        best = max(self.baselines.values(), default=0.0)
        return None if self.value is None or best <= 0 else self.value / best


def nights(layout: Layout) -> list[Night]:
    """All nights, oldest day first; of one day in the order in which they published, then by run id.

    Runs of pulls and refreshes alone are not nights. A night of which files are missing or damaged is listed with its
    problems.
    """
    published, found = dict(_published(layout)), []
    for folders, rolled_back in ((layout.run_days, False), (layout.rolled_back_days, True)):
        for day, folder in folders:
            for run in (RunLayout(path, layout.storage) for path in layout.storage.find(folder, "*/")):
                if _is_night(run):
                    table = None if rolled_back else published.get(day)
                    found.append(replace(_night(run, day, table), rolled_back=rolled_back))
    known = {(night.day, night.run_id) for night in found if not night.rolled_back}
    found += [
        _of_table(day, table)
        for day, table in published.items()
        if isinstance(table, str) or (day, table.run_id) not in known
    ]
    return sorted(found, key=lambda night: (night.day, night.published_at is not None, night.run_id))


def night_of(layout: Layout, day: date, run_id: str) -> Night:
    """One run of one day, as in :func:`nights`, by its own documents."""
    return _night(layout.run(day, run_id), day, None)


def _published(layout: Layout) -> Iterator[tuple[date, Manifest | str]]:
    """The manifest of each published day, or why it cannot be read."""
    for day, _ in layout.published_days:
        try:
            manifest = Manifest.read_if_exists(layout.published_manifest(day), layout.storage)
        except InputError as error:
            yield day, str(error)
        else:
            if manifest is not None:
                yield day, manifest


def _is_night(run: RunLayout) -> bool:
    """Whether a step after the pull has left its metrics, or any step of a night its failure."""
    done = {path.stem.partition("-")[0] for path in run.storage.find(run.metrics, "*.json")}
    failed = {path.stem.partition("-")[0] for path in run.failed}
    return bool(done & _AFTER_INGEST or failed & {*PUBLISHING})


@dataclass
class _Reading:
    """Reads documents and collects a sentence for each that cannot be read."""

    problems: list[str] = field(default_factory=list)

    def attempt(self, read: Callable[[], _T | None]) -> _T | None:
        try:
            return read()
        except (InputError, OSError) as error:
            self.problems.append(str(error))
            return None

    def document(self, kind: type[_D], place: Path, run: RunLayout) -> _D | None:
        return self.attempt(lambda: kind.read_if_exists(place, run.storage))


def _night(run: RunLayout, day: date, table: Manifest | str | None) -> Night:
    reading, run_id = _Reading(), run.folder.name
    steps = _steps(run, reading)
    failures = [found for path in run.failed if (found := reading.document(StepFailure, path, run)) is not None]
    shards = max((step.shards for step in steps if isinstance(step, SnapshotMetrics)), default=0)
    scored = sum(isinstance(step, ShardMetrics) for step in steps)
    done = {step.step for step in steps} & {*PUBLISHING} - ({"score"} if scored < shards else set())
    stopped = failed_at(failures, shards) or unfinished([*done])
    night = Night(day, run_id, seconds=round(sum(step.seconds for step in steps), 3) if steps else None)
    night = _judged(night, reading.document(Verdict, run.verdict, run))
    for step in steps:
        if isinstance(step, PublishMetrics):
            night = replace(night, rows=step.rows, users=step.users, items=step.distinct_items)
    if stopped is not None and night.verdict != "refused":
        why = f"stopped before {stopped.step}" if stopped.failure is None else stopped.failure.message
        night = replace(night, verdict="failed", reason=why, rows=None, users=None, items=None)
        if stopped.failure is not None:
            night = replace(night, reason=f"{stopped.step}: {why}")
    if isinstance(table, Manifest) and table.run_id == run_id:
        night = replace(night, rows=table.rows, users=table.users, published_at=table.created_at)
    elif isinstance(table, str):
        reading.problems.append(table)
    return replace(night, problems=tuple(dict.fromkeys(reading.problems)))


def _steps(run: RunLayout, reading: _Reading) -> list[StepMetrics]:
    """Metrics of all steps of a night; of score, those of each shard."""
    found = []
    for path in run.storage.find(run.metrics, "*.json"):
        kind = KEPT_METRICS.get(path.stem.partition("-")[0])
        if kind is not None and path.stem != "refresh" and (step := reading.document(kind, path, run)) is not None:
            found.append(step)
    return found


def _judged(night: Night, verdict: Verdict | None) -> Night:
    """A night with the gate's results."""
    if verdict is None:
        return night
    said = "promoted" if verdict.promoted else "not promoted"
    if verdict.serving is None:
        said = "refused"
    elif verdict.baseline is not None:
        said = "baseline"
    names = {verdict.challenger: "challenger", verdict.champion: "champion"}
    system = verdict.baseline or names.get(verdict.serving)
    measured = verdict.metrics.get(system or "", {})
    interval = verdict.intervals.get(system or "")
    return replace(
        night,
        verdict=said,
        reason=verdict.reason,
        serving=verdict.serving,
        metric=verdict.metric,
        value=measured.get(verdict.metric),
        interval=None if interval is None else (interval.low, interval.high),
        baselines={
            name: found[verdict.metric]
            for name, found in verdict.metrics.items()
            if name in BASELINES and verdict.metric in found
        },
        compared=_compared(verdict),
    )


def _compared(verdict: Verdict) -> Comparison | None:
    """The comparison that matters: with the champion, or without one with the best baseline."""
    found = {(one.one, one.other): one for one in verdict.comparisons}
    if ("challenger", "champion") in found:
        return found["challenger", "champion"]
    against = [one for one in verdict.comparisons if one.one in ("challenger", "champion")]
    return max(against, key=lambda one: verdict.metrics.get(one.other, {}).get(verdict.metric, 0.0), default=None)


def _of_table(day: date, table: Manifest | str) -> Night:
    """A night of which only the published table is left."""
    if isinstance(table, str):
        return Night(day, "", reason="its manifest cannot be read", problems=(table,))
    gone = "the working folder of the run has been deleted"
    return Night(
        day,
        table.run_id,
        reason=gone,
        serving=table.model_version,
        rows=table.rows,
        users=table.users,
        published_at=table.created_at,
        problems=(f"{day} {table.run_id}: {gone}.",),
    )
