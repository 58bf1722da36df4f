"""Measures of all trainings on one data set, and differences between the variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bench.datasets import read_categories
from bench.geometry.measures import (
    GROUPS,
    RARE,
    Correlation,
    Difference,
    Floats,
    audience_entropy,
    by_query,
    diversity,
    exposure,
    gini,
    name_matrix,
    paired,
    popularity_groups,
    spearman,
)
from bench.geometry.trained import TOP, Arrays
from bench.protocols import TEST, Experiment
from hmamba.evaluation.metrics import coverage
from hmamba.sequences.histories import BoolArray, IntArray

FULL, EUCLIDEAN = "full", "euclidean"
QUERY_METRICS = ("NDCG@10", "HR@10", "R@100")
RARE_ANSWERS = f"answers with 0 to {RARE} training events"
COVERAGE, GINI, DIVERSITY = f"coverage@{TOP}", f"Gini of exposure@{TOP}", f"diversity@{TOP}"


@dataclass(frozen=True)
class Trained:
    """One finished training."""

    variant: str
    dim: int
    seed: int
    result: dict[str, Any]
    arrays: Arrays


@dataclass(frozen=True)
class Group:
    """A group of relevant items.

    Attributes:
        name: what is in it.
        answers: (P,) whether each relevant item is in it.
    """

    name: str
    answers: BoolArray


class Facts:
    """What the measures need of the data.

    Args:
        experiment: the split data; the test is measured, in its first view.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.exam = experiment, experiment.exams[TEST]
        self.events = experiment.train.item_events(experiment.size)
        self.users = experiment.train.item_users(experiment.size)

    @cached_property
    def inside(self) -> BoolArray:
        """(U,) the queries of the exam's first group, which are measured."""
        found = np.zeros(len(self.exam.evaluation_set.past), dtype=bool)
        found[next(iter(self.exam.groups.values()))] = True
        return found

    @cached_property
    def measured(self) -> BoolArray:
        """(P,) the relevant items of these queries."""
        return np.asarray(self.inside[self.exam.evaluation_set.rows])

    @cached_property
    def names(self) -> Any:
        """Category names (size, names) of the items; None without categories."""
        categories = read_categories(self.experiment.items, self.experiment.ids)
        return None if categories is None else name_matrix(categories)

    @cached_property
    def known(self) -> IntArray:
        """The candidate items with training events: the others have no position of their own."""
        eligible = self.experiment.candidate_items.eligible
        return eligible[self.events[eligible] > 0]

    @cached_property
    def entropy(self) -> Floats:
        """Category entropy of the audience of each of :attr:`known`; NaN without categories."""
        if self.names is None:
            return np.full(len(self.known), np.nan)
        return audience_entropy(self.experiment.train, self.names)[self.known]

    @cached_property
    def popularity(self) -> Floats:
        """Mean number of training events of the relevant items of each query (U,)."""
        truth = self.exam.evaluation_set
        total = np.bincount(truth.rows, weights=self.events[truth.items], minlength=len(truth.past))
        return np.asarray(total / np.bincount(truth.rows, minlength=len(truth.past)))

    @cached_property
    def rare(self) -> Group:
        """Answers with few training events."""
        return Group(RARE_ANSWERS, self.measured & (self.events[self.exam.evaluation_set.items] <= RARE))

    @cached_property
    def by_popularity(self) -> list[Group]:
        """Ten groups of answers, the least popular first; empty groups are left out."""
        rows = np.flatnonzero(self.measured)
        events = self.events[self.exam.evaluation_set.items[rows]]
        number = popularity_groups(events)
        found = []
        for group in range(GROUPS):
            chosen = number == group
            if chosen.any():
                least, most = int(events[chosen].min()), int(events[chosen].max())
                answers = np.zeros(len(self.measured), dtype=bool)
                answers[rows[chosen]] = True
                found.append(Group(f"{least:,}" if least == most else f"{least:,} to {most:,}", answers))
        return found


