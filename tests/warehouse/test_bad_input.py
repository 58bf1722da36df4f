"""Each bad input gives a sentence that names the place; nothing is lost and nothing is half-done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from hmamba.warehouse.tables import create_tables
from tests.landing import DAY, Root
from tests.synthetic import make_interactions, write_landing


def csv(user: str = "u", item: str = "i", day: int = 2, rows: int = 100) -> str:
    """A good file: one event a user."""
    lines = (f"{user}{number},{item}{number},2024-01-{day:02d} 10:00:00,1\n" for number in range(rows))
    return "user_id,item_id,event_time,weight\n" + "".join(lines)


GOOD = csv()
WEIGHTED = '[source.columns]\nweight = "weight"\n'
LONG = "x" * 10_000

BAD_ROWS = {
    ",i,2024-01-02,1": ["user_id_present"],
    "u,,2024-01-02,1": ["item_id_present"],
    f"{LONG},i,2024-01-02,1": ["user_id_length"],
    f"u,{LONG},2024-01-02,1": ["item_id_length"],
    "u,i,1970-01-01,1": ["event_time_not_before"],
    "u,i,2090-01-01,1": ["event_time_not_after"],
    "u,i,yesterday,1": ["event_time_readable"],
    "u,i,2024-01-02,NaN": ["weight_is_number"],
    "u,i,2024-01-02,inf": ["weight_in_bounds"],
    "u,i,2024-01-02,-2e9": ["weight_in_bounds"],
    "u,i,2024-01-02": ["record_readable"],
    ",i,2090-01-01,": ["event_time_not_after", "user_id_present", "weight_is_number"],
}


def test_bad_rows_go_to_quarantine_whole_and_the_rest_loads(root: Root) -> None:
    root.configure(WEIGHTED + "[quality]\nmax_quarantined_share = 0.2\n")
    root.drop("a.csv", GOOD + "\n".join(BAD_ROWS) + "\n")
    metrics = root.ok("ingest")
    assert (metrics["rows_loaded"], metrics["rows_quarantined"]) == (100, len(BAD_ROWS))
    found = root.sql("SELECT path, line, rules, record FROM quarantine ORDER BY line")
    for (path, line, rules, record), (number, (text, expected)) in zip(
        found, enumerate(BAD_ROWS.items(), 102), strict=True
    ):
        assert (path, line, rules) == ("landing/interactions/a.csv", number, expected)
        raw = json.loads(record)
        assert (raw if isinstance(raw, str) else ",".join(raw.values())) == text


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_quarantined_records_of_other_formats_keep_every_column(root: Root, name: str) -> None:
    frame = make_interactions().assign(basket=7)
    frame.loc[5, "user_id"] = None
    write_landing(root.layout.root, frame, name)
    assert root.ok("ingest")["quarantined_by_rule"] == {"user_id_present": 1}
    ((line, record),) = root.sql("SELECT line, record FROM quarantine")
    raw = json.loads(record)
    assert line == 6
    assert (raw["user_id"], raw["item_id"], raw["basket"]) == (None, frame.item_id[5], 7)
    assert pd.Timestamp(raw["event_time"]) == frame.event_time[5]


def test_quarantine_splits_records_as_the_pull_did(root: Root) -> None:
    """By the delimiter that finds the columns, though another finds more fields in the header line."""
    header = 'user_id;item_id;event_time;"price, eur, incl, vat, all"\n'
    rows = "".join(f"u{number};i;2024-01-02 10:00:{number:02d};1\n" for number in range(50))
    root.drop("a.csv", f"{header}{rows}u1;i1;nonsense;1\n")
    code, _, log = root.step("ingest")
    assert (code, "event_time_readable (event_time = 'nonsense')" in log) == (0, True), log
    ((record,),) = root.sql("SELECT record FROM quarantine")
    assert json.loads(record) == {
        "user_id": "u1",
        "item_id": "i1",
        "event_time": "nonsense",
        "price, eur, incl, vat, all": "1",
    }


def test_the_first_refused_row_is_shown_with_its_own_value_though_a_later_record_is_unreadable(root: Root) -> None:
    root.drop("a.csv", f"{csv(rows=500)}u,i,nonsense,1\nu,i\n")
    code, _, log = root.step("ingest")
    assert (code, "line 502: event_time_readable (event_time = 'nonsense')" in log) == (0, True), log


def test_quarantine_splits_records_of_a_catalogue_as_the_pull_did(root: Root) -> None:
    root.drop("a.csv", GOOD)
    root.configure('[catalogue]\npath = "cat.csv"\nitem_id = "sku"\n')
    rows = "".join(f"i{number};1\n" for number in range(50))
    (root.layout.root / "cat.csv").write_text(f'sku;"a, b, c, d"\n{rows};2\n')
    code, _, log = root.step("ingest")
    assert (code, "catalogue_item_id (sku = '')" in log) == (0, True), log
    ((record,),) = root.sql("SELECT record FROM quarantine")
    assert json.loads(record) == {"sku": "", "a, b, c, d": "2"}


REFUSED = {
    "a column is missing": (2, b"user,item_id,event_time\nu,i,2024-01-02\n", "bad.csv has no column 'user_id'"),
    "not what its name says": (2, b"PAR1....", "bad.csv is a Parquet file by its content"),
    "an open quote": (2, b'user_id,item_id,event_time\nu,"i,2024-01-02\n', "starts on line 2"),
    "too many bad rows": (3, b"user_id,item_id,event_time\n" + b"u,i,never\n" * 99, "quarantined_share is "),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_pull_changes_nothing(loaded: Root, what: str) -> None:
    expected, content, told = REFUSED[what]
    before = loaded.contents()
    loaded.drop("good.csv", GOOD)
    loaded.drop("bad.csv", content)
    code, _, log = loaded.step("ingest")
    assert (code, told in log) == (expected, True), log
    assert loaded.contents() == before


@pytest.mark.parametrize("what", ["a column is missing", "too many bad rows"])
def test_a_first_pull_that_is_refused_leaves_no_warehouse_and_can_be_mended(root: Root, what: str) -> None:
    expected, content, _ = REFUSED[what]
    root.drop("good.csv", GOOD)
    bad = root.drop("bad.csv", content)
    assert root.step("ingest")[0] == expected
    assert not list(root.layout.root.glob("warehouse*"))
    bad.unlink()
    assert root.ok("ingest")["rows_loaded"] == 100


def test_a_broken_batch_rule_says_figures_and_examples(root: Root) -> None:
    root.drop("a.csv", "user_id,item_id,event_time\nu,i,2024-01-02\nu,i,5 o'clock\n")
    code, _, log = root.step("ingest")
    assert code == 3
    assert "quarantined_share is 0.5, allowed at most 0.1" in log
    assert "share_against" not in log
    assert "landing/interactions/a.csv, line 3: event_time_readable" in log
    assert f"Details: {root.layout.checks.of_kind('staged_batch')}/" in log


@pytest.mark.parametrize(
    ("settings", "second", "told"),
    [
        ("max_duplicate_share = 0.4", None, "duplicate_share is 1, allowed at most 0.4"),
        ("min_volume_ratio = 0.5", csv(rows=94), "94 rows against a median of 941, allowed ratio 0.5 (volume_ratio is"),
        ("max_volume_ratio = 0.1", csv(rows=100), "volume_ratio is 0.1063, allowed at least 0 and at most 0.1"),
        ("max_staleness_days = 0.05", csv(), "the newest event is 0.097 days old, allowed 0.05 (staleness_days"),
    ],
)
def test_batch_rules_against_earlier_pulls(loaded: Root, settings: str, second: str | None, told: str) -> None:
    before = loaded.contents()
    loaded.configure(f"[quality]\n{settings}\n")
    if second is None:
        write_landing(loaded.layout.root, make_interactions(), "same.parquet")
    else:
        loaded.drop("b.csv", second)
    code, _, log = loaded.step("ingest")
    assert (code, told in log) == (3, True), log
    assert loaded.contents() == before


def test_a_locked_warehouse_names_the_process_that_holds_it(loaded: Root) -> None:
    holder = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder, str(loaded.layout.warehouse)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        loaded.configure("[warehouse]\nwait_seconds = 0.3\n")
        for step in ("ingest", "snapshot"):
            code, _, log = loaded.step(step)
            assert (code, f"is in use by process {process.pid}, also after 0 seconds" in log) == (1, True), log
        process.communicate()
    assert loaded.step("snapshot")[0] == 0


def test_a_warehouse_that_is_no_duckdb_file(root: Root) -> None:
    root.drop("a.csv", GOOD)
    root.layout.warehouse.write_bytes(b"not a database" * 1000)
    code, _, log = root.step("ingest")
    assert (code, "warehouse.duckdb cannot be opened as a DuckDB file" in log) == (2, True), log
    assert root.layout.warehouse.read_bytes().startswith(b"not a database")


def test_a_pull_that_loses_the_race_does_not_delete_the_winners_warehouse(root: Root) -> None:
    """Two first pulls at once: the second finds a lock on a file that was not there when it began."""
    root.drop("a.csv", GOOD)
    winner = (
        "import duckdb, sys; held = duckdb.connect(sys.argv[1]); held.execute('CREATE TABLE interactions (x INT)'); "
        "print(1, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", winner, str(root.layout.warehouse)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        root.configure("[warehouse]\nwait_seconds = 0\n")
        assert root.step("ingest")[0] == 1
        assert root.layout.warehouse.exists()
        process.communicate()
    assert root.sql("SELECT count(*) FROM interactions") == [(0,)]


KILLED = """
import os, signal, sys
from hmamba.config import Config
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import connect
from hmamba.sources.registry import open_source
from hmamba.warehouse.pull import Pull, pull
from datetime import date

