"""Protocols: what may be learnt from, what stops the training, what is asked in the end.

leave-one-out   each user's last event is the test, the one before it the validation, all others are learnt from
last-day        each user's last shopping day is the test; nothing after a cut T in time is learnt from
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from bench.datasets import Data, one_at_a_time
from hmamba.errors import InputError
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import ranking_metrics
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, IntArray

Protocol = Literal["leave-one-out", "last-day"]
Metrics = dict[str, float]

CUTOFFS = (5, 10, 20)
VALIDATION, TEST = "validation", "test"

MASKED = "masked"
"""What the user has had before is left out of the ranking, unless it is the answer."""

UNMASKED = "unmasked"
REPEATS = "repeats allowed"


@dataclass(frozen=True)
class Exam:
    """A question, and in which ways the answers count.

    Attributes:
        evaluation_set: what is asked, of U users; ``past`` is what a system may read.
        seen: (U) all that the users did before, however little of it a system may read.
        views: which of ``MASKED``, ``UNMASKED`` and ``REPEATS`` are measured.
        groups: rows of the users over whom the metrics are taken, by the group's name.
    """

    evaluation_set: EvaluationSet
    seen: Histories
    views: tuple[str, ...]
    groups: dict[str, IntArray]

    @property
    def depth(self) -> int:
        """Items that a ranking needs, so that enough are left when those seen are taken out."""
        if MASKED not in self.views:
            return max(CUTOFFS)
        stride = int(self.seen.items.max(initial=0)) + 1
        distinct = np.unique(self.seen.owner * stride + self.seen.items) // stride
        return max(CUTOFFS) + int(np.bincount(distinct, minlength=1).max())


@dataclass(frozen=True)
class Experiment:
    """One split of one data set.

    Attributes:
        train: what is learnt from.
        candidate_items: the items that compete.
        size: item indices, padding included.
        stop: what early stopping and every choice of a setting judge by.
        exams: what is asked in the end; ``stop`` is among them where it has the form of the test.
        ids: (size,) item ids by index.
        items: the file that tells their categories, if there is one.
    """

    train: Histories
    candidate_items: CandidateItems
    size: int
    stop: Exam
    exams: dict[str, Exam]
    ids: pa.Array
    items: Path


def _from_end(histories: Histories) -> IntArray:
    """(N,) how many events of the same user come after each event."""
    later: IntArray = histories.offsets[1:][histories.owner] - 1 - np.arange(histories.events)
    return later


def _taken_between(histories: Histories, start: int, end: int) -> EvaluationSet:
    """All that users with a past took in [start, end), microseconds: one question for each."""
    before, after = histories.between(None, start), histories.between(start, end)
    stride = int(histories.items.max(initial=0)) + 1
    pairs = np.unique(after.owner * stride + after.items)
    pairs = pairs[before.lengths[pairs // stride] > 0]
    users = np.unique(pairs // stride)
    rows = np.searchsorted(users, pairs // stride)
    return EvaluationSet(before.select(users), np.full(len(users), start), rows, pairs % stride)


def leave_one_out(data: Data, length: int | None) -> Experiment:
    """Split off each user's last two events. Users with fewer than three are learnt from and not asked.

    All items of the data compete, as in the published comparisons, also those that only the last two events hold.

    Args:
        data: what to split.
        length: events of each user that are learnt from, and that are read when asked: the newest. None: all.

    Raises:
        InputError: no user has three events.
    """
    histories = one_at_a_time(data.histories)
    asked = histories.lengths >= 3
    if not asked.any():
        raise InputError(f"{data.name}: no user has three events, so there is nothing to leave out.")
    most = histories.events if length is None else length
    after, owner_asked = _from_end(histories), asked[histories.owner]
    held = np.where(owner_asked, 2, 0)
    train = histories.keep((after >= held) & (after < held + most))
    judged = histories.select(np.flatnonzero(asked))
    end = int(histories.times.max()) + 1

    def ask(place: int) -> Exam:
        """Ask for the event at this place from the end, 1 being the last."""
        after = _from_end(judged)
        past = judged.keep((after >= place) & (after < place + most))
        answers = judged.items[judged.offsets[1:] - place]
        everybody = np.arange(len(judged))
        evaluation_set = EvaluationSet(past, np.full(len(past), end), everybody, answers)
        return Exam(evaluation_set, judged.keep(after >= place), (MASKED, UNMASKED), {"all users": everybody})

    candidate_items = CandidateItems.of(histories.item_events(data.size), 1)
    stop = ask(2)
    return Experiment(train, candidate_items, data.size, stop, {VALIDATION: stop, TEST: ask(1)}, data.ids, data.items)


def last_day(
    data: Data, *, days: int, validation_days: int, min_item_events: int, split: Literal["validation", "test"]
) -> Experiment:
    """Split off each user's last UTC day with events, and learn only from what was before the last ``days``.

        ... learnt from | validation_days | T ... last days ... | end

    With T the start of the last ``days``, training sees events before T - validation_days, early stopping judges on the
    days up to T, and the test asks for all items of each user's last day given everything that the user did before it.
    No user's last day is learnt from or read, also where it was before T.

    Args:
        data: what to split.
        days: from T to the end of the data.
        validation_days: before T.
        min_item_events: items with fewer training events do not compete; as answers they still count, as misses.
        split: ``validation`` shifts all of it into the past by ``days``: events from T on do not exist.

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
    evaluation_set = EvaluationSet(past, np.full(len(past), end), pairs // data.size, pairs % data.size)
    groups = {f"last day within the last {days} days": late, "all users": np.arange(len(judged))}
    early = _taken_between(before, stop, cut)
    return Experiment(
        train,
        CandidateItems.of(train.item_events(data.size), min_item_events),
        data.size,
        Exam(early, early.past, (REPEATS,), {"all users": np.arange(len(early.past))}),
        {TEST: Exam(evaluation_set, past, (REPEATS,), groups)},
        data.ids,
        data.items,
    )


def without_seen(ranked_UD: IntArray, exam: Exam, k: int) -> IntArray:
    """Take what users have had out of their rankings (U, D); answers stay. (U, k), -1 where none is left."""
    evaluation_set, seen = exam.evaluation_set, exam.seen
    stride = int(max(ranked_UD.max(initial=0), seen.items.max(initial=0), evaluation_set.items.max(initial=0))) + 1
    repeats = np.setdiff1d(seen.owner * stride + seen.items, evaluation_set.rows * stride + evaluation_set.items)
    out = np.isin(np.arange(len(ranked_UD))[:, None] * stride + ranked_UD, repeats) & (ranked_UD >= 0)
    order = np.argsort(out, axis=1, kind="stable")[:, :k]
    left: IntArray = np.where(np.take_along_axis(out, order, 1), -1, np.take_along_axis(ranked_UD, order, 1))
    return left


def measure(ranked_UD: IntArray, exam: Exam, candidate_items: int) -> dict[str, dict[str, Metrics]]:
    """Metrics of rankings that leave nothing out, by group and view.

    Args:
        ranked_UD: items, best first, ``exam.depth`` of them; -1 where there is no further item.
        exam: what was asked.
        candidate_items: number of items that compete.
    """
    k, evaluation_set = max(CUTOFFS), exam.evaluation_set
    result: dict[str, dict[str, Metrics]] = {name: {} for name in exam.groups}
    for view in exam.views:
        shown = without_seen(ranked_UD, exam, k) if view == MASKED else ranked_UD[:, :k]
        for name, rows in exam.groups.items():
            inside = np.isin(evaluation_set.rows, rows)
            truth_rows = np.searchsorted(rows, evaluation_set.rows[inside])
            result[name][view] = ranking_metrics(
                shown[rows], truth_rows, evaluation_set.items[inside], cutoffs=CUTOFFS, catalogue=candidate_items
            )
    return result
