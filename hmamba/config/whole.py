"""All settings, and the rules between sections."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from pydantic import model_validator

from hmamba.config.data import (
    CatalogueConfig,
    EventsConfig,
    QualityConfig,
    SnapshotConfig,
    SourceConfig,
    UsersConfig,
    WarehouseConfig,
)
from hmamba.config.delivery import DeliverConfig
from hmamba.config.keep import KeepConfig
from hmamba.config.learning import CandidatesConfig, GateConfig, ModelConfig, RankConfig, TrainConfig
from hmamba.config.publishing import ExperimentConfig, PublishConfig, ReportConfig
from hmamba.config.section import Section
from hmamba.score_terms import SCORE_TERMS, automatic, chosen
from hmamba.storage.local import digest


def _value(section: Any, key: str, default: Any) -> Any:
    """Read a key of a section given as a TOML table or as a validated model."""
    return section.get(key, default) if isinstance(section, dict) else getattr(section, key, default)


class Config(Section):
    """All settings."""

    source: SourceConfig = SourceConfig()
    events: EventsConfig = EventsConfig()
    catalogue: CatalogueConfig = CatalogueConfig()
    users: UsersConfig = UsersConfig()
    warehouse: WarehouseConfig = WarehouseConfig()
    quality: QualityConfig = QualityConfig()
    snapshot: SnapshotConfig = SnapshotConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    rank: RankConfig = RankConfig()
    gate: GateConfig = GateConfig()
    candidates: CandidatesConfig = CandidatesConfig()
    experiment: ExperimentConfig = ExperimentConfig()
    publish: PublishConfig = PublishConfig()
    deliver: DeliverConfig = DeliverConfig()
    report: ReportConfig = ReportConfig()
    keep: KeepConfig = KeepConfig()

    @model_validator(mode="before")
    @classmethod
    def _choose_score_terms(cls, values: Any) -> Any:
        """Fill absent score terms in here, since ModelConfig does not see candidates.exclude_seen."""
        model, candidates = values.get("model", {}), values.get("candidates", {})
        if _value(model, "score_terms", None) is not None:
            return values
        terms = {"score_terms": automatic(_value(candidates, "exclude_seen", True) is not False)}
        if isinstance(model, ModelConfig):
            return {**values, "model": model.model_copy(update=terms)}
        return {**values, "model": {**model, **terms}} if isinstance(model, dict) else values

    @model_validator(mode="after")
    def _score_terms_fit(self) -> Config:
        for name in self.model.score_terms or ():
            needed = SCORE_TERMS[name].exclude_seen
            if needed not in (None, self.candidates.exclude_seen):
                raise ValueError(
                    f'model.score_terms has "{name}", which needs candidates.exclude_seen = {str(needed).lower()}: '
                    "change one of them, or remove model.score_terms"
                )
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

    @model_validator(mode="after")
    def _metric_is_measured(self) -> Config:
        metric, cutoffs, k = self.gate.metric, self.gate.cutoffs, self.candidates.k
        family, _, cutoff = metric.partition("@")
        if int(cutoff) not in cutoffs and (family != "recall" or int(cutoff) != k):
            also = f" or to candidates.k = {k}" if family == "recall" else ""
            raise ValueError(
                f"gate.metric = {metric!r} is not measured: add {cutoff} to gate.cutoffs = {list(cutoffs)}, or set it "
                f"to one of these{also}"
            )
        return self

    @model_validator(mode="after")
    def _tables_fit(self) -> Config:
        if "popular" in self.publish.tables and self.source.columns.by_position:
            raise ValueError(
                'publish.tables has "popular", which counts events by their age, but source.columns.position orders '
                'them without times: remove "popular", or name a column with times (source.columns.event_time)'
            )
        if self.publish.popular.by and self.users.path is None:
            raise ValueError(
                f"publish.popular.by = {list(self.publish.popular.by)} names columns of users, but there is no file of "
                "users: set users.path, or remove publish.popular.by"
            )
        return self

    @property
    def has_ranker(self) -> bool:
        """Whether a ranker is trained, see ``rank.model``."""
        if self.rank.model == "auto":
            return bool(chosen(self.model.score_terms or (), learned=True)) and find_spec("lightgbm") is not None
        return self.rank.model == "lightgbm"

    @property
    def publishes_changes(self) -> bool:
        """Whether the table of changed users is published, see ``publish.changes``."""
        return bool(self.deliver.targets) if self.publish.changes is None else self.publish.changes

    def training_digest(self) -> str:
        """Digest of the settings that determine a trained model, without those of execution and serving."""
        # Without a ranker its depth is left out, so that models keep the digest that they had before there was one.
        ranked = {"rank_depth": self.rank.depth} if self.has_ranker else {}
        return digest(
            {
                **ranked,
                "model": self.model.model_dump(exclude={"kernels", "chunk"}),
                "train": self.train.model_dump(exclude={"device", "processes", "checkpoint_seconds", "refit"}),
                "exclude_seen": self.candidates.exclude_seen,
                "events": self.events.model_dump(),
                "by_position": self.source.columns.by_position,
                "min_users": self.gate.min_users,
            }
        )
