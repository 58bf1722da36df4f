"""The clock and the ends of days. What is processed never depends on the clock; it tells which days are over."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta


def now() -> datetime:
    """The current time, naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def end_of(day: date) -> datetime:
    """Midnight UTC after ``day``, naive."""
    return datetime.combine(day + timedelta(days=1), datetime.min.time())
