"""The clock and the calendar. What is processed never depends on the clock; it tells which days are over."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta


def now() -> datetime:
    """The current time, naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def day_of(text: str) -> date:
    """The day that somebody has typed.

    Raises:
        ValueError: it is none; the message says how one is written.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day such as 2017-12-14") from None


def end_of(day: date) -> datetime:
    """Midnight UTC after ``day``, naive."""
    return datetime.combine(day + timedelta(days=1), datetime.min.time())
