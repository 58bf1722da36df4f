"""Refused rows: kept as they were, and reported with the value that broke the rule and a cure."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from hmamba.config import Config
from hmamba.sources.json_records import parsed
from hmamba.sources.read import open_file
from hmamba.sources.records import as_json
from hmamba.sources.text import LINE, conversion
from hmamba.statements import statement
from hmamba.warehouse.ledger import Kind, TakenFile, require_unchanged
from hmamba.warehouse.staging import chunk_of
from hmamba.warehouse.tables import Row, rows

log = logging.getLogger("hmamba")

EXAMPLES = 3
_SHOWN_CHARACTERS = 100
_UNITS = {"epoch_s": (1e8, 1e11), "epoch_ms": (1e11, 1e14), "epoch_us": (1e14, 1e17), "epoch_ns": (1e17, 1e20)}
"""Numbers of each unit for times from 1973 to 5138."""

_WORDS_FOR_NOTHING = (
    *("nan", "NaN", "NAN", "none", "None", "NONE", "null", "Null", "NULL", "nil", "undefined", "(null)", "<null>"),
    *("N/A", "n/a", "#N/A", "<NA>", "NaT", "\\N"),
)
"""What pandas, Python, JavaScript, Excel and databases write where there is nothing."""

_NUMBER = re.compile(r"-?\d+(\.\d*)?")
_DATE = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_DATE_AND_TIME = re.compile(rf"({_DATE.pattern})(([01]\d|2[0-3])[0-5]\d([0-5]\d)?)")
_ABBREVIATION = re.compile(r"\d ?(?!AM$|PM$)[A-Z]{2,5}$")


@dataclass(frozen=True)
class ReadFile:
    """What a pull has read of a file: the rows that it considered, and how many of later days it has left."""

    taken: TakenFile
    rows: int
    left: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all rows of the file were considered by this pull."""
        return not self.left and self.taken.rest is None


@dataclass(frozen=True)
class Refusals:
    """What was refused of the files of a pull, in words.

    Attributes:
        whole_files: files that were considered whole, and of which every row is refused.
        share: refused rows of all that were considered. One that belongs to no day may be of a later day, and counts
            against the rows of later days in its file as well.
        examples: a few rows with the value that broke the rule and a cure, with a blank at the end; empty if there are
            none.
    """

    whole_files: int
    share: float
    examples: str


def _refused_rows(taken: TakenFile, wanted: Sequence[str], lines: pa.Array) -> Iterator[tuple[pa.Array, list[str]]]:
    """Lines and records (JSON) of the refused rows of one file, some at a time.

    ``wanted`` are the columns that were read: what is a delimiter depends on them.
    """
    reading = open_file(taken.file, wanted)
    for everything in reading.batches(None):
        batch = everything.filter(pc.is_in(everything.column(LINE), value_set=lines))
        if batch.num_rows:
            yield batch.column(LINE), as_json(batch, reading.columns)


def quarantine(
    connection: duckdb.DuckDBPyConnection,
    batch_id: int,
    kind: Kind,
    files: Sequence[TakenFile],
    wanted: Sequence[str],
) -> None:
    """Copy the ``refused`` rows of files, with all their columns, into the quarantine. The caller commits.

    Args:
        connection: has the table ``refused``, in which files are numbered as in ``files``.
        batch_id: the pull.
        kind: what the files hold.
        files: what was read.
        wanted: the columns that were read.

    Raises:
        InputError: a file has changed since it was read.
    """
    for found in rows(connection, "ingest/refused_by_file"):
        _quarantine(connection, batch_id, kind, found["file"], files[found["file"]], wanted)


def _quarantine(
    connection: duckdb.DuckDBPyConnection,
    batch_id: int,
    kind: Kind,
    number: int,
    taken: TakenFile,
    wanted: Sequence[str],
) -> None:
    values = {"batch_id": batch_id, "kind": kind, "path": taken.file.name, "file": number}
    refused = connection.execute(statement("ingest/refused_lines"), {"file": number}).to_arrow_table()["line"]
    for lines, records in _refused_rows(taken, wanted, refused):
        chunk = pa.RecordBatch.from_arrays([lines, pa.array(records, pa.string())], ["line", "record"])
        with chunk_of(connection, chunk):
            connection.execute(statement("ingest/add_quarantine"), values)
    require_unchanged(taken)


