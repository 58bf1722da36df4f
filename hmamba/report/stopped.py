"""Where a night ended before it published anything, and what readers have meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hmamba.contracts.steps import StepFailure
from hmamba.steps import PUBLISHING

EXIT_STATUS = {
    1: "it failed, and may succeed on retry",
    2: "a file or a setting must be fixed; a retry without that fails again",
    3: "data or candidates broke a rule; a retry without other data or settings fails again",
}
"""What the exit statuses of failed steps mean."""


@dataclass(frozen=True)
class Stop:
    """The step at which a night ended.

    Attributes:
        step: its name.
        shard: of a step that is mapped over shards, which; None if unknown or not mapped.
        message: as it was logged; None where the step left no record, since it was killed or never started.
        exit_status: of the step's process; None without a record.
        seconds: how long it ran; None without a record.
    """

    step: str
    shard: int | None = None
    message: str | None = None
    exit_status: int | None = None
    seconds: float | None = None

    @property
    def before(self) -> tuple[str, ...]:
        """The steps before it: what later ones have left is of an earlier try."""
        return PUBLISHING[: PUBLISHING.index(self.step)]


def failed_at(failures: Sequence[StepFailure], shards: int) -> Stop | None:
    """The first step that failed and has not succeeded since; None if none has.

    Args:
        failures: records of failed steps, in any order.
        shards: of the snapshot. A failure of a later shard is of an earlier snapshot.
    """
    found = [one for one in failures if one.step in PUBLISHING and (one.shard is None or one.shard < shards)]
    if not found:
        return None
    first = min(found, key=lambda one: (PUBLISHING.index(one.step), one.shard or 0))
    return Stop(first.step, first.shard, first.message.strip() or None, first.exit_status, first.seconds)


def unfinished(finished: Sequence[str]) -> Stop | None:
    """The step after the last one that has finished, where no failure is recorded; None if all have."""
    step = max((PUBLISHING.index(step) + 1 for step in finished), default=0)
    return Stop(PUBLISHING[step]) if step < len(PUBLISHING) else None
