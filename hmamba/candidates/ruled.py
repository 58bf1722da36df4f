"""Lists under the rules of a night, from the model that serves or from a baseline."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from hmamba.candidates.retrieve import Favoured, Ranked, retrieve_table
from hmamba.evaluation.ranking import Quota
from hmamba.index.base import Searcher
from hmamba.index.index import ItemIndex
from hmamba.index.narrowed import NarrowedSearcher, narrowed
from hmamba.models.files import StoredModel
from hmamba.rules.apply import Effects, Found, Serving, apply
from hmamba.rules.tables import BoolArray, Likeness, Lists, VectorLikeness
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray

if TYPE_CHECKING:
    from hmamba.rules.night import NightRules

_LITTLE = 0.02
"""Logs of factors up to this raise an item a little."""
_MOST, _LEAST, _WIDER = 0.5, 32, 1.5
"""Rising items are searched by themselves if they are at most this share of all. At least so many are looked for, and
so many times their share of the list."""

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
    def _rising(self) -> IntArray:
        """Columns of the items that boosts may raise by more than a little; none if that is most items."""
        assert self.index is not None
        rising = np.flatnonzero(self.rules.rise[self.index.candidate_items.eligible] > _LITTLE)
        return rising if len(rising) <= _MOST * len(self.index.candidate_items) else rising[:0]

    @cached_property
    def _favoured(self) -> Searcher:
        """The search for these items."""
        assert self.index is not None
        return NarrowedSearcher(self.index.vectors, self._rising, self.device)

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

        def best(rows: IntArray, depth: int, *, narrowed: bool) -> tuple[Found, Found | None]:
            # A ranker orders the best items: which they are must not depend on which are left out.
            searched = self._narrowed if narrowed and stored.model.ranker is None else index
            hidden_Rd, past = hidden_Ud[torch.from_numpy(rows)], reading.select(rows)
            table = partial(retrieve_table, stored, histories=past, hidden_Ud=hidden_Rd, exclude_seen=exclude_seen)
            known = self._known(table, searched, depth, is_reranked=stored.model.ranker is not None)
            if searched.new is None:
                return known, None
            new = table(index=searched.new, k=depth, rerank=False)
            rise = float(self.rules.rise[searched.new.candidate_items.eligible].max(initial=0))
            return known, Found.of(new, depth, rise, is_log=True)

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
        rise = float(self.rules.rise[candidate_items.eligible].max(initial=0))

        def best(rows: IntArray, depth: int, *, narrowed: bool) -> tuple[Found, Found | None]:
            lists = of_baseline(histories.select(rows), depth).table(len(rows))
            return Found.of(lists, depth, rise, is_log=is_log), None

        serving = Serving(
            k=self.k,
            retrieve=best,
            join=None,
            candidate=self._candidate(candidate_items),
            seen=self._seen(candidate_items, histories, exclude_seen),
            is_log=is_log,
        )
        return self._applied(histories, serving, effects)

    def _known(self, table: Callable[..., Lists], index: ItemIndex, depth: int, *, is_reranked: bool) -> Found:
        """The best known items. Those that boosts may raise are also searched by themselves.

        The score of any other item beyond the list can rise a little only, so that few lists have to be longer.
        """
        rise = self.rules.rise[index.candidate_items.eligible]
        rising = self._rising
        if is_reranked or not len(rising):
            return Found.of(table(index=index, k=depth), depth, float(rise.max(initial=0)), is_log=True)
        share = len(rising) / len(index.candidate_items)
        some = min(len(rising), max(_LEAST, math.ceil(_WIDER * share * depth)))
        favoured = Favoured(self._favoured, some, depth + some)
        items, scores = table(index=index, k=depth, favoured=favoured)
        is_rising = np.zeros(self.rules.size, dtype=bool)
        is_rising[index.candidate_items.eligible[rising]] = True
        own = is_rising[items] & (items >= 0)
        number = np.cumsum(own, axis=1)
        is_listed = (np.arange(items.shape[1]) < depth) | (own & (number <= some))
        is_cut = items[:, -1] >= 0
        # Beyond the list: others below the place ``depth``, rising ones below the last of them that was looked for.
        last = scores[:, depth - 1].astype(np.float64) + float(np.delete(rise, rising).max(initial=0))
        at_last = np.where(own & (number == some), scores, -np.inf).max(axis=1)
        of_rising = np.where(number[:, -1] >= some, at_last, np.where(is_cut, scores[:, -1], -np.inf))
        if some == len(rising):
            of_rising = np.where(number[:, -1] >= some, -np.inf, of_rising)
        bounds = np.maximum(last, of_rising + float(rise[rising].max(initial=0))).astype(np.float32)
        return Found((np.where(is_listed, items, -1), scores), bounds)

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
