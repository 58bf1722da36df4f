"""Clock and calendar, in UTC. The clock decides only which days are over, never which rows are processed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta


def now() -> datetime:
    """The current time, naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def day_of(text: str) -> date:
    """Parse a day given by the user.

    Raises:
        ValueError: ``text`` is not an ISO date; the message gives an example.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day such as 2017-12-14") from None


def named_day(name: str) -> date | None:
    """The day in a folder name such as 2017-12-14; None for other names."""
    try:
        day = date.fromisoformat(name)
    except ValueError:
        return None
    return day if day.isoformat() == name else None


def start_of(day: date) -> datetime:
    """Midnight at the start of ``day``, naive UTC."""
    return datetime.combine(day, datetime.min.time())


def end_of(day: date) -> datetime:
    """Midnight at the end of ``day``, naive UTC."""
    return start_of(day + timedelta(days=1))
