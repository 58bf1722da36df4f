"""The row rules: condition, column and fix of each. A row that breaks a rule goes to quarantine.

To add a rule, extend one of the two tables here and the table in docs/warehouse.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hmamba.config import Config
from hmamba.sources.base import Part
from hmamba.sources.times import unit_of
from hmamba.statements import statement

_SHOWN_CHARACTERS = 100
_NUMBER = re.compile(r"-?\d+(\.\d*)?")
_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_DATE_AND_TIME = re.compile(rf"({_DATE.pattern})(([01]\d|2[0-3])[0-5]\d([0-5]\d)?)")
_ABBREVIATION = re.compile(r"\d ?(?!AM$|PM$)[A-Z]{2,5}$")


@dataclass(frozen=True)
class Broken:
    """A value in a record of ``part`` that breaks a rule; for an unreadable record, its text."""

    value: Any
    part: Part
    config: Config


@dataclass(frozen=True)
class RowRule:
    """A rule for single rows.

    Attributes:
        name: name in the quarantine.
        condition: SQL over the columns of ``staged`` or ``catalogue`` that is true if the rule is broken.
        broken_by: the condition in words, as in docs/warehouse.md.
        columns: the configured columns that the rule checks; empty if it checks the whole record.
        cure: a sentence that says how to fix a value; None if the rule's name and the value are sufficient.
        advice: the setting to change, or the notation to use, shown before the first pull.
    """

    name: str
    condition: str
    broken_by: str
    columns: Callable[[Config], tuple[str, ...]] = lambda _: ()
    cure: Callable[[Broken], str | None] = lambda _: None
    advice: str = "docs/warehouse.md#rules"


def shown(value: Any) -> str:
    """Format a value for a message: one line, truncated, text in quotes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return f"'{text}'" if isinstance(value, str) else text


def _column(role: str) -> Callable[[Config], tuple[str, ...]]:
    """The column of interactions for a role."""
    return lambda config: (getattr(config.source.columns, role) or "",)


def _catalogue_texts(config: Config) -> tuple[str, ...]:
    names = config.catalogue
    return tuple(name for name in (names.title, *names.category_path, *names.attributes) if name is not None)


def _says(sentence: str) -> Callable[[Broken], str]:
    return lambda _: sentence


def _of_absent(broken: Broken) -> str | None:
    value = broken.value
    if not (isinstance(value, str) and value.strip()):
        return None
    is_word = value.strip() in broken.config.source.null_words
    return f"{shown(value)} stands for an absent value{': see source.null_words' if is_word else ''}."


def _of_type(broken: Broken) -> str:
    return f"[events] names {', '.join(broken.config.events.types)}: add a table for each other type that you need."


def _unit(value: Any) -> str | None:
    """The time format that fits the magnitude of a number, or None."""
    text = str(value).strip()
    if _DATE_AND_TIME.fullmatch(text):  # 202401011000 is in the range of epoch_ms too, in the year 1976
        return None
    return unit_of(float(text)) if _NUMBER.fullmatch(text) else None


def _of_unit(broken: Broken) -> str | None:
    """Fix for a number that looks like a time in another unit than the configured one."""
    value, time_format, likely = broken.value, broken.config.source.time_format, _unit(broken.value)
    if likely is None or likely == time_format:
        return None
    if time_format == "auto":
        return (
            f"Numbers are times only if source.time_format gives their unit: {value} looks like {likely!r}, "
            f"so set source.time_format = {likely!r}."
        )
    return (
        f"{value} looks like {likely!r}, but source.time_format is {time_format!r}: correct the setting, or write "
        "all files in one unit."
    )


def _of_compact(broken: Broken) -> str | None:
    """Fix for digits that look like a compact date and time."""
    compact, time_format = _DATE_AND_TIME.fullmatch(str(broken.value).strip()), broken.config.source.time_format
    if compact is None:
        return None
    setting = "" if time_format == "auto" else f", and set source.time_format to 'auto' ({time_format!r} now)"
    return (
        f"{broken.value} looks like a date and a time without separators: write it as text, "
        f"{compact[1]}T{compact[5]}{setting}."
    )


def _of_bounds(broken: Broken) -> str | None:
    cure = _of_unit(broken) or _of_compact(broken)
    if cure is None and broken.config.source.time_format != "auto":
        return f"source.time_format = {broken.config.source.time_format!r} may be the wrong unit."
    return cure


def _of_time(broken: Broken) -> str | None:
    value, time_format = broken.value, broken.config.source.time_format
    unit = _of_unit(broken)
    if unit is not None:
        return unit
    if isinstance(value, str) and _ABBREVIATION.search(value.strip()):
        return (
            f"Abbreviations of time zones such as {value.split()[-1]} mean several zones each: write an offset "
            "(+01:00), UTC, or a region (Europe/London), or no zone and set source.timezone."
        )
    compact = _of_compact(broken)
    if compact is not None:
        return compact
    if time_format != "auto":
        return (
            f"source.time_format = {time_format!r} reads numbers and types of times only: set it to 'auto' for times "
            "that are written as text."
        )
    if isinstance(value, int) and _DATE.fullmatch(str(value)):
        return f"{value} looks like a date, but is a number: write dates as text or as a date type."
    return (
        "Times are a timestamp or date type, ISO 8601 text (2024-05-29, 2024-05-29 12:32:00+02:00, "
        "20240529T123200Z, 2024-W22-3T12:32Z), or numbers with source.time_format."
    )


