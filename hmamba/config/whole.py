"""All settings together, and what one section asks of another."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from hmamba.config.data import (
    CatalogueConfig,
    EventsConfig,
    QualityConfig,
    SnapshotConfig,
    SourceConfig,
    WarehouseConfig,
)
from hmamba.config.learning import CandidatesConfig, GateConfig, ModelConfig, TrainConfig
from hmamba.config.section import Section
from hmamba.storage.local import digest


class Config(Section):
    """All settings."""

    name: str = Field("hmamba", description="For people; nothing depends on it.")
    source: SourceConfig = SourceConfig()
    events: EventsConfig = EventsConfig()
    catalogue: CatalogueConfig = CatalogueConfig()
    warehouse: WarehouseConfig = WarehouseConfig()
    quality: QualityConfig = QualityConfig()
    snapshot: SnapshotConfig = SnapshotConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    gate: GateConfig = GateConfig()
    candidates: CandidatesConfig = CandidatesConfig()

    @model_validator(mode="before")
    @classmethod
    def _memory_follows_exclude_seen(cls, values: Any) -> Any:
        """What a vector cannot hold depends on whether things are bought again; nobody should have to know of it."""
        model, candidates = values.get("model", {}), values.get("candidates", {})
        if not isinstance(model, dict) or not isinstance(candidates, dict):
            return values
        once = candidates.get("exclude_seen", True) is not False
        repeat = not once and model.get("cooccurrence") is not True
        cooccurrence = once and model.get("repeat") is not True
        return {**values, "model": {"repeat": repeat, "cooccurrence": cooccurrence, **model}}

    @model_validator(mode="after")
    def _memory_fits(self) -> Config:
        if self.model.repeat and self.candidates.exclude_seen:
            raise ValueError("model.repeat = true scores items bought before, but candidates.exclude_seen drops them")
        if self.model.cooccurrence and not self.candidates.exclude_seen:
            raise ValueError("model.cooccurrence = true raises new items only: it needs candidates.exclude_seen = true")
        return self

    @model_validator(mode="after")
    def _event_types_fit(self) -> Config:
        column, types = self.source.columns.event_type, self.events.types
        if column is not None and not types:
            raise ValueError(
                f"source.columns.event_type = {column!r}, but [events] names no type: add a table for each, such as "
                "[events.purchase] with weight = 1.0, or remove event_type"
            )
        if types and column is None:
            raise ValueError(
                f"[events] names the types {', '.join(types)}, but no column holds them: set source.columns.event_type"
            )
        if types and not any(kind.target for kind in types.values()):
            raise ValueError("no type under [events] is a target, so nothing can be learnt: set target = true for one")
        return self

    def training_digest(self) -> str:
        """Digest of what a trained model depends on, and of nothing that only says how it is computed or served."""
        return digest(
            {
                "model": self.model.model_dump(exclude={"kernels", "chunk"}),
                "train": self.train.model_dump(exclude={"device", "processes", "checkpoint_seconds", "refit"}),
                "exclude_seen": self.candidates.exclude_seen,
                "events": self.events.model_dump(),
                "by_position": self.source.columns.by_position,
                "min_users": self.gate.min_users,
            }
        )
