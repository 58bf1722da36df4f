"""Settings of what a night publishes and what stops it, of deliveries to other systems, and of the report."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from hmamba.config.section import Section

_TARGET_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OF_FIRST = "10 items of each user's list (of all, if candidates.k is smaller)"


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
    """What is published, and what stops it."""

    changes: bool | None = Field(
        None,
        description="Whether to publish the table changes: the users whose rows differ from the table before. If "
        "absent, it is published if [deliver] has a target.",
    )
    guards: GuardsConfig = GuardsConfig()


class TargetConfig(Section):
    """A target of `hmamba deliver`, under a name of your own. See delivery.md."""

    kind: str = Field("postgres", description="postgres, redis, csv or jsonl.")
    address: str | None = Field(
        None,
        description="Name of the environment variable that holds the URL of the server. If absent, HMAMBA_DELIVER_ and "
        "the name of the target in capitals.",
    )
    into: str | None = Field(
        None,
        description="postgres: the view that readers query, with or without a schema, `hmamba_candidates` if absent. "
        "redis: the prefix of the keys, `hmamba` if absent. csv, jsonl: the folder, absolute or relative to the root, "
        "`delivered/TARGET` if absent.",
    )
    top: int | None = Field(None, ge=1, le=10_000, description="Deliver only ranks up to this one; all if absent.")
    content: Literal["items", "rows"] = Field(
        "items",
        description="redis: the value of a user, a JSON list of item ids, or of objects with all columns of the rows.",
    )
    expire_seconds: int = Field(
        3_600, ge=1, le=31_536_000, description="redis: how long the keys of a version are kept once it is replaced."
    )
    most_changes: int = Field(
        24,
        ge=0,
        le=1_000,
        description="redis: number of deliveries of changed users before all users are delivered again; a reader looks "
        "up one key more for each.",
    )
    compress: bool = Field(False, description="csv, jsonl: whether the files are compressed with gzip.")
    timeout_seconds: float = Field(
        30.0, ge=1, le=3_600, description="postgres, redis: how long to wait for a connection, an answer or a lock."
    )

    @model_validator(mode="after")
    def _address_is_a_name(self) -> TargetConfig:
        # A rule of the whole table, because messages about one key repeat its value, which may hold a password.
        if self.address is not None and not _VARIABLE.fullmatch(self.address):
            raise ValueError(
                "address: give the name of an environment variable, such as SHOP_DATABASE_URL, and put the URL there"
            )
        return self


class DeliverConfig(Section):
    """Targets of `hmamba deliver`, each a table [deliver.TARGET]. Without one, nothing is delivered."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, TargetConfig] = Field(init=False)

    @model_validator(mode="after")
    def _names_are_usable(self) -> DeliverConfig:
        for name in self.targets:
            if not _TARGET_NAME.fullmatch(name):
                raise ValueError(f"{name!r}: name a target with lower-case letters, digits and underscores, up to 32")
        return self

    @property
    def targets(self) -> dict[str, TargetConfig]:
        """Settings of each target by its name."""
        return dict(self.__pydantic_extra__ or {})


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
