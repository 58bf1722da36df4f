"""Refused rows: copied to the quarantine unchanged, and reported with the offending value and a fix."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from hmamba import clock
from hmamba.config import Config
from hmamba.quality.batch import check_rows
from hmamba.quality.row_rules import ROW_RULES, Broken, shown
from hmamba.sources.base import LINE, Part
from hmamba.sources.json_records import parsed
from hmamba.sources.records import as_json
from hmamba.statements import Row, one, rows, statement
from hmamba.warehouse.ledger import Kind
from hmamba.warehouse.staging import chunk_of

log = logging.getLogger("hmamba")

EXAMPLES = 3
_WORDS_FOR_NOTHING = (
    *("nan", "NaN", "NAN", "none", "None", "NONE", "null", "Null", "NULL", "nil", "undefined", "(null)", "<null>"),
    *("N/A", "n/a", "#N/A", "<NA>", "NaT", "\\N"),
)
"""Texts that pandas, Python, JavaScript, Excel and databases write for absent values."""


@dataclass(frozen=True)
class ReadPart:
    """A part with the number of rows that the pull considered, and the number of rows left for later days."""

    part: Part
    rows: int
    left: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all rows of the part were considered by this pull."""
        return not self.left and self.part.rest is None


@dataclass(frozen=True)
class Refusals:
    """Summary of the refused rows of a pull.

    Attributes:
        whole_files: number of parts that were considered whole and have only refused rows.
        share: refused rows as a share of the considered rows. A refused row without a readable time may belong to a
            later day, so its denominator includes the rows of later days.
        examples: sentences with a few refused rows, the offending values and fixes; ends with a blank, empty if there
            are none.
    """

    whole_files: int
    share: float
    examples: str


def first_refused(config: Config) -> datetime:
    """The time, naive UTC, from which on events are refused as too far ahead of the clock."""
    return clock.now() + timedelta(hours=config.quality.max_future_hours)


def refuse_rows(connection: duckdb.DuckDBPyConnection, config: Config, refused_from: datetime, total: int) -> int:
    """Apply the row rules to ``staged``; creates the temporary tables ``broken`` and ``refused``.

    Args:
        connection: the warehouse, with the table ``staged``.
        config: bounds, event types, and whether events are ordered by position.
        refused_from: naive UTC; events at or after it are refused.
        total: number of positions in ``staged``; 0 if it has no rows.

    Returns:
        The number of refused rows.
    """
    connection.execute(statement("ingest/create_broken"))
    check_rows(connection, config, refused_from, total)
    connection.execute(statement("ingest/create_refused"), {"refused_from": refused_from})
    return int(one(connection, "ingest/refused_count")["rows"])


def _refused_rows(part: Part, wanted: Sequence[str], lines: pa.Array) -> Iterator[tuple[pa.Array, list[str]]]:
    """Yield lines and JSON records of the refused rows of one part, batch by batch.

    ``wanted`` are the columns that were read; the detected CSV delimiter depends on them.
    """
    reading = part.open(wanted)
    for everything in reading.batches(None):
        batch = everything.filter(pc.is_in(everything.column(LINE), value_set=lines))
        if batch.num_rows:
            yield batch.column(LINE), as_json(batch, reading.columns)


def quarantine(
    connection: duckdb.DuckDBPyConnection,
    batch_id: int,
    kind: Kind,
    parts: Sequence[Part],
    wanted: Sequence[str],
) -> None:
    """Copy the rows in ``refused``, with all their columns, into the quarantine. The caller commits.

    Args:
        connection: the warehouse, with the table ``refused``, whose file numbers index ``parts``.
        batch_id: the batch of this pull.
        kind: what the parts hold.
        parts: the parts that were read.
        wanted: the columns that were read.

    Raises:
        InputError: a part has changed since it was read.
    """
    for number in (row["file"] for row in rows(connection, "ingest/refused_by_file")):
        part = parts[number]
        values = {"batch_id": batch_id, "kind": kind, "path": part.name, "file": number}
        refused = connection.execute(statement("ingest/refused_lines"), {"file": number}).to_arrow_table()["line"]
        for lines, records in _refused_rows(part, wanted, refused):
            chunk = pa.RecordBatch.from_arrays([lines, pa.array(records, pa.string())], ["line", "record"])
            with chunk_of(connection, chunk):
                connection.execute(statement("ingest/add_quarantine"), values)
        part.require_unchanged()