def tell_refusals(
    connection: duckdb.DuckDBPyConnection, files: Sequence[ReadFile], wanted: Sequence[str], config: Config
) -> Refusals:
    """Log, for each file, the share of its rows that are ``refused`` and the first of them.

    Args:
        connection: has the table ``refused``, in which files are numbered as in ``files``.
        files: what was read.
        wanted: the columns that were read.
        config: which column a rule is about, and how it was read.
    """
    whole: list[str] = []
    partly: list[str] = []
    cures: dict[str, None] = {}
    total, part = sum(read.rows for read in files), 0.0
    for found in rows(connection, "ingest/refused_by_file"):
        read = files[found["file"]]
        name, count = read.taken.file.name, read.rows
        example, found_cures = _example(read.taken, wanted, found, config)
        share = f"{found['refused']} of {count} row{'s' if count > 1 else ''} refused ({found['refused'] / count:.3%})"
        if not read.is_whole:
            share = f"{share}; the file has rows of other days too"
        log.warning("%s: %s. %s", name, share, " ".join([f"The first: {example}.", *found_cures]))
        cures.update(dict.fromkeys(found_cures))
        part += (found["refused"] - found["undated"]) / total + found["undated"] / (total + read.left)
        if read.is_whole and found["refused"] == count:
            every = f"all {count} rows" if count > 1 else "the only row"
            whole.append(f"{every} of {name}, {'the first of them ' if count > 1 else ''}{example}")
        else:
            partly.append(example)
    shown = [*whole[:EXAMPLES], *partly][:EXAMPLES]
    sentences = [f"Refused rows, for example: {'; '.join(shown)}.", *[*cures][:EXAMPLES]] if shown else []
    return Refusals(len(whole), part, "".join(f"{sentence} " for sentence in sentences))


def doubtful_ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Sentences about ids in ``staged`` that programs write where a value is absent, such as "nan"."""
    found = rows(connection, "ingest/doubtful_ids", {"words": list(_WORDS_FOR_NOTHING)})
    if not found:
        return []
    told = ", ".join(f"{row['what']} {row['id']!r} ({row['events']:,})" for row in found)
    return [
        f"Some ids look like absent values (events in brackets): {told}. If they are, add them to source.null_words, "
        "so that such rows are refused from then on; rows that are loaded stay in the warehouse."
    ]


def _example(taken: TakenFile, wanted: Sequence[str], found: Row, config: Config) -> tuple[str, list[str]]:
    """The first refused row of a file, with the values that broke its rules, and what can be done about it."""
    record: Any = found["malformed"]
    if record is None:
        for _, records in _refused_rows(taken, wanted, pa.array([found["first_line"]], pa.int64())):
            record = _parsed(records[0])
            break
    told, cures = [], []
    columns = _columns(config)
    for rule in found["rules"]:
        if isinstance(record, Mapping) and rule in columns:
            nested = [name for name in columns[rule] if isinstance(record.get(name), dict | list)]
            column = [*nested, *columns[rule]][0]
            value = record.get(column)
            told.append(f"{rule} ({column} = {_cut(value)})")
        else:
            value = None if rule in columns else record
            told.append(f"{rule} ({_cut(record)})")
        cures.append(_cure(rule, value, taken, config))
    return f"{taken.file.name}, line {found['first_line']}: {', '.join(told)}", list(dict.fromkeys(filter(None, cures)))


def _parsed(record: str) -> Any:
    """A record as Python has it; its text where Python cannot read it, such as for nesting or a trailing comma."""
    try:
        return parsed(record)
    except (ValueError, RecursionError):
        return record


def _columns(config: Config) -> dict[str, list[str]]:
    """The column, or columns, that each rule is about."""
    names, catalogue = config.source.columns, config.catalogue
    of_text = [name for name in (catalogue.title, *catalogue.category_path) if name is not None]
    about = [
        ([names.user_id], ("user_id_present", "user_id_readable", "user_id_length")),
        ([names.item_id], ("item_id_present", "item_id_readable", "item_id_length")),
        ([names.event_time], ("event_time_readable", "event_time_not_before", "event_time_not_after")),
        ([names.position or ""], ("position_readable",)),
        ([names.event_type or ""], ("event_type_known",)),
        ([names.weight or ""], ("weight_is_number", "weight_in_bounds")),
        ([catalogue.item_id], ("catalogue_item_id",)),
        (of_text, ("catalogue_text_readable",)),
    ]
    return {rule: columns for columns, rules in about for rule in rules}


def _cut(value: Any) -> str:
    """A value for a message: on one line, not endless, text in quotes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return f"'{text}'" if isinstance(value, str) else text


