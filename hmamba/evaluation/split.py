"""The global split in time: train | validation | held out, by whole UTC days counted back from the newest event.

    ... training events ... | validation_days | holdout_days |

Training sees nothing after its cut; early stopping judges on the validation days, the gate on the held-out ones. A
user's query is encoded from everything before the days that are judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from hmamba.errors import InputError
from hmamba.sequences.histories import Histories, IntArray, midnight
from hmamba.sequences.sets import contained, distinct

if TYPE_CHECKING:
    from hmamba.config import Config


@dataclass(frozen=True)
class Split:
    """Cuts in microseconds since 1970; each is the start of what follows it."""

    validation: int
    holdout: int
    end: int

    @property
    def holdout_days(self) -> tuple[date, date]:
        """First and last held-out day."""
        first, last = (datetime.fromtimestamp(cut / 1e6, UTC).date() for cut in (self.holdout, self.end - 1))
        return first, last

    @classmethod
    def of(cls, histories: Histories, config: Config) -> Split:
        """Count back from the end of the day of the newest event.

        Raises:
            InputError: there are no events, or none before the validation days.
        """
        if histories.events == 0:
            raise InputError("the snapshot has no events: load some into the warehouse first.")
        newest = datetime.fromtimestamp(histories.times.max() / 1e6, UTC).date()
        end = newest + timedelta(days=1)
        holdout = end - timedelta(days=config.gate.holdout_days)
        validation = holdout - timedelta(days=config.train.validation_days)
        split = cls(midnight(validation), midnight(holdout), midnight(end))
        if histories.times.min() >= split.validation:
            raise InputError(
                f"all events are on or after {validation}: nothing is left to train on. Load a longer history, or "
                "lower gate.holdout_days and train.validation_days."
            )
        return split


@dataclass(frozen=True)
class Question:
    """Users who had a past and then did something: what did they take?

    Attributes:
        past: (U) histories before ``as_of``.
        as_of: the moment of asking, microseconds.
        rows, items: (pairs) what they took afterwards, each item once a user.
    """

    past: Histories
    as_of: int
    rows: IntArray
    items: IntArray

    @classmethod
    def ask(
        cls, histories: Histories, start: int, end: int, *, exclude_seen: bool, most: int | None = None
    ) -> Question:
        """Ask what users took in [start, end), microseconds.

        Args:
            histories: all events.
            start: first moment that counts as an answer.
            end: first moment that no longer does.
            exclude_seen: only items that are new to the user count.
            most: a sample of at most so many users, always the same one.
        """
        before, after = histories.between(None, start), histories.between(start, end)
        stride = int(histories.items.max(initial=0)) + 1
        pairs = distinct(after.owner * stride + after.items)
        pairs = pairs[before.lengths[pairs // stride] > 0]
        if exclude_seen:
            pairs = pairs[~contained(pairs, distinct(before.owner * stride + before.items))]
        users = distinct(pairs // stride)
        if most is not None and len(users) > most:
            users = np.sort(np.random.default_rng(0).choice(users, most, replace=False))
            pairs = pairs[contained(pairs // stride, users)]
        return cls(before.select(users), start, np.searchsorted(users, pairs // stride), pairs % stride)
