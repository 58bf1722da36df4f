"""Read times and positions of events from columns of any type.

This module parses the notations. The SQL statement ``stage_events`` (sql/ingest.sql) applies time zones and converts
the result to naive UTC.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hmamba.sources.values import Column, Members, UnreadableType, decoded, ids, is_number, trimmed

TimeFormat = Literal["auto", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"]
Form = Literal["utc", "local", "text", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"]

PER_SECOND: dict[TimeFormat, int] = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000, "epoch_ns": 1_000_000_000}
"""Units per second of the time formats of numbers."""

LAST_POSITION = 60_000_000_000_000_000
"""Largest absolute position: as times, all positions are in the range of Python's datetime."""

_MICROSECONDS_A_DAY = 86_400_000_000
_ARROW_UNITS: dict[str, TimeFormat] = {"s": "epoch_s", "ms": "epoch_ms", "us": "epoch_us", "ns": "epoch_ns"}
_LOCAL = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)?"
_ZONED = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z| UTC|[+-][01]\d(?::?[0-5]\d)?)"
_AS_DUCKDB_READS = f"^(?:{_LOCAL}|{_ZONED})$"
_ISO = re.compile(
    r"(?:(?P<calendar>\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{8})|(?P<week>\d{4}-W\d\d-\d|\d{4}W\d{3})|"
    r"(?P<ordinal>\d{4}-\d{3}|\d{7}(?=[Tt ])))"
    r"(?:[Tt ] *(?P<clock>\d\d|\d\d?:\d\d(?::\d\d)?|\d{4}|\d{6})(?:[.,](?P<fraction>\d+))?"
    r"(?: *(?P<zone>Z|z|UTC|utc|GMT|gmt|[+-]\d\d(?::?\d\d)?|[A-Z][A-Za-z_]+/[A-Za-z0-9_/+-]+))?)?"
)
_NOTHING = pa.scalar(None, pa.string())


def unit_of(number: float) -> TimeFormat | None:
    """The unit in which a number since 1970 is a time between 1973 and 2100; None if there is none."""
    return next((unit for unit, per_second in PER_SECOND.items() if 1e8 <= number / per_second <= 4.2e9), None)


@dataclass(frozen=True)
class Moments:
    """Times of N events.

    Attributes:
        values: times in the representation that ``form`` names; null where unreadable or absent.
        form: utc: naive UTC, as timestamp[us] or text; local: timestamp[us] in source.timezone; text: ISO 8601 that
            DuckDB can parse; epoch_*: numbers as text.
    """

    values: pa.Array
    form: Form


def moments(column: Column, time_format: TimeFormat, timezone: str, null_words: Sequence[str]) -> Moments:
    """Read a column as times.

    Numbers are times only if ``time_format`` gives their unit. Fractions of a microsecond are truncated.

    Raises:
        UnreadableType: the type of the column cannot hold times.
    """
    if isinstance(column, Members):
        written = trimmed(column.of_kind("VARCHAR"), null_words)
        if time_format == "auto":
            return _of_text(written, timezone)
        return Moments(pc.coalesce(written, column.of_kind("BIGINT", "UBIGINT", "DOUBLE")), time_format)
    column = decoded(column)
    kind = column.type
    if pa.types.is_null(kind):
        return _none(len(column))
    if pa.types.is_string(kind):
        written = trimmed(column, null_words)
        return _of_text(written, timezone) if time_format == "auto" else Moments(written, time_format)
    if pa.types.is_timestamp(kind):
        is_utc = kind.tz is not None or timezone == "UTC"
        times = _microseconds(column.cast(pa.int64()), 1_000_000, PER_SECOND[_ARROW_UNITS[kind.unit]])
        return Moments(times, "utc" if is_utc else "local")
    if pa.types.is_date(kind):
        days = column.cast(pa.date32(), safe=False).cast(pa.int32())
        return Moments(_microseconds(days, _MICROSECONDS_A_DAY, 1), "utc" if timezone == "UTC" else "local")
    if not is_number(kind):
        raise UnreadableType(kind, "a timestamp, a date, ISO 8601 text, or a number with source.time_format")
    if time_format == "auto":
        return _none(len(column))
    if pa.types.is_integer(kind):
        return Moments(_microseconds(column, 1_000_000, PER_SECOND[time_format]), "utc")
    if pa.types.is_decimal(kind):
        return Moments(column.cast(pa.string()), time_format)
    return Moments(_of_floats(column.cast(pa.float64()), time_format), "utc")


def positions(column: Column, null_words: Sequence[str]) -> Moments:
    """Read whole numbers that replace times, as microseconds since 1970; null beyond ``LAST_POSITION``.

    Raises:
        UnreadableType: the type of the column cannot hold whole numbers.
    """
    if not isinstance(column, Members) and pa.types.is_boolean(decoded(column).type):
        raise UnreadableType(column.type, "a whole number")
    texts = ids(column, null_words).texts()
    is_whole = pc.match_substring_regex(texts, r"^[+-]?\d{1,17}$")
    whole = pc.replace_substring_regex(pc.if_else(is_whole, texts, _NOTHING), r"^\+", "").cast(pa.int64())
    fits = pc.less_equal(pc.abs(whole), LAST_POSITION)
    return Moments(pc.if_else(fits, whole, pa.scalar(None, pa.int64())).view(pa.timestamp("us")), "utc")


