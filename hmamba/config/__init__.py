"""The settings: a TOML file, checked against sections that know their defaults and bounds."""

from hmamba.config.load import load, named_configs, parse, read_toml
from hmamba.config.sections import (
    CandidatesConfig,
    CatalogueConfig,
    Config,
    EventsConfig,
    EventType,
    GateConfig,
    InteractionColumns,
    ModelConfig,
    QualityConfig,
    Section,
    SnapshotConfig,
    SourceConfig,
    TrainConfig,
    WarehouseConfig,
)

__all__ = [
    "CandidatesConfig",
    "CatalogueConfig",
    "Config",
    "EventType",
    "EventsConfig",
    "GateConfig",
    "InteractionColumns",
    "ModelConfig",
    "QualityConfig",
    "Section",
    "SnapshotConfig",
    "SourceConfig",
    "TrainConfig",
    "WarehouseConfig",
    "load",
    "named_configs",
    "parse",
    "read_toml",
]