_IDS = _says("Ids are text, whole numbers (as floats, below 2^53) or UUIDs; source.null_words are absent ids.")

RECORD_READABLE = RowRule(
    name="record_readable",
    condition="malformed IS NOT NULL",
    broken_by="a record with the wrong number of fields or invalid UTF-8, or one that is not a JSON object",
    cure=lambda broken: broken.part.cure(str(broken.value)),
    advice="fix the record (number of fields, quotes, UTF-8), or leave it: it is set aside",
)


def _of_ids(role: str) -> tuple[RowRule, ...]:
    """Rules of user_id or item_id."""
    return (
        RowRule(
            name=f"{role}_present",
            condition=f"{role} IS NULL AND NOT {role.removesuffix('_id')}_unreadable",
            broken_by="an absent id",
            columns=_column(role),
            cure=_of_absent,
            advice=f"source.columns.{role}, or source.null_words if that word is an id",
        ),
        RowRule(
            name=f"{role}_readable",
            condition=f"{role.removesuffix('_id')}_unreadable",
            broken_by="a number that is not whole or is too large to be exact, or a JSON object or array",
            columns=_column(role),
            cure=_IDS,
            advice=f"source.columns.{role}: ids are text, whole numbers or UUIDs",
        ),
        RowRule(
            name=f"{role}_length",
            condition=f"length({role}) NOT BETWEEN 1 AND $max_id_length",
            broken_by="an id of more than `max_id_length` characters",
            columns=_column(role),
            advice="quality.max_id_length",
        ),
    )


EVENT_RULES = (
    RECORD_READABLE,
    *_of_ids("user_id"),
    *_of_ids("item_id"),
    RowRule(
        name="event_time_readable",
        condition="event_time IS NULL AND NOT $by_position",
        broken_by="a time that is absent or cannot be read",
        columns=_column("event_time"),
        cure=_of_time,
        advice="source.time_format, or write times as 2024-05-31T18:30:00Z",
    ),
    RowRule(
        name="position_readable",
        condition="event_time IS NULL AND $by_position",
        broken_by="a position that is absent or not a whole number (only for data ordered by position, to which no "
        "rule of times applies)",
        columns=_column("position"),
        cure=_says("Positions are whole numbers, up to 6e16 in size."),
        advice="source.columns.position: positions are whole numbers",
    ),
    RowRule(
        name="event_time_not_before",
        condition="event_time < $earliest",
        broken_by="a time before `min_time`",
        columns=_column("event_time"),
        cure=_of_bounds,
        advice="quality.min_time",
    ),
    RowRule(
        name="event_time_not_after",
        condition="event_time >= $latest",
        broken_by="a time `max_future_hours` or more after the current time",
        columns=_column("event_time"),
        cure=_of_bounds,
        advice="source.time_format if the unit is wrong; otherwise fix the times",
    ),
    RowRule(
        name="event_type_known",
        condition="$typed AND NOT coalesce(list_contains($types, event_type), false)",
        broken_by="no type, or one that `[events]` does not name (only if the source has types)",
        columns=_column("event_type"),
        cure=_of_type,
        advice="[events]: add a table for this type",
    ),
    RowRule(
        name="weight_is_number",
        condition="weight IS NULL OR isnan(weight)",
        broken_by="a weight that is absent, NaN or not a number (only if the source has weights)",
        columns=_column("weight"),
        cure=_says("Weights are numbers, with a point before decimals; write 1 for an ordinary event."),
        advice="source.columns.weight: remove it, or fill the gaps",
    ),
    RowRule(
        name="weight_in_bounds",
        condition="NOT isnan(weight) AND weight NOT BETWEEN $min_weight AND $max_weight",
        broken_by="a weight outside of `min_weight` to `max_weight`, or an infinite one",
        columns=_column("weight"),
        advice="quality.min_weight and quality.max_weight",
    ),
)
"""Rules of the rows of ``staged``. NaN breaks weight_is_number only, not weight_in_bounds."""

CATALOGUE_RULES = (
    RECORD_READABLE,
    RowRule(
        name="catalogue_item_id",
        condition="item_id IS NULL OR length(item_id) > $max_id_length",
        broken_by="a row of the catalogue whose id is absent, unreadable or too long",
        columns=lambda config: (config.catalogue.item_id,),
        cure=_IDS,
    ),
    RowRule(
        name="catalogue_text_readable",
        condition="NOT is_text",
        broken_by="a row of the catalogue with a JSON object or array as its title or as one of its categories",
        columns=_catalogue_texts,
    ),
)
"""Rules of the rows of ``catalogue``."""

ROW_RULES = {rule.name: rule for rule in (*EVENT_RULES, *CATALOGUE_RULES)}


def with_rules(name: str, rules: Sequence[RowRule]) -> str:
    """The statement ``name`` with its placeholder comments replaced by the conditions of the rules."""
    cases = ", ".join(f"CASE WHEN {rule.condition} THEN '{rule.name}' END" for rule in rules)
    conditions = " OR ".join(f"({rule.condition})" for rule in rules)
    return statement(name).replace("/* rules */", cases).replace("/* any rule */ false", conditions)
