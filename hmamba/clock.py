"""The clock, in one place. What is processed never depends on it; it tells which days are over."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The current time, naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)
