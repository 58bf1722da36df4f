"""The interface of score terms. They are registered in :mod:`hmamba.score_terms` and listed in a model's ``terms``.

The index holds base scores, which are functions of a user's hidden state and an item's vector. A term adds evidence
that does not fit into such vectors, for a few candidate items per user. It may raise a score and never lowers one.
Retrieval therefore stays exact: an item without an entry can be among the k best only if it is among the k best by base
score. A model's terms are combined in order; the base scores of a term include the terms before it.

There are two kinds. A learned term is a ``torch.nn.Module`` whose parameters are trained with the model's loss and
saved with the model's weights. A counted term is counted from histories after training and then weighted on the
validation days; it saves its own files in the model's folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias, TypeVar

from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Entries:
    """Candidate items with evidence: E entries, sorted by row, each (row, column) at most once.

    Subclasses add the evidence that the term's ``combine`` reads.

    Attributes:
        rows: (E,) row of each entry, of R rows.
        columns: (E,) columns of the candidate items.
    """

    rows: IntArray
    columns: IntArray


E = TypeVar("E", bound=Entries)


class ScoreTerm(Protocol[E]):
    """A part of the score that is added to the base scores of some candidate items."""

    def entries(self, histories: Histories, candidate_items: CandidateItems) -> E:
        """Evidence in the histories of R users; entries of items that a user has seen are allowed.

        A user's entries depend on that user's history only. Histories include events of weight 0.
        """

    def combine(self, base_E: Tensor, entries: E, hidden_Rd: Tensor) -> Tensor:
        """Scores (E,) of entries, none below its base score.

        Args:
            base_E: base scores of the entries, in the model's precision and on its device.
            entries: result of :meth:`entries`.
            hidden_Rd: hidden states of the rows.
        """


class CountedTerm(ScoreTerm[E], Protocol[E]):
    """A term that is counted from histories. Objects are immutable: a recount creates a new one.

    Attributes:
        name: name under which the class is registered.
    """

    name: ClassVar[str]

    @classmethod
    def count(cls, histories: Histories, size: int) -> Self:
        """Count events of item indices below ``size``; the weights are the defaults."""

    def choices(self) -> Sequence[Self]:
        """This term with each of the weights that the validation days choose from."""

    def weights(self) -> dict[str, float]:
        """The numbers that are chosen on the validation days, by name; they are stored in config.json."""

    def recounted(self, fresh: Self, size: int) -> Self:
        """The counts of ``fresh`` for item indices below ``size``, with this term's weights."""

    def save(self, folder: Path) -> None:
        """Write the counts into a model's folder, to files that no other term uses."""

    @classmethod
    def load(cls, folder: Path, size: int, **weights: float) -> Self:
        """Read what :meth:`save` wrote.

        Args:
            folder: folder of the model.
            size: number of item indices of the model, padding included.
            weights: the result of :meth:`weights`.
        """


class LearnedTerm(ScoreTerm[E], Protocol[E]):
    """A term with parameters, a ``torch.nn.Module``; ``combine`` is log(exp(base) + exp(log rate)).

    The training loss adds the rates to the softmax (:mod:`hmamba.training.loss`). A model has at most one such term.
    """

    @classmethod
    def of(cls, config: Any, items: int) -> Self:
        """Create an untrained term for a model's settings and ``items`` item indices, padding not counted."""

    def entries_before(
        self, histories: Histories, candidate_items: CandidateItems, users: IntArray, ends: IntArray
    ) -> E:
        """Evidence for each row of a training batch. Called from a thread, so it must not read tensors.

        Args:
            histories: events that the model reads.
            candidate_items: the candidate items.
            users: (R,) user of each row.
            ends: (R,) flat position after the last event that the row may use.
        """

    def entry_counts(self, histories: Histories, users: IntArray, ends: IntArray) -> IntArray:
        """Upper bounds (R,) of the number of entries of each row, without computing the entries."""

    def log_rates(self, hidden_Rd: Tensor, entries: E) -> Tensor:
        """Log rates (E,) of entries, differentiable in the hidden states and the parameters."""

    def recount(self, events: Tensor, users: Tensor) -> None:
        """Replace the item counts that the term stores.

        Args:
            events: (items + 1,) number of events of each item index.
            users: (items + 1,) number of users who have interacted with each item.
        """

    def hold_categories(self, category_LV: IntArray) -> None:
        """Set the items' categories: (L, items + 1) numbers on each level of ``model.category_levels``."""

    def fast_parameters(self) -> list[nn.Parameter]:
        """Parameters to train at ten times the learning rate, without weight decay."""


AnyTerm: TypeAlias = ScoreTerm[Any]
AnyCountedTerm: TypeAlias = CountedTerm[Any]
AnyLearnedTerm: TypeAlias = LearnedTerm[Any]
