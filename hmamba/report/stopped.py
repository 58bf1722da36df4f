"""Where a night ended before publishing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hmamba.contracts.step import StepFailure
from hmamba.steps import PUBLISHING

EXIT_STATUS = {
    1: "failed; may succeed on retry",
    2: "a file or a setting must be fixed; a retry without that fails again",
    3: "data or candidates broke a rule; a retry without other data or settings fails again",
}
"""Meaning of the exit statuses of failed steps."""


@dataclass(frozen=True)
class Stop:
    """The step at which a night ended.

    Attributes:
        step: name of the step.
        failure: the record of its failure; None without one, because the step was killed or never started.
    """

    step: str
    failure: StepFailure | None = None

    @property
    def before(self) -> tuple[str, ...]:
        """The steps before it. Outputs of later steps are of an earlier try."""
        return PUBLISHING[: PUBLISHING.index(self.step)]


def failed_at(failures: Sequence[StepFailure], shards: int) -> Stop | None:
    """The first step with a recorded failure; None without one. A step's success removes its record.

    Args:
        failures: records of failed steps, in any order.
        shards: number of shards of the snapshot. Failures of later shards are of an earlier snapshot.
    """
    found = [one for one in failures if one.step in PUBLISHING and (one.shard is None or one.shard < shards)]
    if not found:
        return None
    first = min(found, key=lambda one: (PUBLISHING.index(one.step), one.shard or 0))
    return Stop(first.step, first)


def unfinished(finished: Sequence[str]) -> Stop | None:
    """The step after the last finished one, if no failure is recorded; None if all have finished."""
    step = max((PUBLISHING.index(step) + 1 for step in finished), default=0)
    return Stop(PUBLISHING[step]) if step < len(PUBLISHING) else None
