"""Metrics of publishing and delivering tables."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from hmamba.contracts.delivery import Way
from hmamba.contracts.document import Part
from hmamba.contracts.guards import GuardResult
from hmamba.contracts.step import StepMetrics
from hmamba.text import counted


class PublishMetrics(StepMetrics):
    """Metrics of publishing; see :class:`~hmamba.contracts.manifest.Manifest`.

    Attributes:
        files: number of Parquet files.
        changed: false if the same content was already published.
        distinct_items: number of items recommended to at least one user.
        guards: what each guard of ``[publish.guards]`` with a bound found.
        tables: rows of each table beside the candidates, by name.
        control_users: users of the control group; None without an experiment.
    """

    step: Literal["publish"] = "publish"
    users: int
    rows: int
    k: int
    files: int
    changed: bool
    model_version: str
    warning: str | None
    distinct_items: int
    guards: dict[str, GuardResult] = Field(default_factory=dict)
    tables: dict[str, int] = Field(default_factory=dict)
    control_users: int | None = None

    @property
    def in_a_line(self) -> str:
        """The table."""
        same = "" if self.changed else "; the same as already published"
        rows, users = counted(self.rows, "row"), counted(self.users, "user")
        warnings = sum(result.warning is not None for result in self.guards.values())
        warned = f"; {counted(warnings, 'warning')} of the guards" if warnings else ""
        beside = f"; beside them {', '.join(self.tables)}" if self.tables else ""
        control = "" if self.control_users is None else f", {self.control_users:,} of them in the control group"
        return f"{rows} for {users}{control}, at most {self.k} each{beside}{same}{warned}"


class RefreshMetrics(StepMetrics):
    """Metrics of a refresh between nights.

    Attributes:
        night: day of the refreshed table.
        model_version: the model or baseline that serves.
        new_events: events since the night's snapshot.
        users, new_users: users with new events, and those of them without rows in the night's table.
        advanced, reencoded: users encoded from their carried state, and from their whole history.
        rows: rows of the whole table; None if nothing was published.
        changed: whether anything was published.
        guards: as of a night; empty if nothing was published.
    """

    step: Literal["refresh"] = "refresh"
    night: date
    model_version: str
    new_events: int
    users: int = 0
    new_users: int = 0
    advanced: int = 0
    reencoded: int = 0
    rows: int | None = None
    changed: bool = False
    guards: dict[str, GuardResult] = Field(default_factory=dict)

    @property
    def in_a_line(self) -> str:
        """The users with new events, and how they were encoded."""
        if not self.users:
            return "no user has new events; nothing was published"
        return (
            f"{counted(self.users, 'user')} with new events, {self.new_users:,} of them new; "
            f"{self.advanced:,} read from their stored state, {self.reencoded:,} from their whole history"
        )


class Delivery(Part):
    """A delivery to one target; see :class:`hmamba.delivery.deliver.Done`."""

    target: str
    day: date
    way: Way
    users: int
    seconds: float


class DeliverMetrics(StepMetrics):
    """Metrics of a delivery of the newest table.

    Attributes:
        night: day of the table.
        deliveries: what each target got.
    """

    step: Literal["deliver"] = "deliver"
    night: date
    deliveries: tuple[Delivery, ...]

    @property
    def in_a_line(self) -> str:
        """The targets, and how many users they got."""
        return ", ".join(f"{one.target}: {one.way}, {counted(one.users, 'user')}" for one in self.deliveries)
