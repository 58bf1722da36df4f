"""Sampled softmax, for so many candidate items that the full softmax takes too long.

The columns of a step are D, the columns of the targets and of the learned term's entries, and S negatives. These are
drawn with replacement from a proposal q restricted to the complement of D, and shared by all rows. Adding
-log(S q_j / (1 - q(D))) to the logit of a drawn column j makes the estimate of each row's normaliser

    sum over D of exp(l_j) + sum over draws of exp(l_j) (1 - q(D)) / (S q_j)

unbiased (Bengio & Senecal, 2003; Jean et al., 2015). The logarithm of the estimate, and hence the loss, is biased low.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hmamba.sequences.histories import FloatArray, IntArray
from hmamba.training.batches import Batch
from hmamba.training.ranks import Ranks

_FLATTENING = 0.75  # exponent of popularity, as in word2vec: popular negatives are hard, but the tail needs draws too
_UNIFORM_SHARE = 0.5  # uniform part of the proposal; bounds the weight of a draw by twice that of uniform sampling
_STREAM = 1  # makes these draws independent of others with the same seed


class Negatives:
    """Draws the columns of a step.

    Args:
        events_V: number of training events of each column.
        draws: number of draws S.
    """

    def __init__(self, events_V: IntArray, draws: int) -> None:
        popularity = np.maximum(events_V, 1) ** _FLATTENING
        self.draws = draws
        self.chance_V = (1 - _UNIFORM_SHARE) * popularity / popularity.sum() + _UNIFORM_SHARE / len(events_V)

    def draw(self, sure: IntArray, seed: int) -> tuple[IntArray, FloatArray]:
        """Draw the columns of a step; return them, ascending, and the values to add to their logits.

        Args:
            sure: the columns D, ascending and distinct; zero is added to their logits.
            seed: seed of the draws.
        """
        chance_V = self.chance_V.copy()
        chance_V[sure] = 0.0
        cumulated_V = np.cumsum(chance_V)
        rest = cumulated_V[-1]
        if rest <= 0:
            return sure, np.zeros(len(sure), dtype=np.float32)
        points = np.random.default_rng([_STREAM, seed]).random(self.draws) * rest
        drawn = np.searchsorted(cumulated_V, np.minimum(points, np.nextafter(rest, 0)), side="right")
        others, times = np.unique(drawn, return_counts=True)
        raised = np.log(times * rest / (self.draws * chance_V[others]))
        columns = np.concatenate([sure, others])
        order = np.argsort(columns)
        shift = np.concatenate([np.zeros(len(sure)), raised])[order].astype(np.float32)
        return columns[order], shift

    def narrow(self, batch: Batch, ranks: Ranks, seed: int) -> tuple[Batch, IntArray, FloatArray]:
        """Draw the columns of a step and renumber the batch's columns; return the batch, columns and shifts.

        All ranks draw the same columns: D is the union over the ranks.
        """
        row, column = batch.targets
        sure = ranks.union(np.concatenate([column, batch.entries.columns]), len(self.chance_V))
        columns, shift = self.draw(sure, seed)
        entries = replace(batch.entries, columns=np.searchsorted(columns, batch.entries.columns))
        return replace(batch, entries=entries, targets=(row, np.searchsorted(columns, column))), columns, shift
