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
from hmamba.config.delivery import DeliverConfig, TargetConfig
from hmamba.config.keep import KeepConfig
from hmamba.config.learning import CandidatesConfig, GateConfig, ModelConfig, RankConfig, TrainConfig
from hmamba.config.load import load, named_configs, named_text, parse, read_toml
from hmamba.config.publishing import (
    ExperimentConfig,
    GuardsConfig,
    PopularConfig,
    PublishConfig,
    ReportConfig,
    SegmentsConfig,
    SimilarItemsConfig,
)
from hmamba.config.section import Section
from hmamba.config.whole import Config

__all__ = [
    "CandidatesConfig",
    "CatalogueConfig",
    "Config",
    "DeliverConfig",
    "EventType",
    "EventsConfig",
    "ExperimentConfig",
    "GateConfig",
    "GuardsConfig",
    "InteractionColumns",
    "KeepConfig",
    "Limits",
    "ModelConfig",
    "PopularConfig",
    "PublishConfig",
    "QualityConfig",
    "RankConfig",
    "ReportConfig",
    "Section",
    "SegmentsConfig",
    "SimilarItemsConfig",
    "SnapshotConfig",
    "SourceConfig",
    "TargetConfig",
    "TrainConfig",
    "UsersConfig",
    "WarehouseConfig",
    "load",
    "named_configs",
    "named_text",
    "parse",
    "read_toml",
]
