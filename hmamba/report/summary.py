"""The summary of a night: a headline, a few sentences and alerts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hmamba.columns import BASELINES
from hmamba.contracts.verdict import Verdict
from hmamba.report.gather import Night
from hmamba.report.judged import behind, deciding, metric_of
from hmamba.report.stopped import EXIT_STATUS, Stop
from hmamba.text import counted, sentence

Tone = Literal["good", "calm", "warn", "bad"]


@dataclass
class Summary:
    """The top of the page.

    ``tone`` sets its colour; ``message`` is the error of a failed step; ``alerts`` need attention.
    """

    tone: Tone = "calm"
    headline: str = ""
    sentences: list[str] = field(default_factory=list)
    message: str | None = None
    alerts: list[str] = field(default_factory=list)


def summarise(night: Night) -> Summary:
    """Summarise a night from its metrics."""
    summary = Summary()
    if night.stopped is not None:
        _say_stop(night, night.stopped, summary)
    _say_ingest(night, summary)
    if night.stopped is None:
        _say_model(night, summary)
        _say_candidates(night, summary)
    summary.alerts += _drifted(night)
    summary.alerts += night.unreadable
    return summary


def _say_stop(night: Night, stop: Stop, summary: Summary) -> None:
    """Describe a night that did not publish: where it ended, why, and which table readers have."""
    summary.tone, summary.headline = "bad", f"The night stopped at {stop.step}: nothing was published"
    if (failed := stop.failure) is None:
        summary.sentences.append(
            f"The step {stop.step} left no record: it was not started, or it was killed, for instance for lack of "
            "memory. See its log."
        )
    else:
        name = f"The step {stop.step}" + ("" if failed.shard is None else f" (shard {failed.shard})")
        unknown = "not a status of a step; the process may have been ended by a signal"
        words = EXIT_STATUS.get(failed.exit_status, unknown)
        summary.sentences.append(f"{name} exited with {failed.exit_status} after {failed.seconds:.1f} s: {words}.")
        summary.message = failed.message.strip() or None
    summary.alerts.append(_what_readers_have(night))


def _what_readers_have(night: Night) -> str:
    readers = night.readers
    if readers is None:
        return "Readers have nothing: no night has been published yet."
    by = f" that run {readers.run_id} published" if readers.day == night.day else ""
    return f"Readers still have the table of {readers.day}{by} (model_version {readers.model_version})."


def _say_ingest(night: Night, summary: Summary) -> None:
    ingest = night.steps.ingest
    if ingest is None:
        if night.stopped is None or "ingest" in night.stopped.before:
            summary.sentences.append("This run has no record of an ingest.")
        return
    summary.sentences.append(sentence(ingest.in_a_line))
    if refused := ingest.rows_quarantined:
        summary.alerts.append(f"{counted(refused, 'row')} refused and kept in quarantine; the rules are listed below.")
    if ingest.rows_late:
        summary.alerts.append(
            f"{counted(ingest.rows_late, 'row')} came more than warehouse.overlap_days late; they are loaded."
        )
    summary.alerts += ingest_warnings(night)


def ingest_warnings(night: Night) -> list[str]:
    """Warnings of the ingest: a stale feed, a catalogue that does not match, rows of later days."""
    ingest = night.steps.ingest
    if ingest is None:
        return []
    found = [sentence(warning) for warning in (*ingest.warnings, ingest.catalogue_warning or "")]
    if left := ingest.rows_left:
        verb = "is" if left == 1 else "are"
        found.append(f"{counted(left, 'row')} {verb} of days after {night.day}: left in their files for a later night.")
    return [warning for warning in dict.fromkeys(found) if warning]


def _drifted(night: Night) -> list[str]:
    """Strong drift of what users take. Histories grow anyway while a shop is young: they raise no alert."""
    drift = night.drift
    return [
        f"Strong drift of the {shift.name}: the Population Stability Index of the last "
        f"{counted((drift.last - drift.split).days + 1, 'day')} is {shift.psi:.2f} (see Data in)."
        for shift in (() if drift is None else drift.shifts)
        if drift is not None and shift.level == "large" and shift.kind != "histories"
    ]


def _say_model(night: Night, summary: Summary) -> None:
    verdict = night.verdict
    if verdict is None:
        summary.tone, summary.headline = "warn", "The verdict is missing"
        summary.alerts.append("Candidates were published, but the gate's verdict is missing or cannot be read.")
        return
    serving, challenger = verdict.serving, verdict.challenger
    if night.baseline is not None:
        _say_baseline(night, verdict, summary)
    elif challenger is None:
        _say_nothing_trained(night, verdict, summary)
    elif verdict.promoted:
        summary.tone = "good"
        summary.headline = "The new model was promoted" if verdict.champion else "The first model was promoted"
        summary.sentences.append(f"Model {challenger} now serves{_by_how_much(night)}.")
    elif serving == challenger:
        summary.headline = "An earlier night run again: its model serves that night only"
        summary.sentences.append(f"Model {challenger} passed the gate{_by_how_much(night)}.")
        summary.alerts.append(f"Newer nights keep their champion{_because(verdict.reason)}.")
    else:
        summary.tone = "warn"
        summary.headline = "The new model was not promoted"
        summary.sentences.append(f"Model {challenger} was kept aside{_by_how_much(night)}; {serving} serves.")
        summary.alerts.append(f"The gate refused the new model{_because(verdict.reason)}.")
    if night.baseline is None and verdict.warning:
        summary.alerts.append(sentence(verdict.warning))
    for entry in behind(night):
        summary.tone = "warn"
        summary.alerts.append(
            f"A baseline is ahead of the model that serves: against {BASELINES[entry.other]}, the model's "
            f"{metric_of(night)} differs by {entry.figures}."
        )


def _say_baseline(night: Night, verdict: Verdict, summary: Summary) -> None:
    """Describe a night served by a baseline, because no model has been shown to be better."""
    name = BASELINES.get(str(night.baseline), str(night.baseline))
    summary.tone, summary.headline = "warn", f"No model serves yet: {name} is published"
    summary.alerts.insert(0, sentence(verdict.warning or verdict.reason))
    if verdict.challenger is None:
        summary.sentences.append(f"No model was trained{_because(_skipped(night))}.")
    else:
        summary.sentences.append(f"Model {verdict.challenger} was trained and kept aside{_by_how_much(night)}.")


def _say_nothing_trained(night: Night, verdict: Verdict, summary: Summary) -> None:
    """Describe a night without a challenger: no new events, or none that could be trained on."""
    ingest, reason = night.steps.ingest, _skipped(night)
    summary.sentences.append(f"No new model was trained{_because(reason)}; {verdict.serving} serves.")
    if ingest is None or not ingest.rows_loaded:
        summary.headline = "A quiet night: the champion continues to serve"
        return
    summary.headline = "Nothing could be trained: the champion continues to serve"
    summary.alerts.append(f"New rows came in, but no model was trained on them{_because(reason)}.")


def _skipped(night: Night) -> str | None:
    return None if night.steps.train is None else night.steps.train.skipped_reason


def _because(reason: str | None) -> str:
    return f" ({reason.strip().rstrip('.')})" if reason else ""


def _by_how_much(night: Night) -> str:
    """The deciding metric against the champion, or against the better baseline if there is no champion."""
    entry = deciding(night)
    if entry is None:
        return ""
    value, reference = (night.metrics[role][entry.metric] for role in (entry.one, entry.other))
    name = {"champion": "the champion", **BASELINES}[entry.other]
    share = f"{entry.share}; " if entry.share else ""
    return (
        f": {metric_of(night)} {value:.4f} against {reference:.4f} of {name} ({share}difference {entry.figures}: "
        f"{entry.word})"
    )


def _say_candidates(night: Night, summary: Summary) -> None:
    publish, index, score = night.steps.publish, night.steps.index, night.steps.score
    if publish is not None:
        summary.sentences.append(f"Published: {publish.in_a_line}.")
        warnings = [result.warning for result in publish.guards.values() if result.warning]
        summary.alerts += warnings
        summary.tone = "warn" if warnings else summary.tone
    if index is not None and index.kind == "float64" and index.float32_recall is not None:
        summary.alerts.append(
            f"Single precision found only {100 * index.float32_recall:.2f}\N{NO-BREAK SPACE}% of each user's best "
            "items, so the search ran in double precision: as exact, but slower. A smaller model.max_norm keeps "
            "single precision exact."
        )
    if score is not None and score.fallback_users:
        summary.alerts.append(
            f"{counted(score.fallback_users, 'user')} without usable history received the fallback list."
        )
