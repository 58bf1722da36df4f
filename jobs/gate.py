"""Gate: judge champion and challenger on the held-out newest days, and decide who serves."""

from __future__ import annotations

import logging
import sys

from hmamba import registry
from hmamba.errors import InputError, QualityError
from hmamba.evaluation.gate import decide, measure_baselines, measure_model
from hmamba.evaluation.split import Question, Split
from hmamba.files import read_json, write_json
from hmamba.sequences.histories import read_histories, shard_files
from hmamba.training.prepare import device_of
from jobs.step import Facts, StepContext, run_step

log = logging.getLogger("hmamba")


def body(context: StepContext) -> Facts:
    """Measure everybody on the same question; write the verdict; promote."""
    run, layout, config = context.run, context.layout, context.config
    trained = read_json(run.training_result)
    challenger, champion = trained["version"], registry.champion_before(layout, context.day)
    histories = read_histories(shard_files(run.sequences))
    split = Split.of(histories, config)
    question = Question.ask(histories, split.holdout, split.end, exclude_seen=config.candidates.exclude_seen, most=None)
    ids = registry.vocabulary(run.sequences / "items.parquet")
    metrics: dict[str, dict[str, float]] = {}
    unusable: str | None = None
    if len(question.past):
        device = device_of(config.train.device)
        for role, version in (("challenger", challenger), ("champion", champion)):
            if version is not None:
                try:
                    stored = registry.load(layout, version, device, config.model.kernels)
                    registry.check_vocabulary(stored, ids)
                except InputError as error:
                    if role == "challenger" or challenger is None:
                        raise
                    unusable = str(error)
                    continue
                metrics[role] = measure_model(stored, question, config)
        metrics |= measure_baselines(histories, question, config, len(ids))
    verdict = {
        "day": context.day,
        "holdout_from": split.holdout_days[0],
        "holdout_to": split.holdout_days[1],
        "users": len(question.past),
        "challenger": challenger,
        "champion": champion,
        "metric": config.gate.metric,
        "metrics": metrics,
    }
    try:
        decision = decide(challenger, None if unusable else champion, metrics, config)
    except QualityError as error:
        _conclude(context, {**verdict, "serving": None, "promoted": False, "reason": str(error)})
        raise
    reason = f"{decision.reason}; the champion cannot be judged: {unusable}" if unusable else decision.reason
    return _conclude(context, {**verdict, "serving": decision.serving, "promoted": decision.promoted, "reason": reason})


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
