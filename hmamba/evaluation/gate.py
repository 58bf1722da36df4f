"""The gate: compare champion, challenger and baselines on the same queries, and decide what serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from hmamba.columns import BASELINE_VERSION, BASELINES
from hmamba.config import Config
from hmamba.contracts.verdict import Comparison, GroupMetrics
from hmamba.errors import QualityError
from hmamba.evaluation.baselines import most_bought, popular
from hmamba.evaluation.comparison import compare
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.groups import Group
from hmamba.evaluation.metrics import coverage, metrics_by_query
from hmamba.evaluation.ranking import Quota, rank_served
from hmamba.evaluation.split import DAYS, Mode
from hmamba.models.files import Provenance, StoredModel
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import IntArray
from hmamba.sequences.sets import distinct
from hmamba.text import counted

Metrics = dict[str, float]

CHALLENGER, CHAMPION = "challenger", "champion"
RARE_EVENTS = 5
"""Largest number of events before the held-out part with which an item counts as rare."""
_RARE_CUTOFF = 10


@dataclass(frozen=True)
class Measured:
    """Metrics of one model or baseline.

    Attributes:
        means: means over users; each user counts once, whatever the number of queries.
        deciding: (users,) ``gate.metric`` of each user.
        rare: the means of :func:`measure_rare`; empty if not measured.
        rare_groups: the same for each of :attr:`RareQueries.groups`.
        groups: for each group of queries, ``gate.metric`` (users,) of its users; empty if not measured.
    """

    means: Metrics
    deciding: npt.NDArray[np.float64]
    rare: Metrics = field(default_factory=dict)
    rare_groups: tuple[Metrics, ...] = ()
    groups: tuple[npt.NDArray[np.float64], ...] = ()


@dataclass(frozen=True)
class Decision:
    """What serves, and why.

    Attributes:
        serving: version of a model or of a baseline.
        promoted: whether the challenger becomes the champion.
        reason: the reason as a sentence.
        warning: what an operator has to look at; None if nothing.
    """

    serving: str
    promoted: bool
    reason: str
    warning: str | None = None


def is_baseline(version: str) -> bool:
    """Whether a version is that of a baseline, not of a model."""
    return version.startswith(BASELINE_VERSION)


def unseen_from(
    evaluation_set: EvaluationSet, mode: Mode, contestants: Mapping[str, Provenance]
) -> tuple[int | None, str | None]:
    """The time from which no held-out event is a training event of any contestant.

    With a split by days, a contestant may have been trained on days that are held out tonight: on an earlier night with
    fewer ``gate.holdout_days``, or on newer data. With a split of last baskets, a champion of the same kind of split
    was trained on earlier events only, but a champion of a split by days was trained on all events before its cut.

    Args:
        evaluation_set: tonight's queries.
        mode: tonight's kind of split.
        contestants: provenance of the compared models, by version.

    Returns:
        The time in microseconds, None if all queries may be used; and the reason, None likewise.
    """
    trained = {name: of.trained_until for name, of in contestants.items() if DAYS in (mode, of.split)}
    name, until = max(trained.items(), key=lambda entry: entry[1], default=("", 0))
    if not len(evaluation_set) or until <= int(evaluation_set.as_of.min()):
        return None, None
    since = datetime.fromtimestamp(until / 1e6, UTC)
    return (
        until,
        f"judged on events from {since:%Y-%m-%d %H:%M} on, because {name} was trained on earlier ones",
    )


@dataclass(frozen=True)
class RareQueries:
    """The queries for items that are new or rare.

    Attributes:
        evaluation_set: the queries with such a relevant item, and these items only.
        rows: their places among all queries.
        events: smallest and largest number of events of such an item before the held-out part.
        groups: the queries for items without events, and those for items with some; empty unless there are both.
    """

    evaluation_set: EvaluationSet
    rows: IntArray
    events: tuple[int, int] = (0, RARE_EVENTS)
    groups: tuple[RareQueries, ...] = ()

    @classmethod
    def of(cls, evaluation_set: EvaluationSet, events: IntArray) -> RareQueries:
        """The queries for items with few of the events (size,) of each item before the held-out part."""
        number = events[evaluation_set.items]

        def between(least: int, most: int) -> RareQueries:
            rare = (number >= least) & (number <= most)
            return cls(evaluation_set.only(rare), distinct(evaluation_set.rows[rare]), (least, most))

        parts = between(0, 0), between(1, RARE_EVENTS)
        return replace(between(0, RARE_EVENTS), groups=parts if all(len(part.rows) for part in parts) else ())


def depth(config: Config) -> int:
    """Number of items to rank for the metrics."""
    return max(*config.gate.cutoffs, config.candidates.k, _RARE_CUTOFF)


def measure_model(
    stored: StoredModel,
    evaluation_set: EvaluationSet,
    config: Config,
    rare: RareQueries | None = None,
    groups: Sequence[Group] = (),
) -> Measured:
    """Measure a model by exact ranking, new items included as they are served; also on rare items and groups."""
    readable = replace(evaluation_set.past, items=stored.known(evaluation_set.past.items))
    new_items = CandidateItems.only(stored.new_items, len(stored.candidate_items.column))
    ranked = rank_served(
        stored.model,
        readable,
        stored.candidate_items,
        new_items,
        depth=depth(config),
        quota=Quota.of(config.candidates.k, config.candidates.new_items),
        exclude_seen=config.candidates.exclude_seen,
    )
    return measure(ranked, evaluation_set, config, len(stored.candidate_items) + len(new_items), rare, groups)


def measure_baselines(
    counts: IntArray,
    evaluation_set: EvaluationSet,
    config: Config,
    rare: RareQueries | None = None,
    groups: Sequence[Group] = (),
) -> dict[str, Measured]:
    """Measure popularity and, unless seen items are excluded, each user's most frequent items.

    Args:
        counts: (size,) number of events of each item index before the held-out ones.
        evaluation_set: the queries.
        config: the cutoffs, and whether seen items are excluded.
        rare: the queries for rare items; None to leave them out.
        groups: the groups to measure on their own as well.
    """
    k, exclude = depth(config), config.candidates.exclude_seen
    known = int((counts > 0).sum())
    ranked = popular(evaluation_set.past, counts, k, exclude_seen=exclude)
    result = {"popularity": measure(ranked, evaluation_set, config, known, rare, groups)}
    if not exclude:
        ranked = most_bought(evaluation_set.past, counts, k)
        result["most_bought"] = measure(ranked, evaluation_set, config, known, rare, groups)
    return result


def measure(
    ranked: IntArray,
    evaluation_set: EvaluationSet,
    config: Config,
    catalogue: int,
    rare: RareQueries | None = None,
    groups: Sequence[Group] = (),
) -> Measured:
    """Measure ranked items (Q, :func:`depth`); ``catalogue`` is the number of items that coverage is relative to."""
    cutoffs, at = config.gate.cutoffs, {config.candidates.k}
    found = metrics_by_query(ranked, evaluation_set.rows, evaluation_set.items, cutoffs=cutoffs, recall_at=at)
    by_user = {name: evaluation_set.by_user(values) for name, values in found.items()}
    means = {name: float(values.mean()) for name, values in by_user.items()}
    means |= coverage(ranked, cutoffs=cutoffs, catalogue=catalogue)
    order = sorted(means, key=lambda name: (int(name.partition("@")[2]), list(means).index(name)))
    return Measured(
        {name: round(means[name], 6) for name in order},
        by_user[config.gate.metric],
        {} if rare is None else measure_rare(ranked, rare, config),
        () if rare is None else tuple(measure_rare(ranked, group, config) for group in rare.groups),
        tuple(group.values(ranked, config.gate.metric) for group in groups),
    )


def measure_rare(ranked: IntArray, rare: RareQueries, config: Config) -> Metrics:
    """NDCG@10 and the hit rate among ``candidates.k`` items, with only the rare items as relevant.

    Args:
        ranked: (Q, :func:`depth`) item indices, best first.
        rare: the queries for rare items.
        config: the number of candidates.

    Returns:
        Means over the users with such a relevant item; empty if there are none.
    """
    part, k = rare.evaluation_set, config.candidates.k
    if not len(part):
        return {}
    shown = ranked[rare.rows]
    found = metrics_by_query(shown, part.rows, part.items, cutoffs=(_RARE_CUTOFF, k))
    return {name: round(float(part.by_user(found[name]).mean()), 6) for name in (f"ndcg@{_RARE_CUTOFF}", f"hr@{k}")}


def best_baseline(measured: Mapping[str, Measured], metric: str) -> str | None:
    """The baseline with the highest mean; None if nothing was measured."""
    names = [name for name in BASELINES if name in measured]
    return max(names, key=lambda name: measured[name].means[metric], default=None)


def comparisons(measured: Mapping[str, Measured], metric: str) -> list[Comparison]:
    """Comparisons of the models with each other and with every baseline."""
    models = [name for name in (CHALLENGER, CHAMPION) if name in measured]
    pairs = [(CHALLENGER, CHAMPION)] if len(models) == 2 else []
    pairs += [(name, baseline) for name in models for baseline in BASELINES if baseline in measured]
    return [compare(pair, metric, measured[pair[0]].deciding, measured[pair[1]].deciding) for pair in pairs]


def group_metrics(
    groups: Sequence[Group], measured: Mapping[str, Measured], metric: str, model: str | None
) -> tuple[GroupMetrics, ...]:
    """The deciding metric on each group.

    Args:
        groups: the groups on which all systems were measured.
        measured: models and baselines by role; empty if there were no queries.
        metric: ``gate.metric``.
        model: the role that is compared with the best baseline, the same for all groups; None for no comparison.
    """
    baseline = best_baseline(measured, metric)

    def compared(place: int) -> Comparison | None:
        if model is None or baseline is None:
            return None
        one, other = measured[model].groups[place], measured[baseline].groups[place]
        return compare((model, baseline), metric, one, other)

    return tuple(
        GroupMetrics(
            kind=group.kind,
            least_events=group.least,
            most_events=group.most,
            users=group.judged,
            answers=len(group.items),
            metrics={name: round(float(found.groups[place].mean()), 6) for name, found in measured.items()},
            comparison=compared(place),
        )
        for place, group in enumerate(groups)
    )


def decide(
    challenger: str | None,
    champion: str | None,
    measured: Mapping[str, Measured],
    config: Config,
    untrained: str | None = None,
) -> tuple[Decision, list[Comparison]]:
    """Decide what serves, by ``gate.metric``.

    A challenger is promoted unless it is significantly worse than the champion, and by more than ``gate.tolerance``.
    Without a champion it has to be significantly better than the best baseline; otherwise that baseline serves, or the
    night stops, according to ``gate.first_night``. Without users to evaluate, the champion continues to serve.

    Args:
        challenger: tonight's version; None if nothing was trained.
        champion: the version that served before; None if there is none that can be compared.
        measured: models and baselines by role; empty if there were no queries.
        config: the metric, the tolerance, and the behaviour on a first night.
        untrained: why there is no challenger; None if unknown.

    Returns:
        The decision and the comparisons behind it.

    Raises:
        QualityError: there is no champion, no model better than a baseline, and ``gate.first_night`` is "refuse".
    """
    metric, found = config.gate.metric, comparisons(measured, config.gate.metric)
    if champion is None:
        return _first_night(challenger, measured, config, found, untrained), found
    if challenger is None:
        return Decision(champion, False, "no new model was trained; the champion continues to serve"), found
    if CHALLENGER not in measured:
        reason = "there are no users to judge the new model on; the champion continues to serve"
        return Decision(champion, False, reason), found
    against = next(entry for entry in found if entry.other == CHAMPION)
    new, old = (measured[name].means[metric] for name in (CHALLENGER, CHAMPION))
    floor = next(entry for entry in found if (entry.one, entry.other) == (CHALLENGER, "popularity"))
    figures = f"{metric} {new:.4f} against the champion's {old:.4f} ({against})"
    tolerance = f"{config.gate.tolerance * 100:g} %"
    if against.says == "worse" and new < old * (1 - config.gate.tolerance):
        reason = f"the new model is worse than the champion by more than {tolerance}: {figures}"
        return Decision(champion, False, reason), found
    if floor.says == "worse" and against.says != "better":
        return Decision(champion, False, f"the new model is worse than popularity: {metric} {floor}"), found
    says = {
        "better": "the new model is better than the champion",
        "worse": f"the new model is worse than the champion, within the tolerance of {tolerance}",
        "cannot be told": "the new model and the champion cannot be told apart, and the newer one is preferred",
    }[against.says]
    return Decision(challenger, True, f"{says}: {figures}"), found


def _first_night(
    challenger: str | None,
    measured: Mapping[str, Measured],
    config: Config,
    found: list[Comparison],
    untrained: str | None,
) -> Decision:
    """Decide what serves if there is no champion."""
    metric = config.gate.metric
    baseline = best_baseline(measured, metric) or ("popularity" if config.candidates.exclude_seen else "most_bought")
    name = BASELINES[baseline]
    if challenger is None:
        reason = "no model could be trained" + (f" ({untrained})" if untrained else "")
    elif CHALLENGER not in measured:
        reason = "there are no users to judge the first model on"
    else:
        against = next(entry for entry in found if (entry.one, entry.other) == (CHALLENGER, baseline))
        new, floor = (measured[role].means[metric] for role in (CHALLENGER, baseline))
        figures = f"{metric} {new:.4f} against {floor:.4f} ({against}, {counted(against.users, 'user')})"
        if against.says == "better":
            return Decision(challenger, True, f"the first model is better than {name}: {figures}")
        reason = f"the first model is not shown to be better than {name}: {figures}"
    if config.gate.first_night == "refuse":
        raise QualityError(
            f"{reason}, there is no champion, and gate.first_night = 'refuse': nothing is published. Load a longer "
            "history, or set gate.first_night = 'baseline' to publish the best baseline meanwhile."
        )
    warning = f"No model serves: the table ranks items by {name} (a baseline), because {reason}"
    return Decision(f"{BASELINE_VERSION}{baseline}", False, f"{reason}; {name} serves", warning)
