"""Settings of the input data: sources, the meaning of events, the catalogue, the warehouse and its rules."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from hmamba.config.section import Section


class InteractionColumns(Section):
    """Column names of the source files."""

    user_id: str = Field("user_id", description="Column with the user's id; any type, kept as text.")
    item_id: str = Field("item_id", description="Column with the item's id; any type, kept as text.")
    event_time: str = Field("event_time", description="Column with the time of the event.")
    position: str | None = Field(
        None,
        description="Column of whole numbers that order each user's events, instead of event_time, for data without "
        "times.",
    )
    weight: str | None = Field(
        None,
        description="Column with the weight of the event: 1 is ordinary, 0 is seen but not wanted, a negative "
        "number is a return. If absent, every event has weight 1.",
    )
    event_type: str | None = Field(
        None, description="Column with the type of the event, such as view or purchase; [events] defines each type."
    )

    @property
    def by_position(self) -> bool:
        """Whether events are ordered by positions and have no times."""
        return self.position is not None

    @property
    def by_role(self) -> dict[str, str]:
        """Name of each column that is read, by its role; without event_time if events are ordered by position."""
        return self.model_dump(exclude_none=True, exclude={"event_time"} if self.by_position else None)

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the columns that every source file must have."""
        return tuple(self.by_role.values())

    @model_validator(mode="after")
    def _columns_differ(self) -> InteractionColumns:
        roles = self.by_role
        for role, name in roles.items():
            others = [other for other in roles if roles[other] == name and other != role]
            if others:
                raise ValueError(f"{role} and {others[0]} both name the column {name!r}: give each a column of its own")
        return self


class Limits(Section):
    """Bounds on each file. Reading one takes at most 64 times max_record_bytes of memory, without DuckDB's."""

    max_columns: int = Field(4_096, ge=1, le=1_000_000, description="Columns of a file.")
    max_record_bytes: int = Field(
        16 * 2**20,
        ge=2**10,
        le=2**30,
        description="Bytes of a record or header line. A Parquet footer may have 4 times as many, and the largest "
        "pages of the columns of a row group 16 times as many together.",
    )
    max_expansion: int = Field(
        1_000,
        ge=1,
        le=1_000_000,
        description="Bytes that a file may expand to when it is read, relative to its size; one GiB is always allowed.",
    )


class SourceConfig(Section):
    """The source of interactions."""

    kind: str = Field("files", description="files: Parquet, CSV or JSON lines, plain or gzipped.")
    path: str = Field("landing/interactions", description="Folder or glob, relative to the root or absolute.")
    columns: InteractionColumns = InteractionColumns()
    time_format: Literal["auto", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"] = Field(
        "auto",
        description="auto: a time type or ISO 8601 text; the others: seconds, milliseconds, microseconds or "
        "nanoseconds since 1970.",
    )
    timezone: str = Field("UTC", description="Time zone of times that carry no offset of their own.")
    null_words: tuple[str, ...] = Field(
        ("\\N", "NULL", ""), description="Words that mean an absent value, in text columns of every file."
    )
    follow_links: bool = Field(
        False, description="Whether to read symbolic links that point outside of the root; otherwise they are an error."
    )
    limits: Limits = Limits()


class EventType(Section):
    """What one type of event means."""

    weight: float = Field(1.0, ge=0, le=1e9, description="Factor applied to the weight of events of this type.")
    target: bool = Field(True, description="Whether the model is trained and evaluated to predict such events.")
    seen: bool = Field(
        True, description="Whether the item counts as seen, and is excluded if candidates.exclude_seen = true."
    )


class EventsConfig(Section):
    """The meaning of events. Every type in the column source.columns.event_type needs a table [events.TYPE]."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, EventType] = Field(init=False)

    min_weight_as_target: float | None = Field(
        None,
        ge=-3e38,
        le=3e38,
        description="Events with a smaller weight are inputs but not targets: with 4, the model predicts ratings of 4 "
        "and 5.",
    )
    weight_scale: Literal["log", "linear"] = Field(
        "log",
        description="Scale of a weight w. log: log2(1 + w), at most 4, so that one bulk purchase does not outweigh "
        "a year; linear: unchanged.",
    )

    @property
    def types(self) -> dict[str, EventType]:
        """Meaning of each type by its name."""
        return dict(self.__pydantic_extra__ or {})


class CatalogueConfig(Section):
    """The optional file of item titles and categories."""

    path: str | None = Field(None, description="File or glob, relative to the root or absolute.")
    item_id: str = Field("item_id", description="Column with the item's id, as in the interactions.")
    title: str | None = Field(
        None, description="Column with the title; if absent, the narrowest category of the path is the title."
    )
    category_path: tuple[str, ...] = Field(
        (), description="Columns from the widest category to the narrowest, or one column that contains a list."
    )
    attributes: tuple[str, ...] = Field(
        (),
        description="Further columns with properties of an item, such as its brand: text, or lists of text. The score "
        "term attributes compares items by these values and the categories.",
    )

    text: tuple[str, ...] = Field(
        (),
        description="Columns with words about an item, such as its title or description. Each word is an attribute of "
        "the item; words that many items have do not count.",
    )

    @field_validator("attributes", "text")
    @classmethod
    def _attributes_are_columns(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(name.strip() for name in names) or len(set(names)) < len(names):
            raise ValueError("name each column once")
        return names

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the columns that every file of the catalogue must have, each once."""
        names = (self.item_id, self.title, *self.category_path, *self.attributes, *self.text)
        return tuple(dict.fromkeys(name for name in names if name is not None))


