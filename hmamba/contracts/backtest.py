"""What a backtest keeps of each night, so that it resumes where it was."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from hmamba.contracts.document import Document, Part

_CURE = "Remove the backtest's folder to begin it again."


class BacktestInputs(Document):
    """Digests of what a backtest was begun with; nights of other settings or events must not be mixed in."""

    CURE: ClassVar[str] = _CURE

    settings: str
    events: str


class SystemMetrics(Part):
    """Means of one system, and the deciding metric of each user, in the order of ``user_ids``."""

    means: dict[str, float]
    deciding: tuple[float, ...]


class BacktestNight(Document):
    """One judged night; see :class:`hmamba.backtest.judge.JudgedNight`."""

    CURE: ClassVar[str] = _CURE

    day: date
    user_ids: tuple[str, ...]
    queries: int
    serving: dict[str, str | None]
    measured: dict[str, SystemMetrics]
