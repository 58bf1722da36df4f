from __future__ import annotations

from datetime import date, datetime

import pytest

from hmamba.clock import day_of, end_of, named_day, start_of

DAY = date(2024, 2, 29)


def test_a_day_begins_and_ends_at_midnight() -> None:
    assert (start_of(DAY), end_of(DAY)) == (datetime(2024, 2, 29), datetime(2024, 3, 1))


def test_a_typed_day() -> None:
    assert day_of("2024-02-29") == DAY
    with pytest.raises(ValueError, match="'2023-02-29' is not a day such as 2017-12-14"):
        day_of("2023-02-29")


@pytest.mark.parametrize("name", ["20240229", "2024-W09-4", "2024-02-30", "2024-02-29.old", "run_date=2024-02-29", ""])
def test_only_one_form_names_a_folder(name: str) -> None:
    assert named_day("2024-02-29") == DAY
    assert named_day(name) is None
