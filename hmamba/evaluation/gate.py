"""The gate: champion, challenger and baselines answer the same questions; who serves?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from hmamba.columns import BASELINE_VERSION, BASELINES
from hmamba.config import Config
from hmamba.contracts.verdict import Comparison
from hmamba.errors import QualityError
from hmamba.evaluation.baselines import most_bought, popular
from hmamba.evaluation.comparison import compare
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import coverage, metrics_by_query
from hmamba.evaluation.ranking import rank_all
from hmamba.evaluation.split import DAYS, Mode
from hmamba.models.files import Provenance, StoredModel
from hmamba.sequences.histories import Histories

Metrics = dict[str, float]

CHALLENGER, CHAMPION = "challenger", "champion"


@dataclass(frozen=True)
class Measured:
    """One contestant's answers.

    Attributes:
        means: metrics; each user counts once, whatever the number of questions.
        deciding: (users,) ``gate.metric`` of each user.
    """

    means: Metrics
    deciding: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Decision:
    """Who serves, and why.

    Attributes:
        serving: a model's version, or that of a baseline.
        promoted: whether the challenger becomes the champion.
        reason: in words.
        warning: what somebody has to look at; None if nothing.
    """

    serving: str
    promoted: bool
    reason: str
    warning: str | None = None


def is_baseline(version: str) -> bool:
    """Whether what serves is a baseline's table and no model."""
    return version.startswith(BASELINE_VERSION)


def unseen_from(
    evaluation_set: EvaluationSet, mode: Mode, contestants: Mapping[str, Provenance]
) -> tuple[int | None, str | None]:
    """From when on the held-out events are new to every contestant: nobody is judged on what they were trained on.

    By days, a contestant may have been trained on held-out days: on a night with fewer ``gate.holdout_days``, or on
    newer data. Where each user's last basket is held out, so it was for a champion of the same kind of split, and what
    it was trained on comes before; but one that was split by days was trained on whatever lies before its cut.

    Args:
        evaluation_set: what is asked tonight.
        mode: tonight's kind of split.
        contestants: who is judged, by version.

    Returns:
        The moment in microseconds, None if all questions may be asked; and why, where some may not.
    """
    trained = {name: of.trained_until for name, of in contestants.items() if DAYS in (mode, of.split)}
    name, until = max(trained.items(), key=lambda entry: entry[1], default=("", 0))
    if not len(evaluation_set) or until <= int(evaluation_set.as_of.min()):
        return None, None
    since = datetime.fromtimestamp(until / 1e6, UTC)
    return (
        until,
        f"judged on what came from {since:%Y-%m-%d %H:%M} on, because {name} has been trained on what came before",
    )


def measure_model(stored: StoredModel, evaluation_set: EvaluationSet, config: Config) -> Measured:
    """Measure one model, by exact ranking."""
    readable = replace(evaluation_set.past, items=stored.known(evaluation_set.past.items))
    ranked, _ = rank_all(
        stored.model,
        readable,
        stored.candidate_items,
        k=max(config.gate.cutoffs),
        exclude_seen=config.candidates.exclude_seen,
    )
    return measure(ranked, evaluation_set, config, len(stored.candidate_items))


def measure_baselines(
    counted: Histories, evaluation_set: EvaluationSet, config: Config, size: int
) -> dict[str, Measured]:
    """Measure popularity and, where things are bought again, what each user had most.

    Args:
        counted: the events before the held-out ones.
        evaluation_set: what is asked.
        config: cutoffs, and whether things are bought again.
        size: item indices, padding included.
    """
    counts = counted.item_events(size)
    k, exclude = max(config.gate.cutoffs), config.candidates.exclude_seen
    known = int((counts > 0).sum())
    result = {
        "popularity": measure(
            popular(evaluation_set.past, counts, k, exclude_seen=exclude), evaluation_set, config, known
        )
    }
    if not exclude:
        result["most_bought"] = measure(most_bought(evaluation_set.past, counts, k), evaluation_set, config, known)
    return result


def measure(ranked: Any, evaluation_set: EvaluationSet, config: Config, catalogue: int) -> Measured:
    """Measure ranked items (Q, k)."""
    cutoffs = config.gate.cutoffs
    found = metrics_by_query(ranked, evaluation_set.rows, evaluation_set.items, cutoffs=cutoffs)
    by_user = {name: evaluation_set.by_user(values) for name, values in found.items()}
    means = {name: float(values.mean()) for name, values in by_user.items()}
    means |= coverage(ranked, cutoffs=cutoffs, catalogue=catalogue)
    order = sorted(means, key=lambda name: (int(name.partition("@")[2]), list(means).index(name)))
    return Measured({name: round(means[name], 6) for name in order}, by_user[config.gate.metric])


