"""The recipe of a training: settings that follow from the data where the configuration does not give them.

The rules and the measurements behind them are in docs/model.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hmamba.errors import InputError
from hmamba.text import counted

if TYPE_CHECKING:
    from hmamba.config import Config
    from hmamba.config.learning import ModelConfig
    from hmamba.sequences.histories import Histories

_STEPS_IN_EPOCH, _LEAST_TOKENS, _MOST_TOKENS = 64, 256, 8192
_STEPS = 1800
_LEAST_EPOCHS, _MOST_EPOCHS = 3, 60
_PATIENCE_STEPS, _LEAST_PATIENCE = 350, 3
_SHORT = 20  # events of the median user
_SPARSE = 50.0  # events of the average item
_MOST_LEVELS = 4


@dataclass(frozen=True)
class Recipe:
    """Settings of one training.

    Attributes:
        tokens: events per optimiser step.
        epochs: maximum number of epochs from scratch.
        patience: epochs without a better validation value before stopping.
        dropout: dropout rate.
        horizon: number of next baskets that the loss predicts.
    """

    tokens: int
    epochs: int
    patience: int
    dropout: float
    horizon: int

    @classmethod
    def of(cls, config: Config, events: int, items: int, typical: float) -> Recipe:
        """The given settings, and for the others those of the rules.

        Args:
            config: all settings.
            events: number of training events.
            items: number of their items.
            typical: events of the median user with two events or more.
        """
        train, dropout = config.train, config.model.dropout
        later_count = config.candidates.exclude_seen and typical < _SHORT
        tokens = train.tokens or min(_MOST_TOKENS, max(_LEAST_TOKENS, events // _STEPS_IN_EPOCH))
        steps = max(1, round(events / tokens))
        return cls(
            tokens=tokens,
            epochs=train.epochs or min(_MOST_EPOCHS, max(_LEAST_EPOCHS, round(_STEPS / steps))),
            patience=train.patience or max(_LEAST_PATIENCE, round(_PATIENCE_STEPS / steps)),
            dropout=(0.5 if events < _SPARSE * items else 0.2) if dropout is None else dropout,
            horizon=train.horizon or (5 if later_count else 1),
        )

    def __str__(self) -> str:
        targets = "the next basket" if self.horizon == 1 else f"the next {self.horizon} baskets"
        return (
            f"{counted(self.epochs, 'epoch')} at most, fewer if {self.patience} in a row bring nothing; "
            f"{self.tokens:,} events a step; dropout {self.dropout:g}; {targets} predicted"
        )

    @classmethod
    def for_histories(cls, config: Config, histories: Histories) -> Recipe:
        """The recipe for these training events."""
        lengths = histories.lengths[histories.lengths > 1]
        items = len(np.unique(histories.items))
        return cls.of(config, histories.events, items, float(np.median(lengths)) if len(lengths) else 0.0)


def with_levels(model: ModelConfig, depth: int, parent: ModelConfig | None = None) -> ModelConfig:
    """Settings with ``category_levels``: those given, else the parent's, else those that the catalogue has.

    A catalogue that gains or loses all its categories changes the levels, and with them the weights that a model has.

    Args:
        model: the settings.
        depth: length of the longest category path; 0 without categories.
        parent: settings of the model that training starts from.

    Raises:
        InputError: a given level is deeper than all paths.
    """
    levels = model.category_levels
    if levels is None:
        kept = parent.category_levels if parent is not None and depth else None
        levels = kept or tuple(range(1, min(depth, _MOST_LEVELS) + 1))
    elif levels and levels[-1] > depth:
        raise InputError(
            f"model.category_levels = {list(levels)}, but the deepest category path of the catalogue has {depth} "
            "levels. Say where the categories are in [catalogue], or change model.category_levels ([] for none)."
        )
    return model if levels == model.category_levels else model.model_copy(update={"category_levels": levels})


def with_dropout(model: ModelConfig, dropout: float) -> ModelConfig:
    """The settings with this dropout rate."""
    return model if dropout == model.dropout else model.model_copy(update={"dropout": dropout})
