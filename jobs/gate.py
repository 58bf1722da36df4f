"""Gate: evaluate champion, challenger and baselines on the held-out events, and prepare the one that serves."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hmamba.config import Config
from hmamba.contracts.models import EpochMetrics
from hmamba.contracts.steps import GateMetrics, TrainMetrics
from hmamba.contracts.verdict import RareAnswers, RareGroup, Verdict
from hmamba.errors import InputError, QualityError
from hmamba.evaluation.comparison import interval_of
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.gate import (
    CHALLENGER,
    CHAMPION,
    RARE_EVENTS,
    Measured,
    Metrics,
    RareQueries,
    decide,
    group_metrics,
    measure_baselines,
    measure_model,
    unseen_from,
)
from hmamba.evaluation.groups import Group, groups_of
from hmamba.evaluation.ruled import RuledMeasure
from hmamba.evaluation.split import Split, days_of
from hmamba.inference.device import device_of
from hmamba.models import files as model_files
from hmamba.models import promotions
from hmamba.models.files import StoredModel
from hmamba.rules.night import NightRules
from hmamba.sequences.attributes import read_attributes
from hmamba.sequences.categories import read_categories
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import Histories, read_histories
from hmamba.training.new_items import with_new_items
from hmamba.training.recount import Counts, recount
from hmamba.training.refit import refit
from jobs.step import StepContext, run_step

log = logging.getLogger("hmamba")


def body(context: StepContext) -> GateMetrics:
    """Evaluate all systems on the same queries, write the verdict, promote, and store the serving model.

    Raises:
        InputError: an earlier step has not run, or the challenger cannot be loaded.
        QualityError: there is no champion, no model is better than a baseline, and ``gate.first_night`` is "refuse".
    """
    run, config = context.run, context.config
    trained = _trained(context)
    challenger = trained.version
    champion = promotions.champion_before(context.layout, context.day)
    files = Snapshot.open(run)
    histories = read_histories(files.shards)
    split = Split.of(histories, config)
    ids = model_files.vocabulary(files.items)
    contestants, unusable = _contestants(context, trained, champion, ids)
    evaluation_set = split.holdout_set(histories, config)
    known = {stored.version: stored.provenance for stored in contestants.values()}
    since, caveat = unseen_from(evaluation_set, split.mode, known)
    if since is not None:
        evaluation_set = evaluation_set.since(since)
    attributes = read_attributes(files.items, len(ids))
    past = split.before_holdout(histories)
    counts = Counts.of(past, len(ids), [stored.model for stored in contestants.values()], attributes)
    categories = read_categories(files.items, len(ids))
    contestants = {
        role: with_new_items(stored, ids, counts, categories, attributes) for role, stored in contestants.items()
    }
    groups = _groups(evaluation_set, counts, past)
    measured, rare, rare_groups = _measure(contestants, evaluation_set, counts, groups, config)
    ruled = _measure_ruled(files, contestants, evaluation_set, counts, config)
    days = None if config.source.columns.by_position else days_of(evaluation_set)
    judged = partial(
        Verdict,
        day=context.day,
        holdout_from=days[0] if days else None,
        holdout_to=days[1] if days else None,
        users=evaluation_set.judged,
        queries=len(evaluation_set),
        split=split.mode,
        split_why=split.why,
        challenger=challenger,
        champion=champion,
        metric=config.gate.metric,
        k=config.candidates.k,
        metrics={name: found.means for name, found in measured.items()},
        rare=rare,
        intervals={name: interval_of(found.deciding) for name, found in measured.items()},
        rare_groups=rare_groups,
        ruled=ruled,
    )
    caveats = [text for text in (unusable, caveat) if text]
    try:
        judged_against = None if unusable else champion
        decision, compared = decide(challenger, judged_against, measured, config, trained.skipped_reason)
    except QualityError as error:
        reason = "; ".join([*caveats, str(error)])
        _conclude(context, judged(reason=reason))
        raise QualityError(reason) from error
    roles = {stored.version: role for role, stored in contestants.items() if role in measured}
    model = roles.get(decision.serving, next(iter(roles.values()), None))
    verdict = _conclude(
        context,
        judged(
            groups=group_metrics(groups, measured, config.gate.metric, model),
            comparisons=tuple(compared),
            serving=decision.serving,
            promoted=decision.promoted,
            reason="; ".join([decision.reason, *caveats]),
            warning=decision.warning,
        ),
    )
    serving = {stored.version: stored for stored in contestants.values()}.get(decision.serving)
    epoch = None
    if serving is not None:
        recount(serving, Counts.of(histories, len(ids), [serving.model], attributes))
        epoch = _serve(context, serving, histories, split, files.digest)
    skipped = serving is not None and config.train.refit and epoch is None
    no_refit = "nothing new to learn" if skipped else None
    return GateMetrics(**verdict.model_dump(), refit=epoch, refit_skipped_reason=no_refit)


def _trained(context: StepContext) -> TrainMetrics:
    """What the train step has made of this day.

    Raises:
        InputError: it has not run, or its record is damaged or of another day.
    """
    place = context.run.step_metrics("train")
    trained = TrainMetrics.read(place, context.run.storage)
    if trained.day != context.day:
        raise InputError(f"{place} is of {trained.day}. Run the train step again (python -m jobs.train).")
    return trained


def _contestants(
    context: StepContext, trained: TrainMetrics, champion: str | None, ids: pa.Array
) -> tuple[dict[str, StoredModel], str | None]:
    """The models to evaluate, by role; and why the champion cannot be, if a model trained from scratch replaces it.

    Raises:
        InputError: a model cannot be read. If it is the champion, the challenger was trained from it.
    """
    challenger = trained.version
    device, kernels = device_of(context.config.train.device), context.config.model.kernels
    found: dict[str, StoredModel] = {}
    for role, version in ((CHALLENGER, challenger), (CHAMPION, champion)):
        if version is not None:
            try:
                stored = model_files.load(context.layout, version, device, kernels)
                model_files.check_vocabulary(f"model {version}", stored.item_ids, ids)
            except InputError as error:
                if role == CHALLENGER or challenger is None or trained.parent == champion:
                    raise
                return found, f"the champion cannot be judged: {str(error).rstrip('.')}"
            found[role] = stored
    return found, None


def _groups(evaluation_set: EvaluationSet, counts: Counts, past: Histories) -> list[Group]:
    """The parts of the evaluation set that are measured on their own; ``past``: everything before the held-out part."""
    known = past.users.filter(pa.array(past.lengths > 0))
    is_new = ~np.asarray(pc.is_in(evaluation_set.past.users, value_set=known))
    return groups_of(evaluation_set, counts.events, is_new)


def _measure(
    contestants: Mapping[str, StoredModel],
    evaluation_set: EvaluationSet,
    counts: Counts,
    groups: Sequence[Group],
    config: Config,
) -> tuple[dict[str, Measured], RareAnswers | None, tuple[RareGroup, ...]]:
    """Metrics of all systems, whose counts end before the held-out events; empty and None if there are no queries."""
    if not len(evaluation_set):
        return {}, None, ()
    rare = RareQueries.of(evaluation_set, counts.events)
    measured = {}
    for role, stored in contestants.items():
        recount(stored, counts)
        measured[role] = measure_model(stored, evaluation_set, config, rare, groups)
    measured |= measure_baselines(counts.events, evaluation_set, config, rare, groups)
    every = RareAnswers(
        most_events=RARE_EVENTS,
        answers=len(rare.evaluation_set.items),
        users=rare.evaluation_set.judged,
        metrics={name: found.rare for name, found in measured.items() if found.rare},
    )
    rare_groups = (
        RareGroup(
            least_events=part.events[0],
            most_events=part.events[1],
            answers=len(part.evaluation_set.items),
            users=part.evaluation_set.judged,
            metrics={name: found.rare_groups[number] for name, found in measured.items()},
        )
        for number, part in enumerate(rare.groups)
    )
    return measured, every, tuple(rare_groups)


def _measure_ruled(
    files: Snapshot,
    contestants: Mapping[str, StoredModel],
    evaluation_set: EvaluationSet,
    counts: Counts,
    config: Config,
) -> dict[str, Metrics]:
    """Metrics of all systems under the rules of the night, on the same queries; empty without rules or queries.

    The models have the counts of :func:`_measure`.
    """
    rules = NightRules.open(files, config.warehouse)
    if rules is None or not len(evaluation_set):
        return {}
    measure = RuledMeasure(rules, evaluation_set, config)
    return {role: measure.model(stored) for role, stored in contestants.items()} | measure.baselines(counts.events)


def _conclude(context: StepContext, verdict: Verdict) -> Verdict:
    """Record the decision in the promotions, and write the verdict with the outcome."""
    layout, promoted = context.layout, verdict.serving if verdict.promoted else None
    if not promotions.record_decision(layout, context.day, promoted):
        stays = "the champion of newer nights stays, because a later night has promoted a model since"
        verdict = verdict.model_copy(update={"promoted": False, "reason": f"{verdict.reason}; {stays}"})
    verdict.write(context.run.verdict, layout.storage)
    if verdict.challenger is not None:
        model_files.record_verdict(layout, verdict.challenger, verdict)
    log.info("gate: evaluated on users: %d, queries: %d (%s)", verdict.users, verdict.queries, verdict.split_why)
    if verdict.warning:
        log.warning("gate: %s", verdict.warning)
    elif verdict.serving is not None:  # otherwise the reason is the error that ends the step
        log.info("gate: %s serves: %s", verdict.serving, verdict.reason)
    return verdict


def _serve(
    context: StepContext, stored: StoredModel, histories: Histories, split: Split, snapshot: str
) -> EpochMetrics | None:
    """Refit and store the serving model, which may use all events up to the end of the day and has counted them.

    Returns:
        Metrics of the refit's epoch; None without one.
    """
    epoch = None
    if context.config.train.refit:
        epoch = refit(stored, histories, split, snapshot, context.run.refit, context.config)
    model_files.save_serving(context.run, stored)
    context.run.storage.delete(context.run.refit)
    return EpochMetrics.model_validate(epoch) if epoch else None


def main(arguments: list[str] | None = None) -> int:
    """Run the step."""
    return run_step("gate", __doc__ or "", body, arguments)


if __name__ == "__main__":
    sys.exit(main())
