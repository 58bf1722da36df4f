"""Evaluation protocols: how events are split into training, validation and test.

leave-one-out   each user's last event is the test, the one before it the validation, all others are training events
last-day        each user's last day with events is the test; training events are before a cut T in time
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from bench.datasets import Data, one_at_a_time
from hmamba.errors import InputError
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import hits, ranking_metrics
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, IntArray

Protocol = Literal["leave-one-out", "last-day"]
Metrics = dict[str, float]

CUTOFFS = (5, 10, 20)
DEPTH = 100
"""Number of ranked items that recall is measured at: candidates feed rankers, which read deeper than a page shows."""

RECALL = f"recall@{DEPTH}"
"""Share of a query's relevant items among the first ``DEPTH``, averaged over queries; HR if each has one."""

VALIDATION, TEST = "validation", "test"

MASKED = "masked"
"""Items that the user has seen are excluded from the ranking, unless they are relevant."""

UNMASKED = "unmasked"
"""Nothing is excluded."""

MASKED_BELOW = 0.02
"""Share of repeats among the relevant items from which on ``MASKED`` is not measured."""


@dataclass(frozen=True)
class Exam:
    """An evaluation set, and how its rankings are measured.

    Attributes:
        evaluation_set: the queries of U users; ``past`` holds the events that a system may read.
        seen: (U) all earlier events of the users, also those that a system may not read.
        views: which of ``MASKED`` and ``UNMASKED`` are measured; settings are chosen on the first.
        groups: rows of the users that the metrics are averaged over, by name of the group.
    """

    evaluation_set: EvaluationSet
    seen: Histories
    views: tuple[str, ...]
    groups: dict[str, IntArray]

    @property
    def depth(self) -> int:
        """Number of items of a ranking, so that enough remain after seen ones are excluded."""
        if MASKED not in self.views:
            return DEPTH
        stride = int(self.seen.items.max(initial=0)) + 1
        distinct = np.unique(self.seen.owner * stride + self.seen.items) // stride
        return DEPTH + int(np.bincount(distinct, minlength=1).max())


@dataclass(frozen=True)
class Experiment:
    """One split of one data set.

    Attributes:
        train: the training events.
        candidate_items: the items that may be ranked.
        size: number of item indices, padding included.
        stop: exam of early stopping and of the choice of settings.
        exams: the reported exams; they include ``stop`` if it has the form of the test.
        ids: (size,) item ids by index.
        items: path of the item file with the categories; it may not exist.
        countable: the events that a night has counted when it serves the test: training and validation events.
    """

    train: Histories
    candidate_items: CandidateItems
    size: int
    stop: Exam
    exams: dict[str, Exam]
    ids: pa.Array
    items: Path
    countable: Histories


def repeat_share(evaluation_set: EvaluationSet, seen: Histories) -> float:
    """Share of the relevant items that the user has interacted with before; ``seen`` (U) are all earlier events."""
    stride = int(max(seen.items.max(initial=0), evaluation_set.items.max(initial=0))) + 1
    relevant = evaluation_set.rows * stride + evaluation_set.items
    return float(np.isin(relevant, seen.owner * stride + seen.items).mean())


def views_of(evaluation_set: EvaluationSet, seen: Histories) -> tuple[str, ...]:
    """The views that are measured; the first is the one that settings are chosen on.

    ``MASKED`` excludes seen items except relevant ones. Where users repeat, that exception gives the answer away: of
    the items that a user has seen, only relevant ones are left, so a list of the history alone ranks them first.
    """
    return (MASKED, UNMASKED) if repeat_share(evaluation_set, seen) < MASKED_BELOW else (UNMASKED,)


def _from_end(histories: Histories) -> IntArray:
    """(N,) number of later events of the same user."""
    later: IntArray = histories.offsets[1:][histories.owner] - 1 - np.arange(histories.events)
    return later


def _queries_between(histories: Histories, start: int, end: int) -> EvaluationSet:
    """The baskets in [start, end), microseconds, as a night's validation set has them."""
    until = histories.between(None, end)
    starts = until.offsets[:-1] + histories.between(None, start).lengths
    return EvaluationSet.of(until, starts, until.offsets[1:], exclude_seen=False)


def launch_late(data: Data, share: float) -> Data:
    """The data as if a random share of the items, always the same, had been new when users took their last item.

    Of these items only users' last events are kept. Users with fewer than three events left are dropped, because
    leave-one-out would train on their last events.

    Args:
        data: the data.
        share: share of the items, in [0, 1).
    """
    histories = one_at_a_time(data.histories)
    is_new = np.random.default_rng(0).random(data.size) < share
    histories = histories.keep(~is_new[histories.items] | (_from_end(histories) == 0))
    return replace(data, histories=histories.select(np.flatnonzero(histories.lengths >= 3)))