def tell_refusals(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[ReadPart], wanted: Sequence[str], config: Config
) -> Refusals:
    """Log the share of refused rows of each part, with the first such row, and summarise them.

    Args:
        connection: the warehouse, with the table ``refused``, whose file numbers index ``parts``.
        parts: the parts that were read.
        wanted: the columns that were read.
        config: column names and formats.
    """
    whole: list[str] = []
    partly: list[str] = []
    cures: dict[str, None] = {}
    total, refused = sum(read.rows for read in parts), 0.0
    for found in rows(connection, "ingest/refused_by_file"):
        read = parts[found["file"]]
        name, count = read.part.name, read.rows
        example, found_cures = _example(read.part, wanted, found, config)
        share = f"{found['refused']} of {count} row{'s' if count > 1 else ''} refused ({found['refused'] / count:.3%})"
        if not read.is_whole:
            share = f"{share}; the file has rows of other days too"
        log.warning("%s: %s. %s", name, share, " ".join([f"The first: {example}.", *found_cures]))
        cures.update(dict.fromkeys(found_cures))
        refused += (found["refused"] - found["undated"]) / total + found["undated"] / (total + read.left)
        if read.is_whole and found["refused"] == count:
            every = f"all {count} rows" if count > 1 else "the only row"
            whole.append(f"{every} of {name}, {'the first of them ' if count > 1 else ''}{example}")
        else:
            partly.append(example)
    shown = [*whole[:EXAMPLES], *partly][:EXAMPLES]
    sentences = [f"Refused rows, for example: {'; '.join(shown)}.", *[*cures][:EXAMPLES]] if shown else []
    return Refusals(len(whole), refused, "".join(f"{sentence} " for sentence in sentences))


def doubtful_ids(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Warnings about ids in ``staged`` that look like absent values, such as "nan"."""
    found = rows(connection, "ingest/doubtful_ids", {"words": list(_WORDS_FOR_NOTHING)})
    if not found:
        return []
    named = ", ".join(f"{row['what']} {row['id']!r} ({row['events']:,})" for row in found)
    return [
        f"Some ids look like absent values (events in brackets): {named}. If they are, add them to source.null_words, "
        "so that such rows are refused from then on; rows that are loaded stay in the warehouse."
    ]


def _example(part: Part, wanted: Sequence[str], found: Row, config: Config) -> tuple[str, list[str]]:
    """The first refused row of a part with the values that broke its rules, and the fixes."""
    record = found["malformed"]
    if record is None:
        record = record_on(part, wanted, found["first_line"])
    broken, cures = [], []
    for rule in (ROW_RULES[name] for name in found["rules"]):
        columns = rule.columns(config)
        if isinstance(record, Mapping) and columns:
            nested = [name for name in columns if isinstance(record.get(name), dict | list)]
            column = [*nested, *columns][0]
            value = record.get(column)
            broken.append(f"{rule.name} ({column} = {shown(value)})")
        else:
            value = None if columns else record
            broken.append(f"{rule.name} ({shown(record)})")
        cures.append(rule.cure(Broken(value, part, config)))
    return f"{part.name}, line {found['first_line']}: {', '.join(broken)}", list(dict.fromkeys(filter(None, cures)))


def record_on(part: Part, wanted: Sequence[str], line: int) -> Any:
    """The record that starts on a line; its text if Python cannot parse it, for example because of nesting depth."""
    _, (record, *_) = next(_refused_rows(part, wanted, pa.array([line], pa.int64())))
    try:
        return parsed(record)
    except (ValueError, RecursionError):
        return record
