"""The gate's verdict on a night: the evaluation set, the metrics, and what serves."""

from __future__ import annotations

from datetime import date
from typing import ClassVar, Literal

from pydantic import Field

from hmamba.columns import BASELINE_VERSION
from hmamba.contracts.document import Document, Part
from hmamba.errors import InputError
from hmamba.storage.run_layout import RunLayout

Says = Literal["better", "worse", "cannot be told"]
GroupKind = Literal["history", "users", "items"]


class Comparison(Part):
    """Comparison of ``one`` with ``other`` by the mean of a metric over users.

    Attributes:
        one, other: names of the compared systems.
        metric: such as ndcg@10.
        users: number of users.
        difference: mean of ``one`` minus mean of ``other``.
        low, high: 95 % bootstrap interval of the difference over users; equal to the difference for a single user.
        relative: the difference divided by the mean of ``other``; None if that mean is 0.
        says: better or worse if the interval excludes 0 and at least six users differ.
    """

    one: str
    other: str
    metric: str
    users: int
    difference: float
    low: float
    high: float
    relative: float | None
    says: Says

    def __str__(self) -> str:
        return f"{self.difference:+.4f}, 95 % interval {self.low:+.4f} to {self.high:+.4f}"


class RareAnswers(Part):
    """Metrics with only the new and rare items of the evaluation set as relevant. No decision is taken from them.

    Attributes:
        most_events: largest number of events before the held-out part with which an item counts as rare.
        answers: number of relevant items of the queries that are rare.
        users: number of users with such a relevant item.
        metrics: means over these users by system and metric, NDCG@10 and the hit rate at ``k``; empty without users.
    """

    most_events: int
    answers: int
    users: int
    metrics: dict[str, dict[str, float]]


class RareGroup(RareAnswers):
    """The same for a part of the rare items. ``least_events``: smallest number of events of an item."""

    least_events: int


class Interval(Part):
    """95 % bootstrap interval of a mean over users; a point for a single user."""

    low: float
    high: float


class GroupMetrics(Part):
    """The deciding metric on a part of the evaluation set. No decision is taken from it.

    Attributes:
        kind: what is counted: "history", events of the user before the query; "users", events of the user before the
            held-out part, so that 0 is a new user and 1 stands for any other; "items", events of the relevant items
            before the held-out part. Of "items", only the items of the group are relevant.
        least_events, most_events: the bounds of that number; ``most_events`` is None without an upper bound.
        users: number of users with a query in the group.
        answers: number of relevant items.
        metrics: means over these users by system.
        comparison: the model that serves, or the new model if none does, with the best baseline on all users; None
            where no model was evaluated.
    """

    kind: GroupKind
    least_events: int
    most_events: int | None
    users: int
    answers: int
    metrics: dict[str, float]
    comparison: Comparison | None


class Verdict(Document):
    """The gate's results and decision.

    Attributes:
        day: the night.
        holdout_from, holdout_to: days of the held-out events; None without times or evaluated users.
        users: users in the evaluation set.
        queries: queries of the evaluation set; each is one basket.
        split: "days", or "last" if each user's last baskets are held out.
        split_why: the reason for this split.
        challenger: the version trained for the night; None if nothing was trained.
        champion: the version that served before; None if there is none.
        metric: the deciding metric, such as ndcg@10.
        k: number of candidates of each user, at which recall is always measured; None in older files.
        metrics: means by system (challenger, champion and baselines) and metric.
        intervals: the interval of the deciding metric by system; empty if no user was evaluated, and in older files.
        groups: the deciding metric by length of history, of new and other users, and by popularity of the relevant
            items; empty as ``intervals``.
        rare: metrics on new and rare items; None if no user was evaluated, and in older files.
        rare_groups: the same for items without events and for items with some; empty unless there are both.
        comparisons: comparisons of the models with each other and with the baselines.
        ruled: the same means as ``metrics``, of lists under the rules of the night; empty without rules.
        serving: the model or baseline that serves; None if the gate refused the night.
        promoted: whether the challenger is the champion from now on.
        reason: the reason for the decision.
        warning: a warning to readers of the table; None without one.
    """

    CURE: ClassVar[str] = "Run the gate step again (python -m jobs.gate)."

    day: date
    holdout_from: date | None
    holdout_to: date | None
    users: int
    queries: int
    split: Literal["days", "last"]
    split_why: str
    challenger: str | None
    champion: str | None
    metric: str
    k: int | None = None
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, Interval] = Field(default_factory=dict)
    groups: tuple[GroupMetrics, ...] = ()
    rare: RareAnswers | None = None
    rare_groups: tuple[RareGroup, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    ruled: dict[str, dict[str, float]] = Field(default_factory=dict)
    serving: str | None = None
    promoted: bool = False
    reason: str
    warning: str | None = None

    @property
    def baseline(self) -> str | None:
        """The baseline that serves, such as popularity; None where a model serves, or nothing."""
        serving = self.serving or ""
        return serving.removeprefix(BASELINE_VERSION) if serving.startswith(BASELINE_VERSION) else None


def read_serving(run: RunLayout) -> str:
    """Read which model or baseline serves a run's night, from its verdict.

    Raises:
        InputError: the gate has not run, its verdict cannot be read, or it refused the night.
    """
    verdict = Verdict.read(run.verdict, run.storage)
    if verdict.serving is None:
        raise InputError(f"{run.verdict}: no model and no baseline serves tonight: {verdict.reason}")
    return verdict.serving