def _unit(value: Any) -> str | None:
    """The time format that a number looks like."""
    text = str(value).strip()
    if _DATE_AND_TIME.fullmatch(text):  # 20240101100000 is in the range of epoch_ms too, in the year 2611
        return None
    if _NUMBER.fullmatch(text) is None:
        return None
    return next((name for name, (least, most) in _UNITS.items() if least <= float(text) < most), None)


def _cure(rule: str, value: Any, taken: TakenFile, config: Config) -> str | None:
    """A sentence about what to do, where the rule's name and the value do not say it."""
    time_format, likely = config.source.time_format, _unit(value)
    if rule.startswith("event_time") and likely is not None and likely != time_format:
        if time_format == "auto":
            return (
                f"Numbers are times only where source.time_format says of which unit: {value} looks like {likely!r}, "
                f"so set source.time_format = {likely!r}."
            )
        return (
            f"{value} looks like {likely!r}, but source.time_format is {time_format!r}: correct the setting, or write "
            "all files in one unit."
        )
    if rule == "event_time_readable" and isinstance(value, str) and _ABBREVIATION.search(value.strip()):
        return (
            f"Abbreviations of time zones such as {value.split()[-1]} mean several zones each: write an offset "
            "(+01:00), UTC, or a region (Europe/London), or no zone and set source.timezone."
        )
    if rule.startswith("event_time") and (compact := _DATE_AND_TIME.fullmatch(str(value).strip())):
        setting = "" if time_format == "auto" else f", and set source.time_format to 'auto' ({time_format!r} now)"
        return (
            f"{value} looks like a date and a time without anything between them: write it as text, "
            f"{compact[1]}T{compact[5]}{setting}."
        )
    if rule in ("event_time_not_before", "event_time_not_after") and time_format != "auto":
        return f"source.time_format = {time_format!r} may be the wrong unit."
    if rule == "event_time_readable" and time_format != "auto":
        return (
            f"source.time_format = {time_format!r} reads numbers and types of times only: set it to 'auto' for times "
            "that are written as text."
        )
    if rule == "event_time_readable" and isinstance(value, int) and _DATE.fullmatch(str(value)):
        return f"{value} looks like a date, but is a number: write dates as text or as a date type."
    if rule == "event_time_readable":
        return (
            "Times are a timestamp or date type, ISO 8601 text (2024-05-29, 2024-05-29 12:32:00+02:00, "
            "20240529T123200Z, 2024-W22-3T12:32Z), or numbers with source.time_format."
        )
    if rule == "record_readable" and "\\x" in str(value):
        return f"Bytes that are not UTF-8 are another encoding's: {conversion(taken.file, 'WINDOWS-1252')}"
    if rule == "record_readable" and taken.file.kind == "csv":
        return (
            "A record has as many fields as the header line; a field that holds the delimiter, quotes or line breaks "
            "is quoted."
        )
    if rule in ("user_id_present", "item_id_present") and isinstance(value, str) and value.strip():
        is_word = value.strip() in config.source.null_words
        return f"{_cut(value)} stands for an absent value{': see source.null_words' if is_word else ''}."
    if rule == "weight_is_number":
        return "Weights are numbers, with a point before decimals; a row without a weight has to say 1."
    if rule == "event_type_known":
        return f"[events] names {', '.join(config.events.types)}: add a table for every other type that is meant."
    if rule == "position_readable":
        return "Positions are whole numbers, up to 6e16 in size."
    if rule in ("user_id_readable", "item_id_readable", "catalogue_item_id"):
        return "Ids are text, whole numbers (as floats, below 2^53) or UUIDs; source.null_words are absent ids."
    return None
