"""Build training batches from histories: windows packed end to end, without padding.

A row of the loss is a user after a basket; its targets are the items of the user's next basket. This is the task at
serving time, it does not depend on the order inside a basket, and one pass gives all rows of a window. With a horizon,
the baskets after the next one are targets too, each with less weight than the one before it. This gives more targets,
which helps with short histories whose order carries little information.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import MICROSECONDS_A_DAY, FloatArray, Histories, IntArray, offsets_of, owners, spans
from hmamba.terms.base import AnyLearnedTerm, Entries

if TYPE_CHECKING:
    from hmamba.config import Config
    from hmamba.recipe import Recipe

_HORIZON_FADE = 0.6  # factor on the targets' weight for each further basket
_LEAST_WEIGHT = np.float32(1e-6)  # avoids a division by zero in a batch of very old rows

_MOST_ENTRIES = 1 << 20
"""Largest number of the learned term's entries in a batch. Those of repeats take about 0.5 GB with their gradients, and
a tenth more for each category level. Rows times distinct items grows with the square of a history's length. For a batch
above the limit, the loss is computed for a random subset of its rows, drawn again in each epoch."""


@dataclass(frozen=True)
class Batch:
    """T tokens of whole windows, and R rows of the loss.

    Attributes:
        items: (T,) item indices.
        segments: (T,) window of each token.
        positions: (R,) token after which each row predicts.
        entries: entries of the learned term, by row; empty without such a term.
        targets: (row, column) of the next baskets' items, sorted by row.
        weights: weights of the targets. Their sum over a row is the weight of the events in the next basket (or their
            number), times a factor for its age: 1 at the end of the training events, less before.
        weight: sum of the weights over the parts of all ranks.
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
        histories: training events that the model reads; only its wanted events are targets.
        candidate_items: the candidate items.
        max_length: largest number of events per window; a longer history is cut into windows from its end.
        tokens: number of events per batch.
        learned_term: the model's learned term, for its entries; None without one.
        share: share of the rows that are used, drawn for each batch of an epoch; the others are only read.
        half_life_days: age in days at which a target's weight is halved; None for equal weights.
        horizon: number of next baskets whose items are targets of a row.
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
        rows = np.flatnonzero(owner[1:] == owner[:-1])  # baskets with a next basket of the same user
        self._row_end = starts[rows + 1]
        next_end = starts[rows + 2]
        self._row_user = owner[rows]
        self._basket = owners(np.diff(starts)) if horizon > 1 else None
        last_basket = np.searchsorted(starts, histories.offsets[self._row_user + 1]) - 1
        self._horizon_end = starts[np.minimum(rows + horizon, last_basket) + 1]
        self._strength = np.where((candidate_items.column[histories.items] >= 0) & histories.wanted, 1.0, 0.0)
        if histories.weights is not None:
            self._strength *= histories.weights
        so_far, number = (np.append(0, np.cumsum(part)) for part in (self._strength, self._strength > 0))
        targets = so_far[next_end] - so_far[self._row_end]
        useful = number[next_end] > number[self._row_end]
        self._row_end, self._horizon_end, self._row_user, self._targets = (
            part[useful] for part in (self._row_end, self._horizon_end, self._row_user, targets)
        )
        counts = -(-histories.lengths // max_length)
        ordinal = spans(np.zeros(len(histories), dtype=np.int64), counts)
        user = owners(counts)
        self.window_end = histories.offsets[user + 1] - ordinal * max_length
        self.window_start = np.maximum(self.window_end - max_length, histories.offsets[user])
        self.newest = ordinal == 0
        first = np.searchsorted(self._row_end, self.window_start, side="right")
        last = np.searchsorted(self._row_end, self.window_end, side="right")
        self._first_row, self._row_counts = first, last - first
        self._entries = np.zeros(0, dtype=np.int64)
        if learned_term is not None:
            self._entries = learned_term.entry_counts(histories, self._row_user, self._row_end)

    @classmethod
    def of(
        cls,
        histories: Histories,
        candidate_items: CandidateItems,
        config: Config,
        recipe: Recipe,
        learned_term: AnyLearnedTerm | None,
    ) -> Batches:
        """Windows of these histories according to the settings."""
        settings = config.train
        return cls(
            histories,
            candidate_items,
            max_length=settings.max_length,
            tokens=recipe.tokens,
            learned_term=learned_term,
            share=settings.row_share,
            half_life_days=settings.half_life_days,
            horizon=recipe.horizon,
        )

    @property
    def rows(self) -> int:
        """Number of rows of the loss in all windows."""
        return int(self._row_counts.sum())

    def epoch(self, seed: int, chosen: npt.NDArray[np.bool_] | None = None) -> list[IntArray]:
        """Windows of each batch, shuffled; windows without rows are left out.

        Args:
            seed: seed of the shuffle.
            chosen: (windows,) whether each window is used; None for all.
        """
        useful = self._row_counts > 0
        windows = np.flatnonzero(useful if chosen is None else useful & chosen)
        np.random.default_rng(seed).shuffle(windows)
        filled = np.cumsum((self.window_end - self.window_start)[windows])
        cuts = np.flatnonzero(np.diff(filled // self.tokens)) + 1
        return [part for part in np.split(windows, cuts) if len(part)]

    def events(self, windows: IntArray) -> int:
        """Number of events in these windows."""
        return int((self.window_end - self.window_start)[windows].sum())

    def load(self, windows: IntArray, seed: int = 0, rank: int = 0, ranks: int = 1) -> Batch:
        """Build a rank's part of a batch.

        Args:
            windows: windows of the whole batch.
            seed: seed of the rows that are drawn; they do not depend on the number of ranks.
            rank: the rank; windows are distributed over the ranks, the longest first.
            ranks: number of ranks.
        """
        rows = spans(self._first_row[windows], self._row_counts[windows])
        window = owners(self._row_counts[windows])
        random = np.random.default_rng(seed)
        if self.share < 1:
            drawn = random.random(len(rows)) < self.share
            drawn[0] = True
            rows, window = rows[drawn], window[drawn]
        if self.learned_term is not None and self._entries[rows].sum() > _MOST_ENTRIES:
            shuffled = random.permutation(len(rows))
            filled = np.cumsum(self._entries[rows[shuffled]])
            fitting = max(1, int(np.searchsorted(filled, _MOST_ENTRIES, side="right")))
            drawn = np.sort(shuffled[:fitting])
            rows, window = rows[drawn], window[drawn]
        weight = float((self._weights(rows) * self._targets[rows]).sum(dtype=np.float64))
        lengths = self.window_end[windows] - self.window_start[windows]
        if ranks > 1:
            dealt = np.sort(np.argsort(-lengths, kind="stable")[rank::ranks])
            is_dealt = np.isin(window, dealt)
            rows, window = rows[is_dealt], np.searchsorted(dealt, window[is_dealt])
            windows, lengths = windows[dealt], lengths[dealt]
        return self._build(windows, lengths, rows, window, weight)

    def _build(self, windows: IntArray, lengths: IntArray, rows: IntArray, window: IntArray, weight: float) -> Batch:
        """Build the batch of these windows with these rows; ``window`` is the window of each row."""
        histories = self.histories
        shift = offsets_of(lengths)[:-1] - self.window_start[windows]
        ends = self._row_end[rows]
        counts = self._horizon_end[rows] - ends
        events = spans(ends, counts)
        target_rows = owners(counts)
        target_columns = self.candidate_items.column[histories.items[events]]
        known = self._strength[events] > 0
        target_rows, target_columns, events = target_rows[known], target_columns[known], events[known]
        entries = Entries(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        if self.learned_term is not None:
            asked = histories.times[ends]  # the next basket's
            entries = self.learned_term.entries_before(
                histories, self.candidate_items, self._row_user[rows], ends, asked
            )
        return Batch(
            items=histories.items[spans(self.window_start[windows], lengths)],
            segments=owners(lengths),
            positions=ends - 1 + shift[window],
            entries=entries,
            targets=(target_rows, target_columns),
            weights=self._weights(rows)[target_rows] * self._shares(rows, target_rows, events),
            weight=weight,
        )

    def _shares(self, rows: IntArray, target_rows: IntArray, events: IntArray) -> FloatArray:
        """Weight of each target in its row; with a horizon, all its baskets share the weight of the next one."""
        if self._basket is None:
            strength: FloatArray = self._strength[events].astype(np.float32)
            return strength
        later = self._basket[events] - self._basket[self._row_end[rows]][target_rows]
        fading = _HORIZON_FADE**later * self._strength[events]
        whole = np.bincount(target_rows, weights=fading, minlength=len(rows))
        shares: FloatArray = (fading * (self._targets[rows] / whole)[target_rows]).astype(np.float32)
        return shares

    def _weights(self, rows: IntArray) -> FloatArray:
        if self.half_life is None:
            return np.ones(len(rows), dtype=np.float32)
        times = self.histories.times[self._row_end[rows]]
        age: FloatArray = ((self._end - times) / MICROSECONDS_A_DAY / self.half_life).astype(np.float32)
        return np.maximum(np.exp2(-age), _LEAST_WEIGHT)
