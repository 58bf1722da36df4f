"""Every way to write a time, against Python's own reading where it has one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmamba.sources.times import LAST_POSITION, moments, plain, positions
from hmamba.sources.values import Members, UnreadableType

WORDS = ("\\N", "NULL", "")


def instant(text: str) -> datetime:
    """What DuckDB makes of a plain form, UTC where it has no offset."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-29T12:32Z", "2024-05-29 12:32:00.000000+00:00"),
        ("2024-05-29 12:32:00 +02:00", "2024-05-29 12:32:00.000000+02:00"),
        ("2024-05-29T12:32:00,5-0330", "2024-05-29 12:32:00.500000-03:30"),
        ("20240529T123200Z", "2024-05-29 12:32:00.000000+00:00"),
        ("20240529T1232+02", "2024-05-29 12:32:00.000000+02:00"),
        ("20240529", "2024-05-29 00:00:00.000000"),
        ("2024-W22-3", "2024-05-29 00:00:00.000000"),
        ("2024W223T12Z", "2024-05-29 12:00:00.000000+00:00"),
        ("2024-150", "2024-05-29 00:00:00.000000"),
        ("2024150T12:32", "2024-05-29 12:32:00.000000"),
        ("2024-05-29T12.5Z", "2024-05-29 12:30:00.000000+00:00"),
        ("2024-05-29T12:30,25", "2024-05-29 12:30:15.000000"),
        ("2024-05-29T24:00Z", "2024-05-30 00:00:00.000000+00:00"),
        ("2024-05-29 12:32:00 GMT", "2024-05-29 12:32:00.000000+00:00"),
        ("2024-05-29 12:32:00 Europe/Berlin", "2024-05-29 12:32:00.000000 Europe/Berlin"),
        ("2024/5/9 1:02", "2024-05-09 01:02:00.000000"),
        ("2024-05-29T12:32:00.1234567890123Z", "2024-05-29 12:32:00.123456+00:00"),
    ],
)
def test_forms_that_are_read(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(f"2024-05-18 09:54:19 {zone}" for zone in ("BST", "EST", "PST", "CET", "CEST", "IST", "MSK", "PM")),
        *("1716985932", "1716985932123", "2024", "2024-05", "2024-W22", "2024150", "20240529123200", "29 May 2024"),
        *("2024-02-30", "2023-366", "2024-000", "2024-W54-1", "2024-13-01", "20241329", "05/29/2024", "infinity"),
        *("2024-05-29T25:00", "2024-05-29T24:01", "2024-05-29T12:60", "2024-05-29T12:32:00+25:00", "9999-12-31T24:00Z"),
    ],
)
def test_forms_that_are_not(text: str) -> None:
    assert plain(text) is None


OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=OFFSETS), st.integers(0, 5))
def test_instants_are_what_python_reads(when: datetime, how: int) -> None:
    year, week, day = when.isocalendar()
    offset = when.isoformat()[-6:]
    clock = when.strftime("%H:%M:%S.%f")
    forms = [
        when.isoformat(),
        f"{when.year:04d}{when:%m%dT%H%M%S.%f}{offset}",
        f"{year:04d}-W{week:02d}-{day}T{clock.replace('.', ',')} {offset}",
        f"{when.year:04d}-{when:%j}T{clock}{offset.replace(':', '')}",
        f"{when.year:04d}-{when:%m-%d} {clock} {offset}",
        f"{year:04d}W{week:02d}{day}T{when:%H%M%S.%f}{offset}",
    ]
    read = plain(forms[how])
    assert read is not None
    assert instant(read) == when


@given(st.from_regex(r"[0-9]{4}-?[0-9W]{1,3}-?[0-9]{1,2}([T ][0-9:.,]{0,8})?(Z|[+-][0-9:]{1,5})?", fullmatch=True))
def test_what_is_read_is_a_time(text: str) -> None:
    read = plain(text)
    if read is not None:
        instant(read)


