"""The shop of the check: its histories, its settings, and the night's own training over them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from hmamba.evaluation.split import Split
from hmamba.models.files import Provenance, StoredModel
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories
from hmamba.training.fit import Fit
from hmamba.training.prepare import Preparation, prepare


@dataclass(frozen=True)
class Shop:
    """The histories with the settings under which the parts train on them.

    Attributes:
        histories: all events; the newest day is held out.
        config: settings, see :mod:`bench.gpu.settings`.
        folder: where models and checkpoints are kept while the check runs.
    """

    histories: Histories
    config: Any
    folder: Path

    @cached_property
    def ids(self) -> pa.Array:
        """(size,) item ids by index, null at 0."""
        return pa.array([None, *map(str, range(1, int(self.histories.items.max()) + 1))], pa.string())

    @cached_property
    def yesterday(self) -> Histories:
        """Everything before the newest day."""
        newest = int(self.histories.times.max()) // MICROSECONDS_A_DAY * MICROSECONDS_A_DAY
        return self.histories.between(None, newest)

    def ready(self, histories: Histories, name: str, parent: StoredModel | None = None, **changes: Any) -> Preparation:
        """A training as the night prepares it.

        Args:
            histories: all that is known on that night.
            name: of the folder for its checkpoints.
            parent: the stored model to fine-tune, or None.
            changes: fields of the plan to replace.
        """
        split = Split.of(histories, self.config)
        day = datetime.fromtimestamp(int(histories.times.max()) / 1e6, UTC).date()
        parent_version = parent.version if parent else None
        provenance = Provenance(day, parent_version, name, split.trained_until, "gpu check", split.mode)
        ready = prepare(histories, self.ids, provenance, parent, split, self.folder / name, self.config)
        return replace(ready, plan=replace(ready.plan, **changes)) if changes else ready

    def stored(self, ready: Preparation) -> StoredModel:
        """A trained model with its items, as scoring reads it."""
        name = ready.provenance.version
        return StoredModel(name, ready.provenance, ready.model.eval(), ready.plan.candidate_items, self.ids)

    def champion(self) -> StoredModel:
        """The model of the night before, trained from nothing for one epoch; by whichever part asks first."""
        ready = self.ready(self.yesterday, "champion")
        weights = self.folder / "champion.pt"
        if weights.exists():
            ready.model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        else:
            Fit(ready.model, ready.plan).run()
            partial = weights.with_suffix(".part")
            torch.save({name: value.cpu() for name, value in ready.model.state_dict().items()}, partial)
            partial.replace(weights)
        return self.stored(ready)