class UsersConfig(Section):
    """The optional file of users. All its columns can be used in rules, and by tables for segments of users."""

    path: str | None = Field(
        None, description="File or glob (Parquet, CSV or JSON lines), relative to the root or absolute."
    )
    user_id: str = Field("user_id", description="Column with the user's id, as in the interactions.")


_MEMORY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([KMGT])(i?)B")
_LEAST_MEMORY, _MOST_MEMORY = 64e6, 1024e12


class WarehouseConfig(Section):
    """Limits of DuckDB."""

    memory_limit: str = Field(
        "4GB",
        description="DuckDB's memory limit, from 64MB to 1024TB; other memory is not counted.",
    )
    threads: int | None = Field(None, ge=1, le=1_024, description="Threads of DuckDB; all cores if absent.")
    overlap_days: int = Field(
        7, ge=0, le=100_000, description="Events this much older than the watermark are counted as late."
    )
    wait_seconds: float = Field(
        300.0,
        ge=0,
        le=604_800,
        description="How long to wait for another process that uses the same file or folder.",
    )

    @field_validator("memory_limit")
    @classmethod
    def _memory_is_plausible(cls, limit: str) -> str:
        found = _MEMORY.fullmatch(limit)
        if found is None:
            raise ValueError("write a number and a unit, such as 4GB or 512MiB")
        size = float(found[1]) * (1_024 if found[3] else 1_000) ** ("KMGT".index(found[2]) + 1)
        if not _LEAST_MEMORY <= size <= _MOST_MEMORY:
            raise ValueError("give from 64MB to 1024TB")
        return limit


class QualityConfig(Section):
    """Rules of the staged batch. Broken row rules send a row to quarantine; broken batch rules stop the pull."""

    min_time: datetime = Field(datetime(1990, 1, 1), description="Older events are refused; UTC if it has no offset.")
    max_future_hours: float = Field(
        24.0,
        ge=0,
        le=2_400_000,
        description="Events further ahead of the clock are refused. Earlier events of later days wait in their file.",
    )
    max_id_length: int = Field(256, ge=1, le=1_000_000, description="Maximum length of an id in characters.")
    min_weight: float = Field(-1e9, ge=-3e38, le=3e38, description="Smaller weights are refused.")
    max_weight: float = Field(1e9, ge=-3e38, le=3e38, description="Larger weights are refused.")
    max_quarantined_share: float = Field(
        0.1, ge=0, le=1, description="Refused rows as a share of a pull's rows; a larger share stops the pull."
    )
    max_duplicate_share: float = Field(
        0.5, ge=0, le=1, description="Share of the rows in new files that are already in the warehouse."
    )
    min_volume_ratio: float = Field(
        0.0, ge=0, le=1e9, description="Lower bound on the ratio of a pull's rows to the median of the last 28 pulls."
    )
    max_volume_ratio: float = Field(1000.0, gt=0, le=1e9, description="Upper bound on the same ratio.")
    warn_staleness_days: float | None = Field(
        3.0,
        gt=0,
        le=1_000_000,
        description="Age of the newest event at the end of the day beyond which the night warns.",
    )
    max_staleness_days: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        description="Age of the newest event at the end of the day beyond which the night stops.",
    )
    max_day_gap: int = Field(
        30,
        ge=1,
        le=1_000_000,
        description="Days from the newest event to --day beyond which --day is treated as a typing error.",
    )

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> QualityConfig:
        for low, high in (("min_weight", "max_weight"), ("min_volume_ratio", "max_volume_ratio")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"quality.{low} = {getattr(self, low):g} is above quality.{high} = {getattr(self, high):g}: lower "
                    "the one or raise the other"
                )
        return self

    @field_validator("min_time")
    @classmethod
    def _to_utc(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            return value
        try:
            return value.astimezone(UTC).replace(tzinfo=None)
        except OverflowError:
            raise ValueError(f"{value.isoformat()} is before the year 1 in UTC: write a later time") from None


class SnapshotConfig(Section):
    """Partition of the sequences into shards."""

    shards: int | None = Field(
        None, ge=1, le=4096, description="Number of shards, by hash of the user id. If absent, one per 25,000 users."
    )
