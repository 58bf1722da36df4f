"""Settings of deliveries to other systems."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from hmamba.config.section import Section

_TARGET_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


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
        if len({name.upper() for name in self.targets}) < len(self.targets):
            raise ValueError(
                "two targets differ in the case of letters only, so that their addresses would be the same"
            )
        for name in self.targets:
            if not _TARGET_NAME.fullmatch(name):
                raise ValueError(f"{name!r}: name a target with a letter, then letters, digits and underscores")
        return self

    @property
    def targets(self) -> dict[str, TargetConfig]:
        """Settings of each target by its name."""
        return dict(self.__pydantic_extra__ or {})
