"""The interface of score terms. They are registered in :mod:`hmamba.score_terms` and listed in a model's ``terms``.

The index holds base scores, which are functions of a user's hidden state and an item's vector. A term adds evidence
that does not fit into such vectors, for a few candidate items per user. It may raise a score and never lowers one.
Retrieval therefore stays exact: an item without an entry can be among the k best only if it is among the k best by base
score. A model's terms are combined in order; the base scores of a term include the terms before it.

There are two kinds. A learned term is a ``torch.nn.Module`` whose parameters are trained with the model's loss and
saved with the model's weights. A counted term is counted from histories and item attributes after training, and has
features; one fit on the validation days weights the features of all counted terms
(:mod:`hmamba.training.term_weights`), and they are added to the score as one (:class:`WeightedTerms`). It saves its own
files in the model's folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray, owners

if TYPE_CHECKING:
    import scipy.sparse as sp
    from torch import Tensor, nn

FloatArray = npt.NDArray[np.float32]


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


@dataclass(frozen=True)
class Evidence(Entries):
    """Entries of a counted term.

    Attributes:
        features: (E, F) values of the term's features, none below 0.
    """

    features: FloatArray


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


class CountedTerm(Protocol):
    """A term that is counted from histories and attributes. Objects are immutable: a recount creates a new one.

    Attributes:
        name: name under which the class is registered.
        features: name of each feature, and the weight above 0 that it gets without validation events, relative to a
            base score of weight 1.
    """

    name: ClassVar[str]
    features: ClassVar[Mapping[str, float]]

    @classmethod
    def count(cls, histories: Histories, size: int, attributes: sp.csr_array | None) -> Self | None:
        """Count events and attributes of item indices below ``size``; None if the data holds no evidence of this kind.

        Args:
            histories: the events to count.
            size: number of item indices, padding included.
            attributes: (size or more, A) 1 where an item has an attribute; None without attributes.
        """

    def entries(self, histories: Histories, candidate_items: CandidateItems) -> Evidence:
        """The features of candidate items for R users, as :meth:`ScoreTerm.entries`."""

    def behind(
        self, weights: Mapping[str, float], histories: Histories, rows: IntArray, items: IntArray
    ) -> sp.csr_array:
        """How much each item of a user's history has contributed to the evidence for an item.

        Args:
            weights: weight of each feature by name.
            histories: histories of R users.
            rows: (P,) user of each pair, of R.
            items: (P,) item index of each pair.

        Returns:
            (P, size) by item index of the history, none below 0. Only ratios within a row have a meaning; a row is
            empty where the evidence comes from no item of the history.
        """

    def resized(self, size: int) -> Self:
        """These counts for item indices below ``size``."""

    def save(self, folder: Path) -> None:
        """Write the counts into a model's folder, to files that no other term uses."""

    @classmethod
    def load(cls, folder: Path, size: int) -> Self:
        """Read what :meth:`save` wrote, for a model of ``size`` item indices, padding included."""


@dataclass(frozen=True)
class WeightedTerm:
    """A counted term with the weights of its features.

    Attributes:
        term: the counts.
        weights: weight of each feature by name, none below 0.
    """

    term: CountedTerm
    weights: Mapping[str, float]

    def added(self, histories: Histories, candidate_items: CandidateItems) -> Added:
        """What the term adds to the base scores of candidate items, for R users."""
        entries = self.term.entries(histories, candidate_items)
        weights = np.array([self.weights[name] for name in self.term.features], dtype=np.float32)
        return Added(entries.rows, entries.columns, entries.features @ weights)


@dataclass(frozen=True)
class Added(Entries):
    """Entries of all counted terms together.

    Attributes:
        added: (E,) what is added to the base score, not below 0.
    """

    added: FloatArray


@dataclass(frozen=True)
class WeightedTerms:
    """The counted terms of a model as one term: the score is base score + the sum over terms of features @ weights.

    Attributes:
        terms: one or more terms.
    """

    terms: Sequence[WeightedTerm]

    def entries(self, histories: Histories, candidate_items: CandidateItems) -> Added:
        """As :meth:`ScoreTerm.entries`."""
        import scipy.sparse as sp

        parts = [weighted.added(histories, candidate_items) for weighted in self.terms]
        if len(parts) == 1:
            return parts[0]
        shape = (len(histories), len(candidate_items))
        ends = [np.searchsorted(part.rows, np.arange(shape[0] + 1)) for part in parts]
        # Adding sparse matrices takes a fraction of the time of sorting millions of entries.
        total = reduce(
            add, (sp.csr_array((part.added, part.columns, end), shape) for part, end in zip(parts, ends, strict=True))
        )
        return Added(owners(np.diff(total.indptr)), total.indices.astype(np.int64), total.data)

    def combine(self, base_E: Tensor, entries: Added, hidden_Rd: Tensor) -> Tensor:
        """As :meth:`ScoreTerm.combine`."""
        return base_E + base_E.new_tensor(entries.added)


class LearnedTerm(ScoreTerm[E], Protocol[E]):
    """A term with parameters, a ``torch.nn.Module``; ``combine`` is log(exp(base) + exp(log rate)).

    The training loss adds the rates to the softmax (:mod:`hmamba.training.loss`). A model has at most one such term.
    """

    @classmethod
    def of(cls, config: Any, items: int) -> Self:
        """Create an untrained term for a model's settings and ``items`` item indices, padding not counted."""

    def entries_before(
        self,
        histories: Histories,
        candidate_items: CandidateItems,
        users: IntArray,
        ends: IntArray,
        asked: IntArray | None = None,
    ) -> E:
        """Evidence for each row of a training batch. Called from a thread, so it must not read tensors.

        Args:
            histories: events that the model reads.
            candidate_items: the candidate items.
            users: (R,) user of each row.
            ends: (R,) flat position after the last event that the row may use.
            asked: (R,) time for which each row recommends, microseconds; None: its newest event.
        """

    def entry_counts(self, histories: Histories, users: IntArray, ends: IntArray) -> IntArray:
        """Upper bounds (R,) of the number of entries of each row, without computing the entries."""

    def inputs(self, entries: E) -> FloatArray:
        """Numbers (E, F) from which the rates of entries follow, hidden states apart."""

    def counts_of(self, item_index: Tensor) -> Tensor:
        """The stored counts (V, C) of items (V,)."""

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
AnyLearnedTerm: TypeAlias = LearnedTerm[Any]

if TYPE_CHECKING:
    _conforms: type[ScoreTerm[Added]] = WeightedTerms