layout, config = Layout.at(sys.argv[1]), Config()
with connect(layout.warehouse, config.warehouse) as connection:
    connection.begin()
    outcome = pull(connection, Pull(layout, config, date(2024, 1, 30), "killed", open_source(layout, config)))
    loaded = connection.execute("SELECT count(*) FROM interactions").fetchone()[0]
    print(outcome.batch_id, loaded, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_pull(root: Root) -> list[str]:
    """Pull in another process that is killed before its commit; returns the batch and the rows that it had seen."""
    command = [sys.executable, "-c", KILLED, str(root.layout.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.split()


def test_a_pull_killed_before_its_commit_has_not_happened(loaded: Root) -> None:
    before = loaded.contents()
    loaded.drop("good.csv", GOOD)
    assert killed_pull(loaded) == ["2", "1041"]
    assert loaded.contents() == before
    metrics = loaded.ok("ingest")
    assert (metrics["batch_id"], metrics["rows_loaded"], metrics["files"]) == (2, 100, 1)


def test_a_warehouse_in_which_nothing_was_committed_is_empty_and_can_be_filled(root: Root) -> None:
    """What a first pull leaves if it is killed."""
    root.drop("good.csv", GOOD)
    with duckdb.connect(str(root.layout.warehouse)) as connection:
        connection.begin()
        create_tables(connection)
        connection.rollback()
    code, _, log = root.step("snapshot")
    assert (code, "The warehouse is empty" in log) == (2, True), log
    assert root.ok("ingest")["rows_loaded"] == 100


def test_a_failed_first_pull_deletes_only_a_file_that_it_created(root: Root) -> None:
    root.drop("bad.csv", "user_id,item_id\nu,i\n")
    assert root.step("ingest")[0] == 2
    assert not root.layout.warehouse.exists()
    with duckdb.connect(str(root.layout.warehouse)) as connection:
        connection.execute("CREATE TABLE accounts AS SELECT 1 AS id")
    assert root.step("ingest")[0] == 2
    assert root.sql("SELECT table_name FROM duckdb_tables()") == [("accounts",)]


def test_a_catalogue_that_is_set_must_be_there(root: Root) -> None:
    root.drop("a.csv", GOOD)
    root.configure('[catalogue]\npath = "landing/none"\n')
    code, _, log = root.step("ingest")
    assert (code, "catalogue.path = 'landing/none'" in log) == (2, True), log


def test_a_config_with_an_unknown_key(root: Root) -> None:
    root.configure("[quality]\nmax_duplicates = 1\n")
    code, _, log = root.step("ingest")
    assert code == 2
    assert "hmamba.toml: unknown key 'quality.max_duplicates'" in log


def test_nothing_new_needs_no_great_expectations(loaded: Root) -> None:
    """The hourly pull of a quiet hour is quick: importing the library alone would take seconds."""
    code = (
        "import sys; from jobs.ingest import main; "
        f"assert main(['--root', {str(loaded.layout.root)!r}, '--day', {DAY.isoformat()!r}]) == 0; "
        "assert 'great_expectations' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], env=dict(os.environ))
