"""The verdict and the changes for readers who do not know the metrics: sentences, tiles and rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hmamba.columns import BASELINES
from hmamba.contracts.verdict import Comparison, GroupMetrics, Verdict
from hmamba.report.changes import Changes
from hmamba.report.gather import Night
from hmamba.report.judged import NAMES, SAYS, contrasts, deciding, metric_of, serving
from hmamba.text import counted, metric_name, percent, signed

_MEANING = {
    "ndcg": "how far up among a user's first {k} recommendations the items are that the user went on to take: 1 if "
    "they are at the top, 0 if they are not there",
    "hr": "the share of users who went on to take at least one of their first {k} recommendations",
    "mrr": "how far up the first recommendation is that a user went on to take: 1 for the first place, 1/2 for the "
    "second, 0 beyond {k}",
    "recall": "the share of the items that users went on to take that were among their first {k} recommendations",
}


_AGAINST_CHAMPION: dict[str, str] = {
    "better": "The new model is better than the champion",
    "worse": "The new model is worse than the champion",
    "cannot be told": "Between the new model and the champion there is no clear difference",
}


@dataclass(frozen=True)
class Tile:
    """A figure of tonight, and what it was in the table before."""

    name: str
    value: str
    before: str


@dataclass(frozen=True)
class GroupRow:
    """A group of users or items: its size, the metric of a model and of the best baseline, and their comparison."""

    name: str
    size: str
    model: float
    baseline: float | None
    comparison: Comparison | None

    @property
    def word(self) -> str:
        """The result of the comparison."""
        return "" if self.comparison is None else SAYS[self.comparison.says]

    @property
    def interval(self) -> str:
        """The difference and its interval."""
        one = self.comparison
        return "" if one is None else f"{signed(one.difference)} ({signed(one.low)} to {signed(one.high)})"


def plainly(night: Night) -> list[str]:
    """What the figures of the night mean, and which differences are noise; nothing of a night that did not publish."""
    verdict = night.verdict
    if verdict is None or night.stopped is not None:
        return []
    if not verdict.users or not verdict.metrics:
        return [
            "Nothing could be measured tonight: no user has taken anything in the part of the events that is held out "
            "for it.",
        ]
    return [*_meaning(verdict), *_noise(night, verdict), *_limits(verdict)]


def _meaning(verdict: Verdict) -> Iterator[str]:
    family, _, cutoff = verdict.metric.partition("@")
    role = serving(verdict)
    found = verdict.metrics.get(role or "", {})
    value, hits = found.get(verdict.metric), found.get(f"hr@{cutoff}")
    yield f"{metric_name(verdict.metric)} decides. It says {_MEANING[family].format(k=cutoff)}."
    if value is None or role is None:
        return
    what = f"What serves ({NAMES.get(role, role)}) reaches {value:.4f}"
    if (interval := verdict.intervals.get(role)) is not None:
        what += (
            f"; with other users of the same kind it would most likely be between {interval.low:.4f} and "
            f"{interval.high:.4f}"
        )
    yield f"{what}."
    if hits is not None:
        yield f"Of 100 users, {100 * hits:.0f} went on to take at least one of their first {cutoff} recommendations."


def _noise(night: Night, verdict: Verdict) -> Iterator[str]:
    """The decision, and the difference from the best simple rule."""
    role, metric = serving(verdict), verdict.metric
    one = deciding(night)
    if one is not None and one.other == "champion":
        yield f"{_AGAINST_CHAMPION[one.says]}: {_said(one)}"
    rules = [entry for entry in contrasts(night) if entry.other in BASELINES and entry.one == role]
    best = max(rules, key=lambda entry: night.metrics[entry.other][metric], default=None)
    if best is not None:
        value, reference = night.metrics[best.one][metric], night.metrics[best.other][metric]
        # A ratio to next to nothing says nothing.
        what = f"reaches {value / reference:.2f} times the {metric_name(metric)} of" if reference >= 0.001 else "beside"
        yield f"What serves {what} {_rule(best)}: {_said(best)}"
    elif one is not None and one.other in BASELINES:
        yield f"The new model compared with {_rule(one)}: {_said(one)}"


def _rule(entry: Comparison) -> str:
    return f'"{BASELINES[entry.other]}", the best rule that needs no model'


def _said(entry: Comparison) -> str:
    """Whether a difference is noise, in a sentence."""
    bounds = f"95 % interval {signed(entry.low)} to {signed(entry.high)}"
    if entry.says == "cannot be told":
        reach = max(entry.high - entry.difference, entry.difference - entry.low)
        return (
            f"the difference of {signed(entry.difference)} may be noise ({bounds}). With "
            f"{counted(entry.users, 'user')}, differences below about {reach:.4f} cannot be told from chance."
        )
    return f"the difference of {signed(entry.difference)} is more than noise ({bounds})."


def _limits(verdict: Verdict) -> Iterator[str]:
    yield (
        "Do not compare the metric of two nights, because other days and users are tested. Compare its ratio to the "
        "best baseline, on the page of all nights."
    )
    yield (
        "All of this is measured on past behaviour. How much more is taken because of the recommendations, only a test "
        "with a control group shows."
    )


def changed(changes: Changes | None) -> list[Tile]:
    """What is beside what it was in the table before."""
    if changes is None:
        return []
    before, tonight = changes.before, changes.tonight
    amounts = (
        ("users", before.users, tonight.users),
        ("rows", before.rows, tonight.rows),
        ("items recommended", before.items, tonight.items),
    )
    tiles = [Tile(name, f"{now:,}", _was(was, now)) for name, was, now in amounts if now is not None]
    if changes.churn is not None:
        share = f"{100 * changes.churn:.1f} %"
        tiles.append(Tile(f"new among the first {changes.depth}", share, "of users who had recommendations before"))
    if tonight.ratio is not None:
        was = "" if before.ratio is None else f"was {before.ratio:.2f}"
        tiles.append(Tile(f"{metric_name(str(tonight.metric))}, ratio to best baseline", f"{tonight.ratio:.2f}", was))
    return tiles


def _was(before: int | None, now: int) -> str:
    if before is None:
        return "not known of the night before"
    if now == before:
        return "as before"
    return f"was {before:,}" + (f" ({percent(now / before - 1)})" if before and percent(now / before - 1) else "")


def groups(night: Night) -> list[tuple[str, list[GroupRow]]]:
    """Rows for each kind of group, under a heading; empty if the gate has measured none."""
    verdict = night.verdict
    if verdict is None or not verdict.groups:
        return []
    headings = {
        "history": "By length of the user's history",
        "users": "New and known users",
        "items": "By popularity of the items that were taken",
    }
    return [
        (heading, [_row(group, night, bands) for group in bands])
        for kind, heading in headings.items()
        if (bands := [group for group in verdict.groups if group.kind == kind])
    ]


def _row(group: GroupMetrics, night: Night, bands: list[GroupMetrics]) -> GroupRow:
    one = group.comparison
    model = one.one if one is not None else next(iter(group.metrics))
    baseline = None if one is None else group.metrics.get(one.other)
    size = counted(group.users, "user") + (f", {counted(group.answers, 'item')}" if group.kind == "items" else "")
    return GroupRow(_name(group, bands), size, group.metrics[model], baseline, one)


def _name(group: GroupMetrics, bands: list[GroupMetrics]) -> str:
    """The group in words."""
    least, most = group.least_events, group.most_events
    events = (
        f"{least} or more events"
        if most is None
        else f"{least} to {most} events"
        if most > least
        else (counted(least, "event"))
    )
    if group.kind == "history":
        return events
    if group.kind == "users":
        return "known before the held-out events" if least else "new: no event before the held-out events"
    if not most and most is not None:
        return "new items: no event before"
    if most is None:
        return f"popular: {events}"
    return f"{'rare' if least == 1 else 'in between'}: {events}"


def compared_with(night: Night) -> str:
    """A sentence about whose figures the groups show; empty without groups."""
    verdict = night.verdict
    one = next((group.comparison for group in (verdict.groups if verdict else ()) if group.comparison), None)
    if one is None:
        return ""
    model, baseline = NAMES.get(one.one, one.one), NAMES.get(one.other, one.other)
    return f"{metric_of(night)} of the {model}, beside {baseline}, the best baseline."
