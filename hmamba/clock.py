"""The clock, in one place. No step decides by it what to process: it only tells a day that cannot be meant."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The current time, naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)
