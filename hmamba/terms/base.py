"""What a score term provides. Terms are registered in :mod:`hmamba.score_terms` and listed in a model's ``terms``.

The index holds base scores: a function of a user's hidden state and an item's vector. A term adds evidence that does
not fit into such vectors, for a few candidate items a user. It may raise a score and never lowers one. Retrieval
therefore stays exact: an item without an entry can only be among the k best if it is among the k best by base score.
A model's terms are combined in order; the base scores of a term include the terms before it.

There are two kinds. A learned term is a ``torch.nn.Module`` whose parameters are trained with the model's loss; it is
saved with the model's weights. A counted term is counted from histories after the training and then weighed on the
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

    A term's own entries add what its ``combine`` reads.

    Attributes:
        rows: (E,) which of the R rows an entry belongs to.
        columns: (E,) columns of the candidate items.
    """

    rows: IntArray
    columns: IntArray


E = TypeVar("E", bound=Entries)


class ScoreTerm(Protocol[E]):
    """A part of the score that some candidate items get on top of their base score."""

    def entries(self, histories: Histories, candidate_items: CandidateItems) -> E:
        """The evidence in the histories of R users; entries of items that a user has seen are allowed.

        A user's entries depend on that user's history only. Events of weight 0 are among the histories.
        """

    def combine(self, base_E: Tensor, entries: E, hidden_Rd: Tensor) -> Tensor:
        """The scores (E,) of entries, none below its base score.

        Args:
            base_E: their base scores, in the model's precision and on its device.
            entries: of :meth:`entries`.
            hidden_Rd: the hidden states of the rows.
        """


class CountedTerm(ScoreTerm[E], Protocol[E]):
    """A term that is counted from histories. Objects do not change: recounting makes a new one.

    Attributes:
        name: under which the class is registered.
    """

    name: ClassVar[str]

    @classmethod
    def count(cls, histories: Histories, size: int) -> Self:
        """Count events of item indices below ``size``, with default weights."""

    def choices(self) -> Sequence[Self]:
        """This term with the weights among which the validation days choose."""

    def weights(self) -> dict[str, float]:
        """The numbers that are chosen on the validation days, by name; config.json keeps them."""

    def recounted(self, fresh: Self, size: int) -> Self:
        """The counts of ``fresh`` with this term's weights, without item indices from ``size`` on."""

    def save(self, folder: Path) -> None:
        """Write the counts into a model's folder, under file names of the term's own."""

    @classmethod
    def load(cls, folder: Path, size: int, **weights: float) -> Self:
        """Read what :meth:`save` wrote.

        Args:
            folder: of the model.
            size: item indices of the model, padding included.
            weights: as of :meth:`weights`.
        """


class LearnedTerm(ScoreTerm[E], Protocol[E]):
    """A term with parameters, a ``torch.nn.Module``; ``combine`` is log(exp(base) + exp(log rate)).

    The training loss adds the rates to the softmax (:mod:`hmamba.training.loss`). A model has at most one such term.
    """

    @classmethod
    def of(cls, config: Any, items: int) -> Self:
        """An untrained term for settings of the model and ``items`` item indices besides padding."""

    def entries_before(
        self, histories: Histories, candidate_items: CandidateItems, users: IntArray, ends: IntArray
    ) -> E:
        """The evidence at R moments, one for each row of a training batch. Called from a thread: reads no tensor.

        Args:
            histories: events that the model reads.
            candidate_items: the items that compete.
            users: (R,) the user of each row.
            ends: (R,) flat position after the last event that the row may use.
        """

    def entry_counts(self, histories: Histories, users: IntArray, ends: IntArray) -> IntArray:
        """Upper bounds (R,) of the number of entries of such rows, without computing them."""

    def log_rates(self, hidden_Rd: Tensor, entries: E) -> Tensor:
        """Log rates (E,) of entries, differentiable in the hidden states and the parameters."""

    def recount(self, events: Tensor, users: Tensor) -> None:
        """Replace the counts that the term keeps of each item.

        Args:
            events: (items + 1,) events of each item index.
            users: (items + 1,) users who have interacted with it.
        """

    def hold_categories(self, category_LV: IntArray) -> None:
        """Use these categories: (L, items + 1) numbers on each level of ``model.category_levels``."""

    def fast_parameters(self) -> list[nn.Parameter]:
        """Parameters that are trained at ten times the learning rate, without weight decay."""


AnyTerm: TypeAlias = ScoreTerm[Any]
AnyCountedTerm: TypeAlias = CountedTerm[Any]
AnyLearnedTerm: TypeAlias = LearnedTerm[Any]
