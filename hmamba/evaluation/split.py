"""The split into training events, validation events (early stopping) and held-out events (the gate).

    ... training events ... | validation | held out |

By days, the configured number of whole UTC days is counted back from the newest event. If these days have fewer users
with queries than ``gate.min_users``, they are widened by whole days, up to a fifth of all events together. If that is
not enough, if less than half of all events would remain for training, or if events have an order and no times, each
user's last basket is held out and the basket before it is the validation part. Training events of a user are those
before the user's validation events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Literal

import numpy as np

from hmamba.errors import InputError
from hmamba.evaluation.evaluation_set import Baskets, EvaluationSet
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, IntArray

if TYPE_CHECKING:
    from hmamba.config import Config

Mode = Literal["days", "last"]

DAYS: Mode = "days"
LAST: Mode = "last"

_WIDEST = 0.2  # share of all events that widened days may hold
_LEAST_LEARNT = 0.5  # share of all events that must remain for training with the configured days


def _day(moment: int) -> date:
    return datetime.fromtimestamp(moment / 1e6, UTC).date()


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


@dataclass(frozen=True)
class Split:
    """Cuts through each user's events, as flat positions.

    Attributes:
        mode: by days, or each user's last baskets.
        validation: (U,) position of each user's first validation event.
        holdout: (U,) position of each user's first held-out event.
        ends: (U,) position after each user's last event.
        trained_until: end of the training events, microseconds, exclusive.
        why: the reason for this split, as a sentence.
    """

    mode: Mode
    validation: IntArray
    holdout: IntArray
    ends: IntArray
    trained_until: int
    why: str

    @classmethod
    def of(cls, histories: Histories, config: Config) -> Split:
        """Choose the split by the settings and the data.

        Raises:
            InputError: there are no events.
        """
        if not histories.events:
            raise InputError("The snapshot has no events. Load some into the warehouse first.")
        if config.source.columns.by_position:
            return cls._last(histories, config, "events have an order and no times")
        end = (int(histories.times.max()) // MICROSECONDS_A_DAY + 1) * MICROSECONDS_A_DAY
        holdout = end - config.gate.holdout_days * MICROSECONDS_A_DAY
        validation = holdout - config.train.validation_days * MICROSECONDS_A_DAY
        least = config.gate.min_users
        queries = _Queries.since(histories, validation, config)
        users = queries.users(validation, holdout), queries.users(holdout, end)
        days = _count(config.gate.holdout_days, "held-out day"), _count(config.train.validation_days, "validation day")
        if float((histories.times < validation).mean()) < _LEAST_LEARNT:
            why = f"{' and '.join(days)} would leave less than half of all events for training"
            return cls._last(histories, config, why)
        if min(users) >= least:
            return cls._days(histories, validation, holdout, f"{' and '.join(days)}, as configured")
        why = f"{days[1]} and {days[0]} have {_count(users[0], 'user')} and {_count(users[1], 'user')} to judge on, "
        why += f"gate.min_users = {least}"
        earliest = _start_of_newest(histories, _WIDEST)
        queries = _Queries.since(histories, earliest, config)
        if (start := queries.latest_start(end, holdout, least)) is not None and start >= earliest:
            holdout = start
            start = queries.latest_start(holdout, holdout - config.train.validation_days * MICROSECONDS_A_DAY, least)
            if start is not None and start >= earliest:
                wide = (holdout - start) // MICROSECONDS_A_DAY, (end - holdout) // MICROSECONDS_A_DAY
                return cls._days(histories, start, holdout, f"{why}: widened to {wide[0]} and {wide[1]} days")
        return cls._last(histories, config, f"{why}, and a fifth of all events has too few")

    @classmethod
    def _days(cls, histories: Histories, validation: int, holdout: int, why: str) -> Split:
        def first_from(cut: int) -> IntArray:
            before = np.bincount(histories.owner[histories.times < cut], minlength=len(histories))
            return histories.offsets[:-1] + before

        return cls(DAYS, first_from(validation), first_from(holdout), histories.offsets[1:], validation, why)

    @classmethod
    def _last(cls, histories: Histories, config: Config, why: str) -> Split:
        baskets = Baskets.of(histories, exclude_seen=config.candidates.exclude_seen)
        holdout, validation = histories.offsets[1:].copy(), histories.offsets[1:].copy()
        if len(baskets.owner):
            is_last = np.append(baskets.owner[1:] != baskets.owner[:-1], True)
            is_second = np.append(is_last[1:] & ~is_last[:-1], False)
            holdout[baskets.owner[is_last]] = baskets.starts[is_last]
            validation[baskets.owner[is_last]] = baskets.starts[is_last]
            validation[baskets.owner[is_second]] = baskets.starts[is_second]
        learnt = histories.times[np.arange(histories.events) < validation[histories.owner]]
        until = int(learnt.max(initial=-1)) + 1
        return cls(
            LAST, validation, holdout, histories.offsets[1:], until, f"{why}: each user's last basket is held out"
        )

    def without_holdout(self, histories: Histories) -> Split:
        """The same split with its held-out events as the validation part and nothing held out."""
        learnt = histories.times[np.arange(histories.events) < self.holdout[histories.owner]]
        until = int(learnt.max(initial=-1)) + 1
        return replace(self, validation=self.holdout, holdout=self.ends, trained_until=until)

    def learnt(self, histories: Histories) -> Histories:
        """The training events."""
        return histories.until(self.validation)

    def before_holdout(self, histories: Histories) -> Histories:
        """The training and validation events: everything that may be counted before the gate."""
        return histories.until(self.holdout)

    def validation_set(self, histories: Histories, config: Config, most: int | None = None) -> EvaluationSet:
        """The evaluation set of early stopping."""
        exclude = config.candidates.exclude_seen
        return EvaluationSet.of(histories, self.validation, self.holdout, exclude_seen=exclude, most=most)

    def holdout_set(self, histories: Histories, config: Config) -> EvaluationSet:
        """The evaluation set of the gate."""
        return EvaluationSet.of(histories, self.holdout, self.ends, exclude_seen=config.candidates.exclude_seen)


@dataclass(frozen=True)
class _Queries:
    """The user and the time (B,) of each basket that can be a query."""

    owner: IntArray
    times: IntArray

    @classmethod
    def since(cls, histories: Histories, moment: int, config: Config) -> _Queries:
        """Baskets of the users with events since a time; baskets before that time are incomplete."""
        users = np.unique(histories.owner[histories.times >= moment])
        part = histories.select(users)
        baskets = Baskets.of(part, exclude_seen=config.candidates.exclude_seen)
        return cls(baskets.owner, part.times[baskets.starts])

    def users(self, start: int, end: int) -> int:
        """Number of users with a query in [start, end)."""
        return len(np.unique(self.owner[(self.times >= start) & (self.times < end)]))

    def latest_start(self, end: int, start: int, least: int) -> int | None:
        """The latest midnight, at most ``start``, from which at least ``least`` users have a query before ``end``."""
        before = self.times < end
        owner, times = self.owner[before], self.times[before]
        newest = times[np.append(owner[1:] != owner[:-1], True)] if len(owner) else times
        if len(newest) < least:
            return None
        needed = int(np.sort(newest)[-least]) // MICROSECONDS_A_DAY * MICROSECONDS_A_DAY
        return min(start, needed)


def _start_of_newest(histories: Histories, share: float) -> int:
    """The first midnight after which at most this share of all events lies."""
    number = int(histories.events * share)
    moment = int(np.partition(histories.times, histories.events - number - 1)[histories.events - number - 1])
    return (moment // MICROSECONDS_A_DAY + 1) * MICROSECONDS_A_DAY


def days_of(evaluation_set: EvaluationSet) -> tuple[date, date] | None:
    """First and last day with a query; None if there are no queries."""
    if not len(evaluation_set):
        return None
    return _day(int(evaluation_set.as_of.min())), _day(int(evaluation_set.as_of.max()))
