"""The rules of a night as rows of the page: what each removed."""

from __future__ import annotations

from dataclasses import dataclass

from hmamba.report.gather import Night
from hmamba.report.judged import NAMES
from hmamba.text import counted, metric_name

KINDS = {
    "deny": "not recommended",
    "allow": "nothing else",
    "available": "only while available",
    "not_again": "not shown again",
    "boost": "odds multiplied",
    "diversity": "diversity",
    "cap": "at most so many",
    "pin": "fixed rank",
}
"""What a kind of rule does, in a few words."""


@dataclass(frozen=True)
class RuleRow:
    """A rule: its name, its kind in words, and the number of items that it removed; None if it removes none."""

    name: str
    kind: str
    removed: int | None


def rule_rows(night: Night) -> list[RuleRow]:
    """The rules in the order in which they are applied."""
    effects = None if night.steps.score is None else night.steps.score.effects
    removed = {} if effects is None else effects.removed
    return [RuleRow(name, KINDS[kind], removed.get(name)) for kind, name in night.rules]


def ruled_users(night: Night) -> str:
    """For how many users the rules left fewer items, as a sentence; empty without rules."""
    score = night.steps.score
    if score is None or score.effects is None:
        return ""
    if not score.effects.short_users:
        return f"All {counted(score.users, 'user')} have as many items as without rules."
    none = score.effects.users_without_rows
    without = f", {none:,} of them without any" if none else ""
    return f"The rules leave {counted(score.effects.short_users, 'user')} with fewer items than without rules{without}."


def ruled_metric(night: Night) -> str:
    """The deciding metric with and without the rules, as a sentence; empty if it was not measured."""
    verdict = night.verdict
    if verdict is None or not verdict.ruled:
        return ""
    metric, pairs = verdict.metric, []
    for name, ruled in verdict.ruled.items():
        plain = verdict.metrics.get(name, {})
        if metric in ruled and metric in plain:
            pairs.append(f"{NAMES[name]} {plain[metric]:.4f} without rules, {ruled[metric]:.4f} with them")
    return f"{metric_name(verdict.metric)} on the evaluation set: {'; '.join(pairs)}." if pairs else ""
