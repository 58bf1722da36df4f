"""Lists under the rules of a night, from the model that serves or from a baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from hmamba.candidates.retrieve import Ranked, retrieve_apart
from hmamba.evaluation.ranking import Quota
from hmamba.index.index import ItemIndex
from hmamba.index.narrowed import narrowed
from hmamba.models.files import StoredModel
from hmamba.rules.apply import Effects, Serving, apply
from hmamba.rules.night import NightRules
from hmamba.rules.tables import BoolArray, Likeness, Lists, VectorLikeness
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray

OfBaseline = Callable[[Histories, int], Ranked]
"""The k best items of each user by a baseline."""


@dataclass(frozen=True)
class Ruled:
    """Makes lists of ``k`` items under rules.

    Attributes:
        rules: the rules of the night.
        k: number of items of a user.
        shard: the shard of the users.
        index: the index of the model that serves; None for a baseline.
        device: device of the model.
    """

    rules: NightRules
    k: int
    shard: int
    index: ItemIndex | None = None
    device: torch.device | None = None

    @cached_property
    def _narrowed(self) -> ItemIndex:
        """The index without the items that are not recommended to anybody."""
        assert self.index is not None
        return narrowed(self.index, self.rules.always, self.device)

    @cached_property
    def _likeness(self) -> Likeness | None:
        """Likeness of the items by their vectors, if diversity needs it."""
        diversity = self.rules.book.diversity
        if self.index is None or diversity is None or self.rules.likeness is not None:
            return None
        return likeness_of(self.index)

    def of_model(
        self,
        stored: StoredModel,
        index: ItemIndex,
        reading: Histories,
        hidden_Ud: torch.Tensor,
        histories: Histories,
        effects: Effects,
        *,
        exclude_seen: bool,
    ) -> Ranked:
        """The candidates of U users by the model.

        Args:
            stored: the model.
            index: its index.
            reading: (U) histories as the model reads them.
            hidden_Ud: hidden states of the users.
            histories: (U) the same histories with all events.
            effects: what the rules did is added here.
            exclude_seen: whether items that the user has seen are left out.
        """

        def best(rows: IntArray, depth: int, *, narrowed: bool) -> tuple[Lists, Lists | None]:
            # A ranker orders the best items: which they are must not depend on which are left out.
            searched = self._narrowed if narrowed and stored.model.ranker is None else index
            hidden_Rd = hidden_Ud[torch.from_numpy(rows)]
            known, new = retrieve_apart(
                stored, searched, reading.select(rows), hidden_Rd, k=depth, exclude_seen=exclude_seen
            )
            return known.table(len(rows)), None if new is None else new.table(len(rows))

        serving = Serving(
            k=self.k,
            retrieve=best,
            join=None if index.new is None else Quota.of(self.k, index.new_share).apply,
            candidate=self._candidate(index.served_items),
            seen=self._seen(index.served_items, reading, exclude_seen),
            likeness=self._likeness,
        )
        return self._applied(histories, serving, effects)

    def of_baseline(
        self,
        of_baseline: OfBaseline,
        histories: Histories,
        candidate_items: CandidateItems,
        effects: Effects,
        *,
        exclude_seen: bool,
        is_log: bool = False,
    ) -> Ranked:
        """The candidates of U users by a baseline; ``is_log``: whether its scores are logs. Otherwise as above."""

        def best(rows: IntArray, depth: int, *, narrowed: bool) -> tuple[Lists, Lists | None]:
            return of_baseline(histories.select(rows), depth).table(len(rows)), None

        serving = Serving(
            k=self.k,
            retrieve=best,
            join=None,
            candidate=self._candidate(candidate_items),
            seen=self._seen(candidate_items, histories, exclude_seen),
            is_log=is_log,
        )
        return self._applied(histories, serving, effects)

    def _applied(self, histories: Histories, serving: Serving, effects: Effects) -> Ranked:
        lists, own = apply(self.rules.block(histories, shard=self.shard), serving)
        effects.add(own)
        return Ranked.of_table(lists)

    def _candidate(self, candidate_items: CandidateItems) -> BoolArray:
        """(size,) items that may be recommended."""
        candidate = np.zeros(self.rules.size, dtype=bool)
        candidate[candidate_items.eligible] = True
        return candidate

    def _seen(self, candidate_items: CandidateItems, histories: Histories, exclude_seen: bool) -> IntArray | None:
        """Ascending keys (row times size plus item) of seen items, if pins have to leave them out."""
        if not exclude_seen or not self.rules.book.pin:
            return None
        rows, columns = candidate_items.seen(histories, np.arange(len(histories)))
        keys: IntArray = rows * self.rules.size + candidate_items.eligible[columns]
        return keys


def likeness_of(index: ItemIndex) -> VectorLikeness:
    """Likeness of the items of an index by the direction of their vectors, without time coordinate and bias."""
    parts = [index] if index.new is None else [index, index.new]
    vectors = np.concatenate([part.vectors[:, 1:-1] for part in parts])
    column = np.full(len(index.candidate_items.column), -1, dtype=np.int64)
    start = 0
    for part in parts:
        column[part.candidate_items.eligible] = np.arange(start, start + len(part.candidate_items))
        start += len(part.candidate_items)
    return VectorLikeness(vectors, column)
