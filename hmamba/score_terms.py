"""The registry of score terms, the values of ``model.score_terms``. A new term is one file and one entry here.

A term raises the scores of some candidate items; :mod:`hmamba.terms.base` defines its interface. Classes are imported
when they are used, so that settings can be checked without NumPy and PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

TASTE, POPULAR, NEW, AGAIN = "taste", "popular", "new", "again"
"""Values of the column ``because`` without a counted term: what the model has learned, popularity, an item without
events, and repeat consumption."""


@dataclass(frozen=True)
class RegisteredTerm:
    """A score term's class, and its properties for the settings and the report.

    Attributes:
        path: ``module:class`` of a :class:`hmamba.terms.base.LearnedTerm` or :class:`hmamba.terms.base.CountedTerm`.
        learned: whether the term has parameters that are trained with the model.
        exclude_seen: value of ``candidates.exclude_seen`` that the term requires; None for any.
        evidence: the evidence that raises a score, as a noun phrase.
        because: the word for it in the column ``because``.
    """

    path: str
    learned: bool
    exclude_seen: bool | None
    evidence: str
    because: str

    def load(self) -> Any:
        """Import the class."""
        module, _, name = self.path.partition(":")
        return getattr(import_module(module), name)


SCORE_TERMS: dict[str, RegisteredTerm] = {
    "repeats": RegisteredTerm("hmamba.model.repeats:Repeats", True, False, "a user's own repeat consumption", AGAIN),
    "cooccurrence": RegisteredTerm(
        "hmamba.terms.cooccurrence:Cooccurrence",
        False,
        None,
        "what followed a user's items in other histories",
        "together",
    ),
    "attributes": RegisteredTerm(
        "hmamba.terms.attributes:Attributes", False, None, "the overlap of attributes with a user's items", "alike"
    ),
}


def automatic(exclude_seen: bool) -> tuple[str, ...]:
    """The terms of a model without ``model.score_terms``: all that this value of ``candidates.exclude_seen`` allows."""
    return tuple(name for name, term in SCORE_TERMS.items() if term.exclude_seen in (None, exclude_seen))


def chosen(names: Iterable[str], *, learned: bool) -> tuple[str, ...]:
    """The learned terms (or else the counted ones) among ``model.score_terms``, in the order of the registry."""
    return tuple(name for name, term in SCORE_TERMS.items() if name in names and term.learned == learned)


def reason_names() -> tuple[str, ...]:
    """All values of the column ``because``."""
    return tuple(dict.fromkeys((TASTE, POPULAR, NEW, AGAIN, *(term.because for term in SCORE_TERMS.values()))))
