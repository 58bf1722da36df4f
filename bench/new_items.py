"""New and rare items: how often the items with 0 to 5 training events that users go on to take are recommended.

Systems, each with ``DEPTH`` items for a query:

HMamba, share s           the product's candidates with ``candidates.new_items`` = s; 0: on merit only
popular in category       the unseen items, first those of the categories with most of the user's last 50 events, within
                          a category the most popular. Categories are of level ``LEVEL``, or the narrowest above it; an
                          item without a path is alone in its category
random                    the expectation for distinct unseen items that are drawn at random
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from bench.protocols import DEPTH, MASKED, Exam, Experiment
from hmamba.evaluation.metrics import hits
from hmamba.evaluation.ranking import Quota, Table
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray
from hmamba.terms.sparse import RecentEvents
from hmamba.training.new_items import described_without_events

Groups = dict[str, tuple[int, float]]

GROUPS: Groups = {"0": (0, 0), "1 to 5": (1, 5), "0 to 5": (0, 5), "6 or more": (6, np.inf)}
"""Smallest and largest number of training events of the relevant items of each group."""

LEVEL = 4
"""Level of the categories that the baseline reads, the narrowest that the model reads by default."""

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2)
POPULAR, RANDOM = "popular in category", "random"

_ROWS = 256

Rank = Callable[[Exam, bool], tuple[Table, Table]]
"""The known and the new items of an exam, best first; with or without the items that the user has seen."""


def split_items(experiment: Experiment, attributes: sp.csr_array | None) -> tuple[CandidateItems, CandidateItems]:
    """The items of the softmax and the new items, of which the catalogue knows something and the training no event."""
    events = experiment.train.item_events(experiment.size)
    new = described_without_events(attributes, events)
    known = np.setdiff1d(experiment.candidate_items.eligible, new)
    return CandidateItems.only(known, experiment.size), CandidateItems.only(new, experiment.size)


def popular_in_category(
    past: Histories, category: IntArray, popularity: IntArray, eligible: CandidateItems, k: int, *, exclude_seen: bool
) -> IntArray:
    """Rank items (U, k) by the number of the user's recent events in their category, then by popularity, then index.

    Args:
        past: histories of U users.
        category: (size,) category number of each item index.
        popularity: (size,) number of training events of each item index.
        eligible: the items to rank.
        k: items per user, at most the number of items.
        exclude_seen: whether items that the user has seen come last.
    """
    recent = RecentEvents.of(past)
    shape = recent.users, int(category.max()) + 1
    taken = sp.csr_array((np.ones(len(recent.owner)), (recent.owner, category[recent.items])), shape)
    order = np.lexsort((eligible.eligible, -popularity[eligible.eligible]))
    items = eligible.eligible[order]
    place = np.empty(len(items), dtype=np.int64)
    place[order] = np.arange(len(items))
    result = np.empty((len(past), k), dtype=np.int64)
    for start in range(0, len(past), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(past)))
        score = taken[rows].toarray()[:, category[items]]
        if exclude_seen:
            row, column = eligible.seen(past, rows)
            score[row, place[column]] = -1
        result[rows] = items[np.argsort(-score, axis=1, kind="stable")[:, :k]]
    return result


def _queries(exam: Exam, events: IntArray) -> Iterator[tuple[str, IntArray, IntArray]]:
    """Name, rows and relevant items of each group that has any, in the exam's first group of users."""
    relevant = exam.evaluation_set
    users = next(iter(exam.groups.values()))
    number = events[relevant.items]
    for name, (least, most) in GROUPS.items():
        inside = (number >= least) & (number <= most) & np.isin(relevant.rows, users)
        if inside.any():
            yield name, relevant.rows[inside], relevant.items[inside]


def _measured(ranked: IntArray, exam: Exam, events: IntArray) -> dict[str, dict[str, float]]:
    """HR@100 and R@100 of each group, with only its items as relevant; queries without one are left out."""
    result = {}
    for name, rows, items in _queries(exam, events):
        queries, own = np.unique(rows, return_inverse=True)
        found = hits(ranked[queries], own, items).sum(axis=1)
        result[name] = {
            "queries": float(len(queries)),
            "hr": float((found > 0).mean()),
            "recall": float((found / np.bincount(own)).mean()),
        }
    return result


def _by_chance(exam: Exam, events: IntArray, items: int, *, exclude_seen: bool) -> dict[str, dict[str, float]]:
    """The expectation of :func:`_measured` for random items, of which the user has seen none if they are excluded."""
    past, result = exam.evaluation_set.past, {}
    for name, rows, _ in _queries(exam, events):
        queries, relevant = np.unique(rows, return_counts=True)
        left = np.full(len(queries), items, dtype=np.float64)
        if exclude_seen:
            left -= [len(np.unique(past.items[past.offsets[row] : past.offsets[row + 1]])) for row in queries]
        share = np.minimum(DEPTH / left, 1)
        missed: npt.NDArray[np.float64] = (1 - share) ** relevant
        result[name] = {
            "queries": float(len(queries)),
            "hr": float((1 - missed).mean()),
            "recall": float(share.mean()),
        }
    return result


def measure_new(
    experiment: Experiment, exam: Exam, rank: Rank, new: CandidateItems, category: IntArray
) -> dict[str, dict[str, dict[str, float]]]:
    """HR@100 and R@100 by system and group.

    Args:
        experiment: the split data.
        exam: the exam, in its first view.
        rank: ranks known and new items by the model.
        new: the new items.
        category: (size,) category number of each item index, for the baseline.
    """
    events = experiment.train.item_events(experiment.size)
    exclude = exam.views[0] == MASKED
    known, fresh = rank(exam, exclude)
    every = experiment.candidate_items.together(new)
    result = {}
    for share in SHARES if len(new) else SHARES[:1]:
        ranked = Quota.of(DEPTH, share).apply(known, fresh, DEPTH)[0]
        result[f"HMamba, share {share:g}"] = _measured(ranked, exam, events)
    k = min(DEPTH, len(every))
    past = exam.evaluation_set.past
    popular = popular_in_category(past, category, events, every, k, exclude_seen=exclude)
    result[POPULAR] = _measured(popular, exam, events)
    result[RANDOM] = _by_chance(exam, events, len(every), exclude_seen=exclude)
    return result


def lines_of(measured: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Rows of the table: system, then HR@100 of each group and R@100 of the last, means over seeds."""
    names = [name for name in GROUPS if all(name in each[RANDOM] for each in measured)]
    lines = [["queries", *(f"{measured[0][RANDOM][name]['queries']:,.0f}" for name in names), ""]]
    for system in measured[0]:
        means = [float(np.mean([each[system][name]["hr"] for each in measured])) for name in names]
        rest = float(np.mean([each[system][names[-1]]["recall"] for each in measured]))
        lines.append([system, *(f"{mean:.4f}" for mean in means), f"{rest:.4f}"])
    return lines


def header_of(measured: Sequence[dict[str, Any]]) -> list[str]:
    """The columns of :func:`lines_of`."""
    names = [name for name in GROUPS if all(name in each[RANDOM] for each in measured)]
    return ["training events of the item", *(f"{name}: HR@{DEPTH}" for name in names), f"{names[-1]}: R@{DEPTH}"]
