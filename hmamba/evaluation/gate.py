"""The gate: champion and challenger answer the same question about the newest days; who serves?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hmamba.config import Config
from hmamba.errors import QualityError
from hmamba.evaluation.baselines import most_bought, popular
from hmamba.evaluation.metrics import ranking_metrics
from hmamba.evaluation.ranking import rank_all
from hmamba.evaluation.split import Question, Split
from hmamba.registry import StoredModel
from hmamba.sequences.histories import Histories

Metrics = dict[str, float]


@dataclass(frozen=True)
class Decision:
    """Who serves, and why."""

    serving: str
    promoted: bool
    reason: str


def unseen_from(split: Split, trained_until: Mapping[str, int]) -> tuple[int, str | None]:
    """From when on the held-out events are new to every contestant: whoever was trained on a day is not judged on it.

    Usually that is where the held-out days begin. It is later for a model of a night with fewer ``gate.holdout_days``,
    or of newer data. Its early stopping may have looked at the ``train.validation_days`` that follow its training.

    Args:
        split: tonight's.
        trained_until: end of the training events of each version, microseconds, exclusive.

    Returns:
        The moment in microseconds, ``split.end`` if nothing is left to judge on; and why, where it is later than usual.
    """
    version, until = max(trained_until.items(), key=lambda entry: entry[1], default=("", split.holdout))
    if until <= split.holdout:
        return split.holdout, None
    if until >= split.end:
        return split.end, f"{version} has been trained on all held-out days"
    first = datetime.fromtimestamp(until / 1e6, UTC).date()
    return until, f"judged from {first} on, because {version} has been trained on the held-out days before"


def measure_model(stored: StoredModel, question: Question, config: Config) -> Metrics:
    """Metrics of one model, by exact ranking."""
    past = question.past
    readable = Histories(past.users, past.offsets, stored.known(past.items), past.times)
    ranked, _ = rank_all(
        stored.model,
        readable,
        stored.catalogue,
        k=max(config.gate.cutoffs),
        exclude_seen=config.candidates.exclude_seen,
    )
    return _metrics(ranked, question, config, len(stored.catalogue))


def measure_baselines(histories: Histories, question: Question, config: Config, size: int) -> dict[str, Metrics]:
    """Metrics of popularity and, where things are bought again, of what each user buys most."""
    counts = histories.between(None, question.as_of).item_events(size)
    k, exclude = max(config.gate.cutoffs), config.candidates.exclude_seen
    known = int((counts > 0).sum())
    result = {"popularity": _metrics(popular(question.past, counts, k, exclude_seen=exclude), question, config, known)}
    if not exclude:
        result["most_bought"] = _metrics(most_bought(question.past, counts, k), question, config, known)
    return result


def _metrics(ranked: Any, question: Question, config: Config, catalogue: int) -> Metrics:
    measured = ranking_metrics(ranked, question.rows, question.items, cutoffs=config.gate.cutoffs, catalogue=catalogue)
    return {name: round(value, 6) for name, value in measured.items()}


def decide(challenger: str | None, champion: str | None, metrics: dict[str, Metrics], config: Config) -> Decision:
    """Judge by ``gate.metric``.

    A challenger must be no worse than the champion by more than the tolerance, and better than popularity. Without
    anybody to judge on, whoever serves goes on serving.

    Raises:
        QualityError: there is no champion, and the first model is not good enough or cannot be judged.
    """
    metric = config.gate.metric
    if challenger is None:
        if champion is None:
            raise QualityError("there is neither a champion nor a challenger: run the train step first.")
        return Decision(champion, False, "no new model was trained; the champion goes on serving")
    if "challenger" not in metrics:
        why = "no user has events both before and in the held-out days"
        if champion is None:
            raise QualityError(f"the first model cannot be judged: {why}. Load more events or raise gate.holdout_days.")
        return Decision(champion, False, f"{why}, so the challenger cannot be judged")
    mine, floor = metrics["challenger"][metric], metrics["popularity"][metric]
    if mine <= floor:
        reason = f"the challenger's {metric} {mine:.4f} does not beat popularity's {floor:.4f}"
        if champion is None:
            raise QualityError(
                f"{reason}, and there is no champion: nothing is published. Train longer (train.epochs), load a longer "
                "history, or look at the losses in the run's facts/train.json."
            )
        return Decision(champion, False, reason)
    if champion is None:
        return Decision(challenger, True, f"the first model beats popularity: {metric} {mine:.4f} against {floor:.4f}")
    theirs = metrics["champion"][metric]
    tolerance = f"{config.gate.tolerance * 100:g} %"
    if mine < theirs * (1 - config.gate.tolerance):
        reason = (
            f"the challenger's {metric} {mine:.4f} is worse than the champion's {theirs:.4f} by more than {tolerance}"
        )
        return Decision(champion, False, reason)
    how = f": worse, but within the tolerance of {tolerance}" if mine < theirs else ""
    return Decision(challenger, True, f"{metric} {mine:.4f} against the champion's {theirs:.4f}{how}")
