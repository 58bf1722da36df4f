"""Days as people write them, and where they end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from hmamba.clock import day_of, end_of, now


def test_now_is_naive_and_in_utc() -> None:
    assert now().tzinfo is None
    assert abs(now() - datetime.now(UTC).replace(tzinfo=None)) < timedelta(minutes=1)


def test_a_day_is_written_as_year_month_day() -> None:
    assert day_of("2024-02-29") == date(2024, 2, 29)
    with pytest.raises(ValueError, match=r"^'2023-02-29' is not a day such as 2017-12-14$"):
        day_of("2023-02-29")


def test_a_day_ends_at_the_midnight_after_it() -> None:
    assert end_of(date(2024, 2, 29)) == datetime(2024, 3, 1)
    assert end_of(date(2023, 12, 31)) == datetime(2024, 1, 1)