class Measures:
    """Measures of one training.

    Args:
        trained: the training.
        facts: the data.
    """

    def __init__(self, trained: Trained, facts: Facts) -> None:
        self.trained, self._facts = trained, facts

    def queries(self, part: str, group: Group | None = None) -> dict[str, Floats]:
        """Metrics (U,) of the queries whose answers are in a group; NaN for others. None: all answers."""
        truth, ranks = self._facts.exam.evaluation_set, self.trained.arrays[f"ranks {part}"].astype(np.int64)
        chosen = self._facts.measured if group is None else group.answers
        return by_query(ranks, truth.rows, len(truth.past), chosen)

    def lists(self, part: str) -> dict[str, Floats]:
        """Coverage and Gini (1,), and diversity (U,) of the lists; the last only where there are categories."""
        top = self.trained.arrays[f"top {part}"].astype(np.int64)[self._facts.inside]
        eligible = self._facts.experiment.candidate_items.eligible
        covered = coverage(top, cutoffs=[TOP], catalogue=len(eligible))[f"coverage@{TOP}"]
        names, unequal = self._facts.names, gini(exposure(top, eligible))
        varied = np.full(1, np.nan) if names is None else diversity(top, names)
        return {COVERAGE: np.array([covered]), GINI: np.array([unequal]), DIVERSITY: varied}

    def summary(self, part: str) -> dict[str, Floats]:
        """All measures of a part that are not of a group of popularity, by name."""
        found = {name: values for name, values in self.queries(part).items() if name in QUERY_METRICS}
        rare = self.queries(part, self._facts.rare)
        found |= {f"{name}, {RARE_ANSWERS}": rare[name] for name in QUERY_METRICS}
        return {**found, **self.lists(part)}

    @property
    def epoch_seconds(self) -> float:
        """Median CPU seconds of an epoch with its validation; NaN if they are not known."""
        return float(np.median(self.trained.result["cpu_seconds"] or [np.nan]))

    def of_users(self, part: str) -> tuple[Correlation, Correlation, Correlation]:
        """Radius of the user against the reciprocal rank of the answer.

        Second: given the length of the history; third: given also the popularity of the answers.
        """
        rank, facts = self.queries(part)["reciprocal rank"], self._facts
        radius, length = self.trained.arrays["user radius"], facts.exam.evaluation_set.past.lengths
        pairs = radius, rank
        return spearman(*pairs), spearman(*pairs, length), spearman(*pairs, length, facts.popularity)

    def of_items(self) -> tuple[Correlation, Correlation, Correlation, Correlation]:
        """Radius of the item against its users and against the entropy of its audience, each also given its events."""
        known, facts = self._facts.known, self._facts
        radius, events = self.trained.arrays["item radius"][known], facts.events[known]
        users, entropy = (radius, facts.users[known]), (radius, facts.entropy)
        return spearman(*users), spearman(*users, events), spearman(*entropy), spearman(*entropy, events)

    def spread(self, which: str) -> tuple[float, float, float]:
        """5 %, 50 % and 95 % quantiles of the radii of ``user`` or ``item``."""
        radii = self.trained.arrays[f"{which} radius"]
        low, middle, high = np.quantile(radii if which == "user" else radii[self._facts.known], [0.05, 0.5, 0.95])
        return float(low), float(middle), float(high)


def mean_of(correlations: list[Correlation]) -> Correlation:
    """Mean over seeds of a correlation and of its limits: all seeds have the same users and items."""
    values = np.array([[one.rho, one.low, one.high] for one in correlations])
    return Correlation(*(float(value) for value in values.mean(axis=0)))


Value = Callable[[Measures], Floats]


class Compared:
    """All trainings on one data set.

    Args:
        trainings: the finished trainings.
        facts: the data.
    """

    def __init__(self, trainings: list[Trained], facts: Facts) -> None:
        self.facts = facts
        self._measures = {(each.variant, each.dim, each.seed): Measures(each, facts) for each in trainings}
        self._summaries: dict[tuple[str, int, int, str], dict[str, Floats]] = {}

    @property
    def dims(self) -> list[int]:
        """The dimensions with a finished training."""
        return sorted({dim for _, dim, _ in self._measures})

    def of(self, variant: str, dim: int) -> list[Measures]:
        """The trainings of a variant, by seed."""
        keys = sorted(key for key in self._measures if key[:2] == (variant, dim))
        return [self._measures[key] for key in keys]

    def summary(self, measures: Measures, part: str) -> dict[str, Floats]:
        """:meth:`Measures.summary`, computed once."""
        trained = measures.trained
        key = (trained.variant, trained.dim, trained.seed, part)
        if key not in self._summaries:
            self._summaries[key] = measures.summary(part)
        return self._summaries[key]

    def names(self, part: str) -> list[str]:
        """Names of the measures of :meth:`summary`."""
        return list(self.summary(next(iter(self._measures.values())), part))

    def pairs(self, dim: int) -> list[tuple[Measures, Measures]]:
        """The trainings of Full and of the Euclidean twin with the same seeds, by seed."""
        ours, theirs = ({each.trained.seed: each for each in self.of(name, dim)} for name in (FULL, EUCLIDEAN))
        return [(ours[seed], theirs[seed]) for seed in sorted(set(ours) & set(theirs))]

    def difference(self, dim: int, value: Value) -> Difference:
        """Full minus Euclidean of a measure, over the seeds that both have."""
        found = [(value(one), value(other)) for one, other in self.pairs(dim)]
        if not found:
            return Difference()
        ours, theirs = zip(*found, strict=True)
        return paired(np.array(ours), np.array(theirs))

    def summary_difference(self, dim: int, part: str, name: str) -> Difference:
        """:meth:`difference` of one measure of :meth:`summary`."""
        return self.difference(dim, lambda each: self.summary(each, part)[name])

    def group_difference(self, dim: int, part: str, group: Group, metric: str) -> Difference:
        """:meth:`difference` of a metric of the answers in a group."""
        return self.difference(dim, lambda each: each.queries(part, group)[metric])
