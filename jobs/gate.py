"""Gate: judge champion and challenger on the held-out newest days, and decide who serves."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace

import pyarrow as pa

from hmamba import registry
from hmamba.errors import InputError, QualityError
from hmamba.evaluation.gate import decide, measure_baselines, measure_model, unseen_from
from hmamba.evaluation.split import Question, Split
from hmamba.files import read_json, write_json
from hmamba.registry import StoredModel
from hmamba.sequences.histories import read_histories, shard_files
from hmamba.training.prepare import device_of
from jobs.step import Facts, StepContext, run_step

log = logging.getLogger("hmamba")


def body(context: StepContext) -> Facts:
    """Measure everybody on the same question; write the verdict; promote.

    Raises:
        InputError: an earlier step has not run, or the challenger cannot be loaded.
        QualityError: there is no champion, and the first model is not good enough or cannot be judged.
    """
    run, config = context.run, context.config
    challenger = read_json(run.training_result)["version"]
    champion = registry.champion_before(context.layout, context.day)
    histories = read_histories(shard_files(run.sequences))
    split = Split.of(histories, config)
    ids = registry.vocabulary(run.sequences / "items.parquet")
    contestants, unusable = _contestants(context, challenger, champion, ids)
    start, caveat = unseen_from(
        split, {stored.version: stored.provenance.trained_until for stored in contestants.values()}
    )
    question = Question.ask(histories, start, split.end, exclude_seen=config.candidates.exclude_seen, most=None)
    metrics: dict[str, dict[str, float]] = {}
    if len(question.past):
        metrics |= {role: measure_model(stored, question, config) for role, stored in contestants.items()}
        metrics |= measure_baselines(histories, question, config, len(ids))
    # Where there is nothing to judge on, the newest day stands for none.
    first, last = replace(split, holdout=min(start, split.end - 1)).holdout_days
    verdict = {
        "day": context.day,
        "holdout_from": first,
        "holdout_to": last,
        "users": len(question.past),
        "challenger": challenger,
        "champion": champion,
        "metric": config.gate.metric,
        "metrics": metrics,
    }
    caveats = [text for text in (unusable, caveat) if text]
    try:
        decision = decide(challenger, None if unusable else champion, metrics, config)
    except QualityError as error:
        reason = "; ".join([*caveats, str(error)])
        _conclude(context, {**verdict, "serving": None, "promoted": False, "reason": reason})
        raise QualityError(reason) from error
    reason = "; ".join([decision.reason, *caveats])
    return _conclude(context, {**verdict, "serving": decision.serving, "promoted": decision.promoted, "reason": reason})


def _contestants(
    context: StepContext, challenger: str | None, champion: str | None, ids: pa.Array
) -> tuple[dict[str, StoredModel], str | None]:
    """Who is judged, by role; and why the champion is not, if it is lost and there is a challenger to replace it."""
    device, kernels = device_of(context.config.train.device), context.config.model.kernels
    found: dict[str, StoredModel] = {}
    for role, version in (("challenger", challenger), ("champion", champion)):
        if version is not None:
            try:
                stored = registry.load(context.layout, version, device, kernels)
                registry.check_vocabulary(stored, ids)
            except InputError as error:
                if role == "challenger" or challenger is None:
                    raise
                return found, f"the champion cannot be judged: {str(error).rstrip('.')}"
            found[role] = stored
    return found, None


def _conclude(context: StepContext, verdict: Facts) -> Facts:
    """Enter the decision into the promotions and keep the verdict, which says what has come of it."""
    run, layout = context.run, context.layout
    version = verdict["serving"] if verdict["promoted"] else None
    if not registry.record_decision(layout, context.day, version):
        stays = "the list of promotions stays as it is, because a later night has promoted a model since"
        verdict |= {"promoted": False, "reason": f"{verdict['reason']}; {stays}"}
    write_json(run.verdict, verdict)
    if verdict["challenger"] is not None:
        registry.record_metrics(layout, verdict["challenger"], "gate", read_json(run.verdict))
    log.info("gate: %s serves: %s", verdict["serving"] or "nobody", verdict["reason"])
    return verdict


def main(arguments: list[str] | None = None) -> int:
    """Run the step."""
    return run_step("gate", __doc__ or "", body, None, arguments)


if __name__ == "__main__":
    sys.exit(main())