def _none(count: int) -> Moments:
    return Moments(pa.nulls(count, pa.timestamp("us")), "utc")


def _microseconds(ticks: pa.Array, multiply: int, divide: int) -> pa.Array:
    """Convert integer ticks to timestamp[us], rounded down; null outside of its range."""
    common = math.gcd(multiply, divide)
    multiply, divide = multiply // common, divide // common
    if ticks.type == pa.uint64():
        ticks = pc.if_else(pc.less(ticks, pa.scalar(2**63, pa.uint64())), ticks, pa.scalar(None, pa.uint64()))
    ticks = ticks.cast(pa.int64())
    largest = (2**63 - 1) // multiply
    fits = pc.and_(pc.greater_equal(ticks, -largest), pc.less_equal(ticks, largest))
    held = pc.if_else(fits, ticks, pa.scalar(None, pa.int64()))
    numbers = held.fill_null(0).to_numpy(zero_copy_only=False)
    numbers = numbers * multiply if divide == 1 else numbers // divide
    return pc.if_else(held.is_valid(), pa.array(numbers).view(pa.timestamp("us")), pa.scalar(None, pa.timestamp("us")))


def _of_floats(column: pa.Array, time_format: TimeFormat) -> pa.Array:
    numbers = column.fill_null(np.nan).to_numpy(zero_copy_only=False)
    units = PER_SECOND[time_format]
    exact = np.floor(numbers / 1_000) if units > 1_000_000 else np.rint(numbers * (1_000_000 // units))
    fits = np.abs(exact) < 2.0**63
    return pa.array(np.where(fits, exact, 0).astype(np.int64), mask=~fits).view(pa.timestamp("us"))


def _of_text(column: pa.StringArray, timezone: str) -> Moments:
    if timezone == "UTC" and _all_match(column, f"^{_LOCAL}$"):
        return Moments(column, "utc")
    if _all_match(column, _AS_DUCKDB_READS):
        return Moments(column, "text")
    rare = pc.invert(pc.match_substring_regex(column, _AS_DUCKDB_READS))
    written = pc.if_else(rare, column, _NOTHING).dictionary_encode()
    read = pa.array([None if text is None else plain(text) for text in written.dictionary.to_pylist()], pa.string())
    return Moments(pc.if_else(rare, read.take(written.indices), column), "text")


def _all_match(column: pa.StringArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(column, pattern)).as_py())


def plain(text: str) -> str | None:
    """Convert a time to the notation that DuckDB parses; None if it is not a time.

    Supports all ISO 8601 notations of an instant or a day: extended and basic format; calendar, week and ordinal dates;
    hours or minutes as the last component; decimal point or comma; offsets in hours, or hours and minutes. Also
    supports slashes in dates, blanks before the offset, the names UTC and GMT, and regions such as Europe/Paris. Other
    zone abbreviations are not supported because they are ambiguous.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    with suppress(ValueError, OverflowError):
        clock = _clock(match["clock"] or "0", match["fraction"])
        day = _day(match["calendar"], match["week"], match["ordinal"]) + timedelta(days=clock.days)
        zone = _zone(match["zone"] or "")
        seconds, microseconds = clock.seconds, clock.microseconds
        time = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{microseconds:06d}"
        return f"{day.year:04d}-{day.month:02d}-{day.day:02d} {time}{zone}"
    return None


def _day(calendar: str | None, week: str | None, ordinal: str | None) -> date:
    if calendar is not None and not calendar.isdigit():
        year, month, day = map(int, re.split("[-/]", calendar))
        return date(year, month, day)
    if calendar is not None or week is not None:
        return date.fromisoformat(calendar or week or "")
    assert ordinal is not None  # one of the three always matches
    digits = ordinal.replace("-", "")
    year, number = int(digits[:4]), int(digits[4:])
    found = date(year, 1, 1) + timedelta(days=number - 1)
    if found.year != year:
        raise ValueError(ordinal)
    return found


def _clock(text: str, fraction: str | None) -> timedelta:
    """Time since midnight. The fraction applies to the last component that is present."""
    parts = text.split(":") if ":" in text or len(text) <= 2 else [text[at : at + 2] for at in range(0, len(text), 2)]
    hours, minutes, seconds = (int(part) for part in (*parts, "0", "0")[:3])
    if hours > 24 or minutes > 59 or seconds > 59:
        raise ValueError(text)
    unit = (3_600_000_000, 60_000_000, 1_000_000)[len(parts) - 1]
    digits = (fraction or "0")[:12]
    since = timedelta(
        hours=hours, minutes=minutes, seconds=seconds, microseconds=int(digits) * unit // 10 ** len(digits)
    )
    if since > timedelta(hours=24):
        raise ValueError(text)
    return since


def _zone(text: str) -> str:
    if not text:
        return ""
    if text.upper() in ("Z", "UTC", "GMT"):
        return "+00:00"
    if text[0] not in "+-":
        return f" {text}"
    digits = text[1:].replace(":", "").ljust(4, "0")
    if int(digits[:2]) > 19 or int(digits[2:]) > 59:
        raise ValueError(text)
    return f"{text[0]}{digits[:2]}:{digits[2:]}"