@pytest.mark.parametrize(
    ("column", "time_format", "expected"),
    [
        (pa.array([1716985932, None]), "epoch_s", 1_716_985_932_000_000),
        (pa.array([1716985932], pa.uint32()), "epoch_s", 1_716_985_932_000_000),
        (pa.array([1716985932.123456]), "epoch_s", 1_716_985_932_123_456),
        (pa.array([1716985932123]), "epoch_ms", 1_716_985_932_123_000),
        (pa.array([1716985932123456]), "epoch_us", 1_716_985_932_123_456),
        (pa.array([1716985932123456789]), "epoch_ns", 1_716_985_932_123_456),
        (pa.array([2**63], pa.uint64()), "epoch_us", None),
        (pa.array([2**62]), "epoch_s", None),
        (pa.array([float("nan")]), "epoch_s", None),
        (pa.array([1e300]), "epoch_ms", None),
        (pa.array([1716985932]), "auto", None),
        (pa.array([1716985932.0]), "auto", None),
        (pa.array([19_872], pa.date32()), "auto", 19_872 * 86_400_000_000),
        (pa.array([19_872 * 86_400_000], pa.date64()), "auto", 19_872 * 86_400_000_000),
        (pa.array([2**31 - 1], pa.date32()), "auto", None),
        (pa.array([1_716_985_932_123_456_789], pa.timestamp("ns")), "auto", 1_716_985_932_123_456),
        (pa.array([-1], pa.timestamp("ns")), "auto", -1),
        (pa.array([2**62], pa.timestamp("s")), "auto", None),
    ],
)
def test_numbers_and_time_types(column: pa.Array, time_format: str, expected: int | None) -> None:
    found = moments(column, time_format, "UTC", WORDS)
    assert found.form == "utc"
    assert found.values.cast(pa.int64())[0].as_py() == expected


def test_json_numbers_are_times_only_with_a_unit() -> None:
    members = Members(pa.array(["BIGINT", "VARCHAR", "OBJECT"]), pa.array(["1716985932", "2024-05-29", "{}"]))
    assert moments(members, "auto", "UTC", WORDS).values.to_pylist() == [None, "2024-05-29", None]
    assert moments(members, "epoch_s", "UTC", WORDS).values.to_pylist() == ["1716985932", "2024-05-29", None]


@pytest.mark.parametrize(
    "column", [pa.array([True]), pa.array([[1]]), pa.array([b"x"]), pa.array([1], pa.time64("us"))]
)
def test_types_that_are_no_times(column: pa.Array) -> None:
    with pytest.raises(UnreadableType):
        moments(column, "auto", "UTC", WORDS)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([0, 7, -7, None], pa.int32()),
        pa.array([0.0, 7.0, -7.0, float("nan")]),
        pa.array(["0", " +7", "-7", "\\N"]),
        Members(pa.array(["BIGINT", "DOUBLE", "VARCHAR", "OBJECT"]), pa.array(["0", "7.0", "-7", "{}"])),
    ],
)
def test_positions_are_whole_numbers(column: pa.Array | Members) -> None:
    values = positions(column, WORDS).values
    assert values.type == pa.timestamp("us")
    assert values.cast(pa.int64()).to_pylist() == [0, 7, -7, None]


def test_what_is_no_position() -> None:
    values = positions(
        pa.array(["1.5", "x", "1e3", str(LAST_POSITION + 1), str(LAST_POSITION), "9" * 40]), WORDS
    ).values
    assert values.cast(pa.int64()).to_pylist() == [None, None, None, None, LAST_POSITION, None]
    assert positions(pa.array([1.5, 2.0]), WORDS).values.cast(pa.int64()).to_pylist() == [None, 2]
    for column in (pa.array([True]), pa.array([date(2024, 1, 1)]), pa.array([[1]])):
        with pytest.raises(UnreadableType):
            positions(column, WORDS)
