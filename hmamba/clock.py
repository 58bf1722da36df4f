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


def named_day(name: str) -> date | None:
    """The day that a folder is named by, such as 2017-12-14; None if it is named otherwise."""
    try:
        day = date.fromisoformat(name)
    except ValueError:
        return None
    return day if day.isoformat() == name else None


def start_of(day: date) -> datetime:
    """Midnight UTC before ``day``, naive."""
    return datetime.combine(day, datetime.min.time())


def end_of(day: date) -> datetime:
    """Midnight UTC after ``day``, naive."""
    return start_of(day + timedelta(days=1))
