"""Reading a CSV file in blocks, against reading it record by record and against DuckDB's reader."""

from __future__ import annotations

import logging
import tempfile
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from bench.speed.rounds import Figure, Ways, check, in_turns
from hmamba.sources.csv_blocks import read_csv
from hmamba.sources.discover import SourceFile, find_files

log = logging.getLogger("hmamba")

ROWS, BATCH = 300_000, 100_000
BROKEN = 1_000
"""One record in this many lacks a field."""

BLOCKS, RECORDS, DUCKDB = "blocks", "records", "DuckDB, rejects kept"
_HEADER = ["user_id", "item_id", "event_time", "weight"]
_DUCKDB = """
CREATE OR REPLACE TABLE read AS
SELECT * FROM read_csv($path, delim = ',', quote = '"', header = true, all_varchar = true, store_rejects = true,
    strict_mode = true, null_padding = false, rejects_table = 'broken', rejects_limit = 0)
"""


def _write(path: Path, rows: int, *, quoted: bool) -> None:
    draw = np.random.default_rng(0)
    quote = '"' if quoted else ""
    users, items, seconds = draw.integers(0, [[10**6], [10**5], [86_400]], (3, rows))
    with path.open("w", encoding="utf-8") as stream:
        stream.write(",".join(_HEADER) + "\n")
        for number, (user, item, second) in enumerate(zip(users, items, seconds, strict=True)):
            time = f"2024-01-01 {second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
            weight = "" if number % BROKEN == 0 else f",{number % 7}"
            stream.write(f"{quote}user {user}{quote},{quote}{item}{quote},{time}{weight}\n")


def _read(file: SourceFile, *, by_record: bool) -> list[pa.RecordBatch]:
    return list(read_csv(file, ",", len(_HEADER), range(len(_HEADER)), _HEADER, BATCH, by_record=by_record))


def _read_by_duckdb(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    for table in ("broken", "reject_scans"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    connection.execute(_DUCKDB, {"path": str(path)})


def figures(*, quick: bool) -> list[Figure]:
    """Rows read per second, without quotes and with all ids in quotes; one record in a thousand is malformed."""
    rows, rounds = (ROWS // 10, 2) if quick else (ROWS, 5)
    found: list[Figure] = []
    for what, quoted in (("plain", False), ("ids in quotes", True)):
        log.info("CSV, %s", what)
        with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
            path = Path(folder) / "events.csv"
            _write(path, rows, quoted=quoted)
            (file,) = find_files(str(path), path.parent, "--")
            fast, slow = (pa.Table.from_batches(_read(file, by_record=way)) for way in (False, True))
            check(fast.equals(slow), "blocks and records differ")
            _read_by_duckdb(connection, path)
            good = connection.execute("SELECT count(*) FROM read").fetchall()
            check(good == [(rows - fast["__malformed"].drop_null().length(),)], "DuckDB reads other rows")
            ways: Ways = {
                BLOCKS: partial(_read, file, by_record=False),
                RECORDS: partial(_read, file, by_record=True),
                DUCKDB: partial(_read_by_duckdb, connection, path),
            }
            seconds, spread = in_turns(ways, rounds)
        title = f"CSV of {rows:,} rows, {what}"
        found += [Figure(title, BLOCKS, peer, (rows, "rows"), seconds, spread) for peer in (RECORDS, DUCKDB)]
    return found
