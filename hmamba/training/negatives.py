"""Sampled softmax for catalogues whose full softmax would take most of a night.

The columns that take part in a step are D, the targets and the entries of the learned term, and S draws, with
replacement and shared by all rows, from a proposal q restricted to the complement of D. A drawn column j stands for
others like it: its logit is raised by -log(S q_j / (1 - q(D))), which makes the estimate of each row's normaliser

    sum over D of exp(l_j) + sum over draws of exp(l_j) (1 - q(D)) / (S q_j)

unbiased (Bengio & Senecal, 2003; Jean et al., 2015). Its logarithm, and with it the reported loss, is a little low.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hmamba.sequences.histories import FloatArray, IntArray
from hmamba.training.batches import Batch
from hmamba.training.ranks import Ranks

_FLATTENING = 0.75  # of popularity, as in word2vec: hard negatives are popular, but the tail must be met too
_UNIFORM_SHARE = 0.5  # of the proposal; bounds the weight of any draw by twice that of uniform draws
_STREAM = 1  # keeps these draws apart from others of the same seed


class Negatives:
    """Draws the columns of a step.

    Args:
        events_V: of each column, in training.
        draws: S.
    """

    def __init__(self, events_V: IntArray, draws: int) -> None:
        popularity = np.maximum(events_V, 1) ** _FLATTENING
        self.draws = draws
        self.chance_V = (1 - _UNIFORM_SHARE) * popularity / popularity.sum() + _UNIFORM_SHARE / len(events_V)

    def draw(self, sure: IntArray, seed: int) -> tuple[IntArray, FloatArray]:
        """Columns that take part, ascending, and what is added to their logits.

        Args:
            sure: D, ascending, each once. Nothing is added to their logits.
            seed: the same seed draws the same columns.
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
        """A batch whose columns count those that take part, with those columns and what is added to their logits.

        All ranks draw the same columns: D is what any of them mentions.
        """
        row, column = batch.targets
        sure = ranks.union(np.concatenate([column, batch.entries.columns]), len(self.chance_V))
        columns, shift = self.draw(sure, seed)
        entries = replace(batch.entries, columns=np.searchsorted(columns, batch.entries.columns))
        return replace(batch, entries=entries, targets=(row, np.searchsorted(columns, column))), columns, shift
