"""The registry of score terms, the values of ``model.score_term``. A new term is one file and one entry here.

A term raises the scores of some candidate items; :mod:`hmamba.terms.base` defines its interface. Classes are imported
when they are used, so that settings can be checked without NumPy and PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

AUTO, NONE = "auto", "none"


@dataclass(frozen=True)
class RegisteredTerm:
    """A score term's class, and its properties for the settings and the report.

    Attributes:
        path: ``module:class`` of a :class:`hmamba.terms.base.LearnedTerm` or :class:`hmamba.terms.base.CountedTerm`.
        learned: whether the term has parameters that are trained with the model.
        exclude_seen: value of ``candidates.exclude_seen`` that the term requires; None for any.
        evidence: the evidence that raises a score, as a noun phrase.
    """

    path: str
    learned: bool
    exclude_seen: bool | None
    evidence: str

    def load(self) -> Any:
        """Import the class."""
        module, _, name = self.path.partition(":")
        return getattr(import_module(module), name)


SCORE_TERMS: dict[str, RegisteredTerm] = {
    "repeats": RegisteredTerm("hmamba.model.repeats:Repeats", True, False, "a user's own repeat consumption"),
    "cooccurrence": RegisteredTerm(
        "hmamba.terms.cooccurrence:Cooccurrence", False, True, "what followed a user's items in other histories"
    ),
}


def choices() -> list[str]:
    """The values that ``model.score_term`` can take."""
    return [AUTO, *SCORE_TERMS, NONE]


def automatic(exclude_seen: bool) -> str:
    """The term that "auto" selects: the first that is registered for this value of ``candidates.exclude_seen``."""
    return next((name for name, term in SCORE_TERMS.items() if term.exclude_seen is exclude_seen), NONE)


def chosen(choice: str, *, learned: bool) -> tuple[str, ...]:
    """Names of the learned terms (or else the counted ones) that a value of ``model.score_term`` selects."""
    return tuple(name for name in (choice,) if name in SCORE_TERMS and SCORE_TERMS[name].learned == learned)