def best_baseline(measured: Mapping[str, Measured], metric: str) -> str | None:
    """The baseline with the highest figure; None where nobody could be asked."""
    names = [name for name in BASELINES if name in measured]
    return max(names, key=lambda name: measured[name].means[metric], default=None)


def comparisons(measured: Mapping[str, Measured], metric: str) -> list[Comparison]:
    """The models against each other and against every baseline."""
    models = [name for name in (CHALLENGER, CHAMPION) if name in measured]
    pairs = [(CHALLENGER, CHAMPION)] if len(models) == 2 else []
    pairs += [(name, baseline) for name in models for baseline in BASELINES if baseline in measured]
    return [compare(pair, metric, measured[pair[0]].deciding, measured[pair[1]].deciding) for pair in pairs]


def decide(
    challenger: str | None,
    champion: str | None,
    measured: Mapping[str, Measured],
    config: Config,
    untrained: str | None = None,
) -> tuple[Decision, list[Comparison]]:
    """Judge by ``gate.metric``.

    A challenger is let through unless it is shown to be worse than the champion, and by more than ``gate.tolerance``.
    Without a champion it has to be shown to be better than the best baseline; otherwise that baseline serves, or the
    night stops, as ``gate.first_night`` says. Without anybody to judge on, the champion goes on serving.

    Args:
        challenger: tonight's version; None if nothing was trained.
        champion: the version that served before; None if there is none that can be judged.
        measured: contestants and baselines by role; empty if nobody could be asked.
        config: the metric, the tolerance, and what happens on a first night.
        untrained: why there is no challenger, in words; None if that is not known.

    Returns:
        The decision and the comparisons behind it.

    Raises:
        QualityError: there is no champion, nothing better than a baseline, and ``gate.first_night`` is "refuse".
    """
    metric, found = config.gate.metric, comparisons(measured, config.gate.metric)
    if champion is None:
        return _first_night(challenger, measured, config, found, untrained), found
    if challenger is None:
        return Decision(champion, False, "no new model was trained; the champion continues to serve"), found
    if CHALLENGER not in measured:
        reason = "there is nobody to judge the new model on; the champion continues to serve"
        return Decision(champion, False, reason), found
    against = next(entry for entry in found if entry.other == CHAMPION)
    mine, theirs = (measured[name].means[metric] for name in (CHALLENGER, CHAMPION))
    floor = next(entry for entry in found if (entry.one, entry.other) == (CHALLENGER, "popularity"))
    figures = f"{metric} {mine:.4f} against the champion's {theirs:.4f} ({against})"
    tolerance = f"{config.gate.tolerance * 100:g} %"
    if against.says == "worse" and mine < theirs * (1 - config.gate.tolerance):
        reason = f"the new model is worse than the champion by more than {tolerance}: {figures}"
        return Decision(champion, False, reason), found
    if floor.says == "worse" and against.says != "better":
        return Decision(champion, False, f"the new model is worse than popularity: {metric} {floor}"), found
    says = {
        "better": "the new model is better than the champion",
        "worse": f"the new model is worse than the champion, within the tolerance of {tolerance}",
        "cannot be told": "the new model and the champion cannot be told apart, and the new one knows more",
    }[against.says]
    return Decision(challenger, True, f"{says}: {figures}"), found


def _first_night(
    challenger: str | None,
    measured: Mapping[str, Measured],
    config: Config,
    found: list[Comparison],
    untrained: str | None,
) -> Decision:
    """Who serves where there is no champion."""
    metric = config.gate.metric
    baseline = best_baseline(measured, metric) or ("popularity" if config.candidates.exclude_seen else "most_bought")
    name = BASELINES[baseline]
    if challenger is None:
        reason = "no model could be trained" + (f" ({untrained})" if untrained else "")
    elif CHALLENGER not in measured:
        reason = "there is nobody to judge the first model on"
    else:
        against = next(entry for entry in found if (entry.one, entry.other) == (CHALLENGER, baseline))
        mine, floor = (measured[who].means[metric] for who in (CHALLENGER, baseline))
        figures = f"{metric} {mine:.4f} against {floor:.4f} ({against}, {against.users} users)"
        if against.says == "better":
            return Decision(challenger, True, f"the first model is better than {name}: {figures}")
        reason = f"the first model is not shown to be better than {name}: {figures}"
    if config.gate.first_night == "refuse":
        raise QualityError(
            f"{reason}, there is no champion, and gate.first_night = 'refuse': nothing is published. Load a longer "
            "history, or set gate.first_night = 'baseline' to publish the table of the best baseline meanwhile."
        )
    warning = f"No model serves: the table ranks items by {name} (a baseline), because {reason}"
    return Decision(f"{BASELINE_VERSION}{baseline}", False, f"{reason}; {name} serves", warning)
