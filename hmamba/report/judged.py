"""The verdict as text and rows: the evaluation set and the result of each comparison."""

from __future__ import annotations

from hmamba.columns import BASELINES
from hmamba.contracts.verdict import Comparison, Verdict
from hmamba.report.gather import Night
from hmamba.text import counted, metric_name, relative, signed

NAMES = {"challenger": "new model", "champion": "champion", **BASELINES}

SAYS: dict[str, str] = {"better": "better", "worse": "worse", "cannot be told": "no clear difference"}
"""The result of a comparison, as the page writes it."""


class Contrast(Comparison):
    """One comparison of the verdict, as the page writes it. ``share``: in percent; empty if misleading."""

    share: str

    @property
    def label(self) -> str:
        """Names of both systems."""
        return f"{NAMES.get(self.one, self.one)} vs {NAMES.get(self.other, self.other)}"

    @property
    def interval(self) -> str:
        """The bounds of the interval."""
        return f"{signed(self.low)} to {signed(self.high)}"

    @property
    def figures(self) -> str:
        """The difference and its interval."""
        return f"{signed(self.difference)}, 95\N{NO-BREAK SPACE}% interval {self.interval}"

    @property
    def word(self) -> str:
        """The result."""
        return SAYS[self.says]


def contrasts(night: Night) -> list[Contrast]:
    """The verdict's comparisons of evaluated systems, in its order."""
    found = []
    for entry in () if night.verdict is None else night.verdict.comparisons:
        value, reference = (night.metrics.get(name, {}).get(entry.metric) for name in (entry.one, entry.other))
        if value is not None and reference is not None:
            found.append(Contrast(**entry.model_dump(), share=relative(value, reference)))
    return found


def deciding(night: Night) -> Contrast | None:
    """The comparison that decides the promotion: with the champion, or with the best baseline."""
    metric = "" if night.verdict is None else night.verdict.metric
    against = {entry.other: entry for entry in contrasts(night) if entry.one == "challenger"}
    if "champion" in against:
        return against["champion"]
    return max(against.values(), key=lambda entry: night.metrics[entry.other].get(metric, 0.0), default=None)


def behind(night: Night) -> list[Contrast]:
    """The comparisons in which the serving model is worse than a baseline."""
    verdict = night.verdict
    if verdict is None:
        return []
    role = serving(verdict)
    return [
        entry for entry in contrasts(night) if (entry.one, entry.says) == (role, "worse") and entry.other in BASELINES
    ]


def serving(verdict: Verdict) -> str | None:
    """The evaluated system that serves, such as challenger or popularity; None if nothing does."""
    roles = {verdict.champion: "champion", verdict.challenger: "challenger"}
    return verdict.baseline or (roles.get(verdict.serving) if verdict.serving else None)


def depth_of_candidates(verdict: Verdict) -> str:
    """A sentence about the recall of what serves among all candidates; empty if it was not measured."""
    k, key = verdict.k, f"recall@{verdict.k}"
    recall = verdict.metrics.get(serving(verdict) or "", {}).get(key)
    if k is None or recall is None:
        return ""
    return (
        f"Of the items that users went on to take, {recall * 100:.1f}\N{NO-BREAK SPACE}% were among their first {k:,}, "
        f"the number that is published ({key} of what serves, the mean over users)."
    )


def rare_items(verdict: Verdict) -> str:
    """A sentence about what serves on new and rare items; empty if they were not looked for."""
    if (rare := verdict.rare) is None:
        return ""
    few = f"0 to {rare.most_events} events before the held-out part"
    if not rare.answers:
        return f"New and rare items: none of the items that users went on to take had {few}."
    figures = rare.metrics.get(serving(verdict) or "", {})
    reached = " and ".join(f"{metric_name(key)} {value:.4f}" for key, value in figures.items())
    return reached and (
        f"New and rare items: {counted(rare.answers, 'item')} that {counted(rare.users, 'user')} went on to take had "
        f"{few}; with only these as relevant, what serves has {reached}.{_apart(verdict)} No decision is taken from "
        "this."
    )


def _apart(verdict: Verdict) -> str:
    """A sentence about items without events and with few events; empty unless there are both."""
    parts = []
    for group in verdict.rare_groups:
        least, most = group.least_events, group.most_events
        had = "no event" if not most else f"{least} to {most} events"
        figures = group.metrics.get(serving(verdict) or "", {})
        reached = " and ".join(f"{metric_name(key)} {value:.4f}" for key, value in figures.items())
        parts.append(f"{counted(group.answers, 'item')} with {had}: {reached}")
    return f" Apart: {'; '.join(parts)}." if parts else ""


def judged_on(verdict: Verdict) -> list[str]:
    """Sentences about the evaluation set and the split."""
    why, users = verdict.split_why.strip().rstrip("."), verdict.users
    split = [f"How the events were split: {why}."] if why else []
    if not users:
        return ["No user could be evaluated.", *split]
    first, last = verdict.holdout_from, verdict.holdout_to
    when = "" if first is None else f"on {first}" if first == last else f"from {first} to {last}"
    queries = f"{verdict.queries:,} {'query' if verdict.queries == 1 else 'queries'}"
    if verdict.split == "last":
        what = ", ".join(part for part in ("each user's last basket", when) if part)
        where = f"Evaluated on {counted(users, 'user')} with {queries}: {what}, held out of training."
    else:
        where = f"Evaluated on {counted(users, 'user')} with {queries} {when}, held out of training."
    return [
        where,
        "A query predicts one basket from the events before it. Each user counts once, whatever the number of queries.",
        *split,
    ]


def metric_of(night: Night) -> str:
    """The metric that decides, as the page writes it."""
    return "" if night.verdict is None else metric_name(night.verdict.metric)
