"""What the guards of ``[publish.guards]`` found in a table, and a person's decision to publish it all the same."""

from __future__ import annotations

from datetime import date
from typing import ClassVar, Literal, get_args

from hmamba.contracts.document import Document, Moment, Part

GuardName = Literal["churn", "top_item", "coverage", "users_lost"]
"""Guards, named as in ``[publish.guards]`` after warn_, max_ or min_."""

GUARDS: tuple[GuardName, ...] = get_args(GuardName)


class GuardResult(Part):
    """What one guard found in a table that was published.

    Attributes:
        value: the share that was measured, from 0 to 1; None if the guard was skipped.
        warn, stop: its bounds; None for no bound.
        against: day of the table that it was compared with; None if it compares nothing, or was skipped.
        outcome: "accepted" if the share is beyond ``stop`` and a person accepted it.
        detail: a sentence: what was found, or why the guard was skipped.
    """

    value: float | None
    warn: float | None
    stop: float | None
    against: date | None = None
    outcome: Literal["passed", "warned", "accepted", "skipped"]
    detail: str

    @property
    def warning(self) -> str | None:
        """The sentence, if it needs attention."""
        return self.detail if self.outcome in ("warned", "accepted") else None


class Acceptance(Document):
    """Guards that do not stop one table: ``accepted.json`` in the working folder of its run.

    Attributes:
        table: digest of the candidates, so that no other table is let through.
        guards: the guards.
        accepted_at: when this was decided.
    """

    CURE: ClassVar[str] = "Remove it, and accept the guards again: hmamba accept."

    table: str
    guards: tuple[GuardName, ...]
    accepted_at: Moment
