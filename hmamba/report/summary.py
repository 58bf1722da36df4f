"""The night in words: one headline, a few sentences, and what somebody should look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from hmamba.report.gather import Json, Night

Tone = Literal["good", "calm", "warn", "bad"]


@dataclass
class Summary:
    """What the top of the page says. ``tone`` chooses its colour; ``alerts`` need somebody's eyes."""

    tone: Tone = "calm"
    headline: str = ""
    sentences: list[str] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)


def counted(number: int, thing: str) -> str:
    """``counted(1, "row")`` is "1 row", ``counted(1200, "row")`` is "1,200 rows"."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def relative(value: float, reference: float) -> str:
    """How ``value`` compares with ``reference``, such as "+3.1 %"; empty where the reference is not positive."""
    if reference <= 0:
        return ""
    return f"{(value / reference - 1) * 100:+.1f}\N{NO-BREAK SPACE}%".replace("-", "\N{MINUS SIGN}")


_BASELINES = {"most_bought": "what each user had most", "popularity": "popularity"}


def summarise(night: Night) -> Summary:
    """Say what happened, from the facts alone."""
    summary = Summary()
    _say_ingest(night, summary)
    _say_model(night, summary)
    _say_candidates(night, summary)
    return summary


def _say_ingest(night: Night, summary: Summary) -> None:
    ingest = night.facts.get("ingest")
    if ingest is None:
        summary.sentences.append("This run has no record of an ingest.")
        return
    read, refused = int(ingest.get("rows_read", 0)), int(ingest.get("rows_quarantined", 0))
    if not read:
        summary.sentences.append("No new data had arrived.")
        return
    summary.sentences.append(
        f"{counted(read, 'row')} came in from {counted(int(ingest.get('files', 0)), 'file')}: "
        f"{int(ingest.get('rows_loaded', 0)):,} loaded, {int(ingest.get('rows_duplicate', 0)):,} already known, "
        f"{refused:,} refused."
    )
    if refused:
        summary.alerts.append(f"{counted(refused, 'row')} refused and kept in quarantine; the rules are listed below.")
    if late := int(ingest.get("rows_late", 0)):
        summary.alerts.append(
            f"{counted(late, 'row')} came more than warehouse.overlap_days late; they count all the same."
        )


def _say_model(night: Night, summary: Summary) -> None:
    verdict = night.verdict
    if verdict is None:
        summary.tone, summary.headline = "warn", "No model was judged"
        summary.alerts.append("The gate has left no verdict: this run did not get that far.")
        return
    serving, challenger, champion = (verdict.get(name) for name in ("serving", "challenger", "champion"))
    if challenger is None:
        reason = (night.facts.get("train") or {}).get("skipped_reason")
        summary.headline = "A quiet night: the champion went on serving"
        summary.sentences.append(f"No new model was trained{_because(reason)}; {serving} serves.")
    elif verdict.get("promoted"):
        summary.tone = "good"
        summary.headline = "The new model was promoted" if champion else "The first model was promoted"
        summary.sentences.append(f"Model {challenger} now serves{_by_how_much(night)}.")
    elif serving == challenger:
        summary.headline = "An old night again: its model serves that night alone"
        summary.sentences.append(f"Model {challenger} passed the gate{_by_how_much(night)}.")
        summary.alerts.append(f"Newer nights keep their champion{_because(verdict.get('reason'))}.")
    else:
        summary.tone = "warn"
        summary.headline = "The new model was not promoted"
        summary.sentences.append(
            f"Model {challenger} was kept aside{_by_how_much(night)}; "
            + (f"{serving} serves." if serving else "no model serves yet.")
        )
        summary.alerts.append(f"The gate refused the new model{_because(verdict.get('reason'))}.")
    summary.alerts += _baselines_ahead(verdict)


def _because(reason: object) -> str:
    return f" ({str(reason).strip().rstrip('.')})" if reason else ""


def _by_how_much(night: Night) -> str:
    """The deciding metric against the champion, or against the better baseline where there is no champion."""
    metric = str((night.verdict or {}).get("metric", ""))
    values = {name: figures[metric] for name, figures in night.metrics.items() if metric in figures}
    if "challenger" not in values:
        return ""
    if "champion" in values:
        against = "champion"
    elif baselines := [name for name in _BASELINES if name in values]:
        against = max(baselines, key=lambda name: values[name])
    else:
        return ""
    difference = relative(values["challenger"], values[against])
    name = {"champion": "the champion", **_BASELINES}[against]
    return f": {metric.upper()} {values['challenger']:.4f}, {difference} against {name}" if difference else ""


def _baselines_ahead(verdict: Json) -> list[str]:
    """A sentence for each baseline that is ahead of the model that serves."""
    metric, figures = str(verdict.get("metric", "")), verdict.get("metrics", {})
    serving = figures.get("challenger" if verdict.get("serving") == verdict.get("challenger") else "champion", {}).get(
        metric
    )
    if serving is None:
        return []
    return [
        f"A baseline is ahead of the model that serves: {name} has {metric.upper()} {figures[key][metric]:.4f}, "
        f"the model {serving:.4f}."
        for key, name in _BASELINES.items()
        if figures.get(key, {}).get(metric, 0.0) > serving
    ]


def transitions(told: Json) -> str:
    """What the transitions of a model are worth, from the facts of its training."""
    what = "What followed a user's items in other histories (transitions)"
    weight = f"strength {told['strength']:g} at scale {told['scale']:g}"
    if not told["users"]:
        return f"{what} raises scores with {weight}, untried: nobody could be asked on the validation days."
    asked, without = counted(int(told["users"]), "user"), told["ndcg@10 without"]
    if not told["strength"]:
        return f"{what} is left out: no help on the validation days (NDCG@10 {without:.4f} without it, {asked})."
    with_it = told["ndcg@10"]
    change = relative(with_it, without)
    return (
        f"{what} raises scores with {weight}: validation NDCG@10 {with_it:.4f} with it, {without:.4f} without"
        f" ({change + ', ' if change else ''}{asked})."
    )


def _say_candidates(night: Night, summary: Summary) -> None:
    publish = night.facts.get("publish")
    if publish is None:
        summary.tone, summary.headline = "bad", "Nothing was published"
        summary.alerts.append("No candidates were published by this run: readers still see the night before.")
        return
    users, rows, k = (int(publish.get(name, 0)) for name in ("users", "rows", "k"))
    sentence = f"{counted(users, 'user')} received up to {counted(k, 'item')} each, {counted(rows, 'row')} in all."
    if not publish.get("changed", True):
        sentence += " They are the same as were already published for this day."
    summary.sentences.append(sentence)
    index = night.facts.get("index", {})
    if index.get("kind") == "float64":
        summary.alerts.append(
            f"Single precision found only {100 * index['float32_overlap']:.2f}\N{NO-BREAK SPACE}% of each user's best "
            "items, so the search ran in double precision: as exact, but slower. A smaller model.max_norm keeps "
            "single precision exact."
        )
    if fallback := int(night.facts.get("score", {}).get("fallback_users", 0)):
        summary.alerts.append(f"{counted(fallback, 'user')} without usable history received the fallback list.")