def leave_one_out(data: Data, length: int | None) -> Experiment:
    """Hold out each user's last two events. Users with fewer than three events are used for training only.

    All items are candidate items, as in the published comparisons, also those of the last two events only.

    Args:
        data: the data to split.
        length: number of newest events of each user to train on and to read for a query; None: all.

    Raises:
        InputError: no user has three events.
    """
    histories = one_at_a_time(data.histories)
    is_judged = histories.lengths >= 3
    if not is_judged.any():
        raise InputError(f"{data.name}: no user has three events, so none can be held out.")
    most = histories.events if length is None else length
    after = _from_end(histories)
    held = np.where(is_judged[histories.owner], 2, 0)
    train = histories.keep((after >= held) & (after < held + most))
    judged = histories.select(np.flatnonzero(is_judged))

    rows = np.arange(len(judged))

    def held_out(place: int) -> tuple[EvaluationSet, Histories]:
        """The queries for the event at this place from the end, 1 for the last; and all events before it."""
        after = _from_end(judged)
        past = judged.keep((after >= place) & (after < place + most))
        at = judged.offsets[1:] - place
        answers = judged.items[at]
        return EvaluationSet(past, judged.times[at], rows, answers), judged.keep(after >= place)

    tested = held_out(1)
    views, groups = views_of(*tested), {"all users": rows}
    stop, test = Exam(*held_out(2), views, groups), Exam(*tested, views, groups)
    candidate_items = CandidateItems.of(histories.item_events(data.size), 1)
    exams, countable = {VALIDATION: stop, TEST: test}, histories.keep(after >= held // 2)
    return Experiment(train, candidate_items, data.size, stop, exams, data.ids, data.items, countable)


def last_day(
    data: Data, *, days: int, validation_days: int, min_item_events: int, split: Literal["validation", "test"]
) -> Experiment:
    """Hold out each user's last UTC day with events, and train on events before the last ``days``.

        ... training | validation_days | T ... last days ... | end

    With T the start of the last ``days``, training events are before T - validation_days, early stopping uses the days
    up to T, and in the test the relevant items are those of each user's last day, given all earlier events of the user.
    A user's last day is never trained on or read, even if it is before T.

    Args:
        data: the data to split.
        days: number of days from T to the end of the data.
        validation_days: number of days before T.
        min_item_events: items with fewer training events are not candidate items; if relevant, they count as misses.
        split: ``validation`` shifts all cuts into the past by ``days`` and drops the events from T on.

    Raises:
        InputError: the data has no times, or is too short for these cuts.
    """
    if not data.timed:
        raise InputError(f"{data.name} has no times: use --protocol leave-one-out.")
    end = (int(data.histories.times.max()) // MICROSECONDS_A_DAY + 1) * MICROSECONDS_A_DAY
    if split == VALIDATION:
        end -= days * MICROSECONDS_A_DAY
    cut = end - days * MICROSECONDS_A_DAY
    stop = cut - validation_days * MICROSECONDS_A_DAY
    histories = data.histories.between(None, end)
    histories = histories.select(np.flatnonzero(histories.lengths > 0))
    day = histories.times // MICROSECONDS_A_DAY
    newest = day[histories.offsets[1:] - 1]
    held = day == newest[histories.owner]
    before = histories.keep(~held)
    train = before.between(None, stop)
    judged = np.flatnonzero(before.lengths > 0)
    late = np.flatnonzero(newest[judged] * MICROSECONDS_A_DAY >= cut)
    if not train.events or not len(late):
        raise InputError(f"{data.name}: too short for a test of {days} days. Lower --days or train.validation_days.")
    past, truth = before.select(judged), histories.keep(held).select(judged)
    pairs = np.unique(truth.owner * data.size + truth.items)
    as_of = newest[judged] * MICROSECONDS_A_DAY
    evaluation_set = EvaluationSet(past, as_of, pairs // data.size, pairs % data.size)
    groups = {f"last day within the last {days} days": late, "all users": np.arange(len(judged))}
    early, views = _queries_between(before, stop, cut), views_of(evaluation_set, past)
    return Experiment(
        train,
        CandidateItems.of(train.item_events(data.size), min_item_events),
        data.size,
        Exam(early, early.past, views, {"all users": np.arange(len(early.past))}),
        {TEST: Exam(evaluation_set, past, views, groups)},
        data.ids,
        data.items,
        before.between(None, cut),
    )


def without_seen(ranked_UD: IntArray, exam: Exam, k: int) -> IntArray:
    """Exclude seen items from rankings (U, D), except relevant ones. Returns (U, k), -1 where none is left."""
    evaluation_set, seen = exam.evaluation_set, exam.seen
    stride = int(max(ranked_UD.max(initial=0), seen.items.max(initial=0), evaluation_set.items.max(initial=0))) + 1
    excluded = np.setdiff1d(seen.owner * stride + seen.items, evaluation_set.rows * stride + evaluation_set.items)
    out = np.isin(np.arange(len(ranked_UD))[:, None] * stride + ranked_UD, excluded) & (ranked_UD >= 0)
    order = np.argsort(out, axis=1, kind="stable")[:, :k]
    left: IntArray = np.where(np.take_along_axis(out, order, 1), -1, np.take_along_axis(ranked_UD, order, 1))
    return left


def measure(ranked_UD: IntArray, exam: Exam, candidate_items: int) -> dict[str, dict[str, Metrics]]:
    """Metrics of rankings without exclusion, by group and view.

    Args:
        ranked_UD: ``exam.depth`` items, best first; -1 where there is no further item.
        exam: the exam that the rankings are for.
        candidate_items: number of candidate items.
    """
    evaluation_set = exam.evaluation_set
    result: dict[str, dict[str, Metrics]] = {name: {} for name in exam.groups}
    for view in exam.views:
        shown = without_seen(ranked_UD, exam, DEPTH) if view == MASKED else ranked_UD[:, :DEPTH]
        for name, rows in exam.groups.items():
            inside = np.isin(evaluation_set.rows, rows)
            truth = np.searchsorted(rows, evaluation_set.rows[inside]), evaluation_set.items[inside]
            metrics = ranking_metrics(shown[rows], *truth, cutoffs=CUTOFFS, catalogue=candidate_items)
            relevant = np.bincount(truth[0], minlength=len(rows))
            recall = float((hits(shown[rows], *truth).sum(axis=1) / relevant).mean())
            result[name][view] = {**metrics, RECALL: recall}
    return result
