"""Settings of what a night publishes and what stops it, and of its report."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from hmamba.config.section import Section

_OF_FIRST = "10 items of each user's list (of all, if candidates.k is smaller)"

TABLES = ("similar_items", "popular", "segments", "user_vectors", "item_vectors")
"""Names of the tables that can be published beside the candidates, see docs/candidates.md."""


class SimilarItemsConfig(Section):
    """The table similar_items: what goes with an item."""

    k: int = Field(20, ge=1, le=1_000, description="Similar items of each item and source.")
    items: int = Field(
        200_000,
        ge=1,
        le=10_000_000,
        description="Only so many items, those with the most events, have similar items. Every item is compared with "
        "each of them.",
    )


class PopularConfig(Section):
    """The table popular: the most taken items by category and segment."""

    k: int = Field(100, ge=1, le=10_000, description="Items of each ranking.")
    window_days: float = Field(
        28.0, ge=0.001, le=36_500, description="Events that are younger count in the ranking window."
    )
    half_life_days: float = Field(
        7.0, ge=0.001, le=36_500, description="Age in days at which an event counts half, in decayed and trending."
    )
    by: tuple[str, ...] = Field(
        (), description="Columns of [users], such as country: each of their values is a segment with its own rankings."
    )

    @field_validator("by")
    @classmethod
    def _columns_are_named_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(name.strip() for name in names) or len(set(names)) < len(names):
            raise ValueError("name each column once")
        return names


class SegmentsConfig(Section):
    """The table segments: the users likeliest to take an item."""

    k: int = Field(1_000, ge=1, le=1_000_000, description="Users of each item.")
    items: int = Field(
        100, ge=1, le=100_000, description="Number of items, those with the most events, unless item_list names them."
    )
    item_list: str | None = Field(
        None, description="Parquet or CSV file with a column item_id: the items, relative to the root or absolute."
    )


class GuardsConfig(Section):
    """Bounds on a table before it is published.

    Beyond a warn_ bound the night warns. Beyond the other one it stops, and readers keep the table that they have. A
    guard without bounds is not measured. See docs/operations.md.
    """

    warn_churn: float | None = Field(
        None,
        ge=0,
        le=1,
        description=f"Share of the first {_OF_FIRST} that were not among them in the table of the night before, over "
        "the users of both tables; a larger share warns.",
    )
    max_churn: float | None = Field(None, ge=0, le=1, description="The same share; a larger one stops the night.")
    warn_top_item: float | None = Field(
        None,
        ge=0,
        le=1,
        description=f"Share of users who have the most recommended item among the first {_OF_FIRST}; a larger share "
        "warns.",
    )
    max_top_item: float | None = Field(None, ge=0, le=1, description="The same share; a larger one stops the night.")
    warn_coverage: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Number of distinct items in the table, as a share of the items that may be recommended; a smaller "
        "share warns.",
    )
    min_coverage: float | None = Field(None, ge=0, le=1, description="The same share; a smaller one stops the night.")
    warn_users_lost: float | None = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the users of the table before who have no rows now; a larger share warns. Users only "
        "leave a table if their events are gone from the warehouse or nothing is left to recommend to them.",
    )
    max_users_lost: float | None = Field(None, ge=0, le=1, description="The same share; a larger one stops the night.")

    @model_validator(mode="after")
    def _warnings_come_first(self) -> GuardsConfig:
        for name in ("churn", "top_item", "coverage", "users_lost"):
            kind = "min" if name == "coverage" else "max"
            warn, stop = getattr(self, f"warn_{name}"), getattr(self, f"{kind}_{name}")
            if warn is None or stop is None or f"warn_{name}" not in self.model_fields_set:
                continue  # a default beyond the bound that stops is none of the user's doing
            if (warn < stop) if kind == "min" else (warn > stop):
                side = "below" if kind == "min" else "above"
                raise ValueError(
                    f"publish.guards.warn_{name} = {warn:g} is {side} publish.guards.{kind}_{name} = {stop:g}, so that "
                    "the night would stop before it warns: exchange them, or remove one"
                )
        return self


class PublishConfig(Section):
    """What is published, and what stops it. A table beside the candidates is computed only if it is in the list."""

    tables: tuple[str, ...] = Field(
        (),
        description="Tables to publish: similar_items, popular, segments, user_vectors, item_vectors. See "
        "docs/candidates.md.",
    )
    changes: bool | None = Field(
        None,
        description="Whether to publish the table changes: the users whose rows differ from the table before. If "
        "absent, it is published if [deliver] has a target.",
    )
    guards: GuardsConfig = GuardsConfig()
    similar_items: SimilarItemsConfig = SimilarItemsConfig()
    popular: PopularConfig = PopularConfig()
    segments: SegmentsConfig = SegmentsConfig()

    @field_validator("tables")
    @classmethod
    def _tables_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if any(name not in TABLES for name in names) or len(set(names)) < len(names):
            raise ValueError(f"choose among {', '.join(TABLES)}, each once")
        return names

    @model_validator(mode="after")
    def _no_settings_without_effect(self) -> PublishConfig:
        for name in ("similar_items", "popular", "segments"):
            given = getattr(self, name).model_dump(exclude_defaults=True)
            if given and name not in self.tables:
                raise ValueError(
                    f"publish.{name}.{next(iter(given))} has no effect, because publish.tables does not name the "
                    f'table: add "{name}" to it, or remove the section [publish.{name}]'
                )
        return self


class ExperimentConfig(Section):
    """A control group, for experiments with users. See docs/experiments.md."""

    control: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the users who get the list of the best baseline instead of the model's. 0: no control "
        "group and no column experiment.",
    )
    salt: str | None = Field(
        None,
        description="Text from which, with the user's id, the group follows. It decides who is in the control group: "
        "keep it during an experiment, and choose another one for the next. Needed with control.",
    )
    kind: Literal["baseline"] = Field("baseline", description="What the control group gets.")

    @model_validator(mode="after")
    def _groups_follow_from_a_salt(self) -> ExperimentConfig:
        if self.control and not (self.salt or "").strip():
            raise ValueError(
                f"experiment.control = {self.control:g} needs experiment.salt: give any text, such as the name of the "
                "experiment"
            )
        return self


class ReportConfig(Section):
    """The report of a night."""

    examples: int = Field(
        1,
        ge=0,
        le=5,
        description="Users whose history and recommendations are shown, for each of three kinds: a long, a short and a "
        "new history. These are personal data; 0 shows nobody.",
    )
    drift_days: int = Field(
        7,
        ge=1,
        le=366,
        description="Days at the end of the night's events that are compared with as many days before them.",
    )
