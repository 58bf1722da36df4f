"""Settings: a TOML file, validated against sections with defaults and bounds."""

from hmamba.config.data import (
    CatalogueConfig,
    EventsConfig,
    EventType,
    InteractionColumns,
    Limits,
    QualityConfig,
    SnapshotConfig,
    SourceConfig,
    UsersConfig,
    WarehouseConfig,
)
from hmamba.config.keep import KeepConfig
from hmamba.config.learning import CandidatesConfig, GateConfig, ModelConfig, RankConfig, TrainConfig
from hmamba.config.load import load, named_configs, named_text, parse, read_toml
from hmamba.config.publishing import ExperimentConfig, GuardsConfig, PublishConfig, ReportConfig
from hmamba.config.section import Section
from hmamba.config.whole import Config

__all__ = [
    "CandidatesConfig",
    "CatalogueConfig",
    "Config",
    "EventType",
    "EventsConfig",
    "ExperimentConfig",
    "GateConfig",
    "GuardsConfig",
    "InteractionColumns",
    "KeepConfig",
    "Limits",
    "ModelConfig",
    "PublishConfig",
    "QualityConfig",
    "RankConfig",
    "ReportConfig",
    "Section",
    "SnapshotConfig",
    "SourceConfig",
    "TrainConfig",
    "UsersConfig",
    "WarehouseConfig",
    "load",
    "named_configs",
    "named_text",
    "parse",
    "read_toml",
]
