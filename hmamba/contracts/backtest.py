"""Documents that a backtest stores for each night, so that it can resume."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from hmamba.contracts.document import Document, Part

_CURE = "Remove the backtest's folder to begin it again."


class BacktestInputs(Document):
    """Digests of a backtest's settings and events; it refuses to resume with others."""

    CURE: ClassVar[str] = _CURE

    settings: str
    events: str


class SystemMetrics(Part):
    """Mean metrics of one system, and the deciding metric per user, in the order of ``user_ids``."""

    means: dict[str, float]
    deciding: tuple[float, ...]


class BacktestNight(Document):
    """Metrics of one night.

    Attributes:
        day: the night.
        user_ids: external ids of the evaluated users.
        queries: number of queries.
        serving: by chain, the version that served; None if ``gate.first_night = "refuse"`` stopped the night.
        measured: metrics by system.
    """

    CURE: ClassVar[str] = _CURE

    day: date
    user_ids: tuple[str, ...]
    queries: int
    serving: dict[str, str | None]
    measured: dict[str, SystemMetrics]
