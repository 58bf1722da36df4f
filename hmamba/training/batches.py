"""From histories to training batches: windows packed end to end in one row, with no padding at all.

A row of the loss is a user after a basket; its targets are the items of the user's next basket. That is the question
that the night asks ("what next?"), it never looks inside a basket, and it is all positions at once. With a horizon the
baskets after the next one are targets too, each weighing less than the one before it: where histories are short and the
order within them says little, a user's later items are as good an answer, and there are more of them to learn from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import MICROSECONDS_A_DAY, FloatArray, Histories, IntArray, spans
from hmamba.terms.base import AnyLearnedTerm, Entries

if TYPE_CHECKING:
    from hmamba.config import Config

_HORIZON_FADE = 0.6  # weight of a basket's targets for each basket before it
_LEAST_WEIGHT = np.float32(1e-6)  # a batch of nothing but very old questions must not divide by zero

_MOST_ENTRIES = 1 << 20
"""Entries of the learned term in one batch. Those of repeats take about 0.5 GB with their gradients, a tenth more for
each level of categories. Rows times distinct items grows with the square of a history's length; a batch that would hold
more computes the loss of fewer of its rows, drawn again in each epoch."""


_STEPS, _LEAST_TOKENS, _MOST_TOKENS = 48, 256, 8192


def tokens_for(events: int) -> int:
    """Events of a batch, for so many training events.

    With few steps an epoch teaches little: on MovieLens (small, 100,000 events) 48 steps an epoch need half as many
    epochs as 12.
    """
    return min(_MOST_TOKENS, max(_LEAST_TOKENS, events // _STEPS))


@dataclass(frozen=True)
class Batch:
    """T tokens of whole windows, R rows of the loss.

    Attributes:
        items: (T,) item indices.
        segments: (T,) the window of each token.
        positions: (R,) the token after which each row asks.
        entries: of the learned term, by row; none where the model has no such term.
        targets: (row, column) of the next baskets' items, sorted by row.
        weights: of the targets. A row's sum is that of the events in its next basket (their number, where they have no
            weights), at the end of the training events, and less before.
        weight: their sum, over the parts of all ranks.
    """

    items: IntArray
    segments: IntArray
    positions: IntArray
    entries: Entries
    targets: tuple[IntArray, IntArray]
    weights: FloatArray
    weight: float


class Batches:
    """Training windows of a set of histories.

    Args:
        histories: what may be learnt from, in events that the model reads; its targets alone are predicted.
        candidate_items: which items compete.
        max_length: most events of a window; a longer history is cut into windows from its end.
        tokens: events of a batch.
        learned_term: the model's, for its entries; None without one.
        half_life_days: age at which a target counts half; None: all count alike.
        horizon: baskets whose items are targets of a row.
        share: of the rows, drawn again for each batch of an epoch; the rest is only read.
    """

    def __init__(
        self,
        histories: Histories,
        candidate_items: CandidateItems,
        *,
        max_length: int,
        tokens: int,
        learned_term: AnyLearnedTerm | None = None,
        share: float = 1.0,
        half_life_days: float | None = None,
        horizon: int = 1,
    ) -> None:
        self.histories, self.candidate_items, self.tokens = histories, candidate_items, tokens
        self.learned_term, self.share, self.half_life = learned_term, share, half_life_days
        self._end = int(histories.times.max(initial=0))
        starts = histories.basket_starts
        owner = histories.owner[starts[:-1]]
        asks = np.flatnonzero(owner[1:] == owner[:-1])  # a basket with a next basket of the same user
        self._ask_end = starts[asks + 1]
        next_end = starts[asks + 2]
        self._ask_user = owner[asks]
        self._basket = np.repeat(np.arange(len(starts) - 1), np.diff(starts)) if horizon > 1 else None
        last_basket = np.searchsorted(starts, histories.offsets[self._ask_user + 1]) - 1
        self._horizon_end = starts[np.minimum(asks + horizon, last_basket) + 1]
        self._strength = np.where((candidate_items.column[histories.items] >= 0) & histories.wanted, 1.0, 0.0)
        if histories.weights is not None:
            self._strength *= histories.weights
        so_far, number = (np.append(0, np.cumsum(part)) for part in (self._strength, self._strength > 0))
        targets = so_far[next_end] - so_far[self._ask_end]
        useful = number[next_end] > number[self._ask_end]
        self._ask_end, self._horizon_end, self._ask_user, self._targets = (
            part[useful] for part in (self._ask_end, self._horizon_end, self._ask_user, targets)
        )
        counts = -(-histories.lengths // max_length)
        ordinal = spans(np.zeros(len(histories), dtype=np.int64), counts)
        user = np.repeat(np.arange(len(histories)), counts)
        self.window_end = histories.offsets[user + 1] - ordinal * max_length
        self.window_start = np.maximum(self.window_end - max_length, histories.offsets[user])
        self.newest = ordinal == 0
        first = np.searchsorted(self._ask_end, self.window_start, side="right")
        last = np.searchsorted(self._ask_end, self.window_end, side="right")
        self._first_ask, self._asks = first, last - first
        self._entries = np.zeros(0, dtype=np.int64)
        if learned_term is not None:
            self._entries = learned_term.entry_counts(histories, self._ask_user, self._ask_end)

    @classmethod
    def of(
        cls, histories: Histories, candidate_items: CandidateItems, config: Config, learned_term: AnyLearnedTerm | None
    ) -> Batches:
        """The windows of these histories as the settings want them."""
        settings = config.train
        return cls(
            histories,
            candidate_items,
            max_length=settings.max_length,
            tokens=settings.tokens or tokens_for(histories.events),
            learned_term=learned_term,
            share=settings.row_share,
            half_life_days=settings.half_life_days,
            horizon=settings.horizon,
        )

    @property
    def rows(self) -> int:
        """Rows of the loss in all windows."""
        return int(self._asks.sum())

    def epoch(self, seed: int, chosen: npt.NDArray[np.bool_] | None = None) -> list[IntArray]:
        """Windows of each batch, shuffled by ``seed``; windows that ask nothing are left out.

        Args:
            seed: of the shuffle.
            chosen: (windows,) which windows take part; None for all.
        """
        useful = self._asks > 0
        windows = np.flatnonzero(useful if chosen is None else useful & chosen)
        np.random.default_rng(seed).shuffle(windows)
        filled = np.cumsum((self.window_end - self.window_start)[windows])
        cuts = np.flatnonzero(np.diff(filled // self.tokens)) + 1
        return [part for part in np.split(windows, cuts) if len(part)]

    def events(self, windows: IntArray) -> int:
        """Events in these windows."""
        return int((self.window_end - self.window_start)[windows].sum())

    def load(self, windows: IntArray, seed: int = 0, rank: int = 0, ranks: int = 1) -> Batch:
        """Build a rank's part of the batch of these windows.

        Args:
            windows: of the whole batch.
            seed: draws the rows if only a share of them is wanted; the same rows however many ranks there are.
            rank: whose part; windows are dealt out, the longest first.
            ranks: how many there are.
        """
        asks = spans(self._first_ask[windows], self._asks[windows])
        window = np.repeat(np.arange(len(windows)), self._asks[windows])
        random = np.random.default_rng(seed)
        if self.share < 1:
            drawn = random.random(len(asks)) < self.share
            drawn[0] = True
            asks, window = asks[drawn], window[drawn]
        if self.learned_term is not None and self._entries[asks].sum() > _MOST_ENTRIES:
            shuffled = random.permutation(len(asks))
            filled = np.cumsum(self._entries[asks[shuffled]])
            fitting = max(1, int(np.searchsorted(filled, _MOST_ENTRIES, side="right")))
            drawn = np.sort(shuffled[:fitting])
            asks, window = asks[drawn], window[drawn]
        weight = float((self._weights(asks) * self._targets[asks]).sum(dtype=np.float64))
        lengths = self.window_end[windows] - self.window_start[windows]
        if ranks > 1:
            dealt = np.sort(np.argsort(-lengths, kind="stable")[rank::ranks])
            mine = np.isin(window, dealt)
            asks, window = asks[mine], np.searchsorted(dealt, window[mine])
            windows, lengths = windows[dealt], lengths[dealt]
        return self._build(windows, lengths, asks, window, weight)

    def _build(self, windows: IntArray, lengths: IntArray, asks: IntArray, window: IntArray, weight: float) -> Batch:
        """The batch of these windows that asks these questions, each of one of the windows."""
        histories = self.histories
        shift = np.cumsum(lengths) - lengths - self.window_start[windows]
        ends = self._ask_end[asks]
        wanted = self._horizon_end[asks] - ends
        events = spans(ends, wanted)
        target_rows = np.repeat(np.arange(len(asks)), wanted)
        target_columns = self.candidate_items.column[histories.items[events]]
        known = self._strength[events] > 0
        target_rows, target_columns, events = target_rows[known], target_columns[known], events[known]
        entries = Entries(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        if self.learned_term is not None:
            entries = self.learned_term.entries_before(histories, self.candidate_items, self._ask_user[asks], ends)
        return Batch(
            items=histories.items[spans(self.window_start[windows], lengths)],
            segments=np.repeat(np.arange(len(windows)), lengths),
            positions=ends - 1 + shift[window],
            entries=entries,
            targets=(target_rows, target_columns),
            weights=self._weights(asks)[target_rows] * self._shares(asks, target_rows, events),
            weight=weight,
        )

    def _shares(self, asks: IntArray, rows: IntArray, events: IntArray) -> FloatArray:
        """What each target is of its row: its weight, or less where later baskets share that of the next one."""
        if self._basket is None:
            strength: FloatArray = self._strength[events].astype(np.float32)
            return strength
        later = self._basket[events] - self._basket[self._ask_end[asks]][rows]
        fading = _HORIZON_FADE**later * self._strength[events]
        whole = np.bincount(rows, weights=fading, minlength=len(asks))
        shares: FloatArray = (fading * (self._targets[asks] / whole)[rows]).astype(np.float32)
        return shares

    def _weights(self, asks: IntArray) -> FloatArray:
        if self.half_life is None:
            return np.ones(len(asks), dtype=np.float32)
        times = self.histories.times[self._ask_end[asks]]
        age: FloatArray = ((self._end - times) / MICROSECONDS_A_DAY / self.half_life).astype(np.float32)
        return np.maximum(np.exp2(-age), _LEAST_WEIGHT)
