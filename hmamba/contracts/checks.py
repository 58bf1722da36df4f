"""The record of one check of a batch or of candidates."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from hmamba.contracts.document import Document, Moment, Part

Kind = Literal[
    "staged_batch",
    "candidates",
    "changes",
    "similar_items",
    "popular",
    "segments",
    "user_vectors",
    "item_vectors",
]
"""What is checked: new rows of the source before they are loaded, or a table before it is published."""

Unit = Literal["count", "share", "ratio", "days"]


class CheckedRule(Part):
    """A rule, its figure and its result.

    Attributes:
        name: name in messages.
        meaning: what the figure is, in words; settings in backquotes.
        unit: unit of the figure and its bounds. A share is from 0 to 1.
        value: the figure.
        least, most: inclusive bounds; None for no bound.
        warn_least, warn_most: inclusive bounds beyond which there is a warning; None for no bound.
        settings: settings that give the bounds.
        passed: whether Great Expectations found the figure within ``least`` and ``most``.
        warned: whether it found the figure outside of ``warn_least`` and ``warn_most``.
    """

    name: str
    meaning: str
    unit: Unit
    value: float
    least: float | None
    most: float | None
    warn_least: float | None = None
    warn_most: float | None = None
    settings: tuple[str, ...]
    passed: bool
    warned: bool = False

    @property
    def bounded(self) -> bool:
        """Whether the figure has a bound."""
        return any(bound is not None for bound in (self.least, self.most, self.warn_least, self.warn_most))


class CheckRecord(Document):
    """The record of one check, from which its page is rendered.

    Attributes:
        kind: what was checked.
        name: day and run id, and for a batch its number.
        checked_at: end of the check.
        rules: the rules, in the order in which they are defined.
        notes: a sentence for each rule that could not be checked.
        great_expectations: the validation result of Great Expectations, as that library writes it.
    """

    CURE: ClassVar[str] = "The next check replaces it."

    kind: Kind
    name: str
    checked_at: Moment
    rules: tuple[CheckedRule, ...]
    notes: tuple[str, ...] = ()
    great_expectations: dict[str, Any]

    @property
    def broken(self) -> tuple[CheckedRule, ...]:
        """The rules that were broken."""
        return tuple(rule for rule in self.rules if not rule.passed)

    @property
    def warned(self) -> tuple[CheckedRule, ...]:
        """The rules that were kept, with a figure outside of their warning bounds."""
        return tuple(rule for rule in self.rules if rule.passed and rule.warned)
