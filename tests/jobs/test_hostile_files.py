"""Hostile files at every command that reads files: a sentence and status 2, and nothing is written."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.doctor import diagnose
from hmamba.sources import limits
from tests.jobs.test_start import call
from tests.landing import DAY, Root

NAMES = ("user_id", "item_id", "event_time")
GOOD = ",".join(NAMES).encode() + b"\nu,i,2024-01-02\nv,i,2024-01-03\n"


def bomb(path: Path) -> None:
    """100,000 events of a user whose id has 33,000 letters: 1.5 kB, and 3.3 GB when it is read."""
    repeated = {
        name: pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array([value]))
        for name, value in zip(NAMES, ["x" * 33_000, "i", "2024-01-02"], strict=True)
    }
    pq.write_table(pa.table(repeated), path, compression="zstd", store_schema=False)


def wide(path: Path) -> None:
    path.write_bytes(b"user_id,item_id,event_time" + b",c" * 39_997 + b"\nu,i,2024-01-02" + b",1" * 39_997)


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("a.csv", wide, "it has 40,000 columns, more than source.limits.max_columns = 4096"),
        ("a.parquet", bomb, "beyond source.limits.max_expansion = 1000"),
    ],
)
def test_each_command_says_the_bound(
    root: Root,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    write: Callable[[Path], object],
    told: str,
) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 2**27)
    write(root.landing() / name)
    code, _, log = root.step("ingest")
    assert (code, f"landing/interactions/{name}: " in log, told in log) == (2, True, True), log
    assert not root.layout.warehouse.exists()
    assert any(told in check.found for check in diagnose(root.layout.root))
    call("init", str(root.layout.root), "--from", str(root.landing()))
    streams = capsys.readouterr()
    assert told.partition(" = ")[0] in " ".join((streams.out + streams.err).split())


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv.gz", gzip.compress(GOOD + b"x" * 100_000_000, 1), "line 4 has more bytes than source.limits.max_rec"),
        ("a.jsonl", b'{"user_id":"' + b"u" * 40_000_000 + b'"}\n', "line 1 has more bytes than source.limits.max_rec"),
    ],
)
def test_a_line_that_is_too_long_is_outside_of_samples(root: Root, name: str, content: bytes, told: str) -> None:
    root.drop(name, content)
    code, _, log = root.step("ingest")
    assert (code, f"landing/interactions/{name}: {told}" in log) == (2, True), log
    assert "events" in {check.name for check in diagnose(root.layout.root)}
    assert call("init", str(root.layout.root), "--from", str(root.landing())) == (0 if name == "a.csv.gz" else 2)


def test_a_pull_succeeds_after_the_advice(root: Root) -> None:
    columns = b"user_id,item_id,event_time" + b",c" * 5_000
    root.drop("a.csv", columns + b"\n" + b"u,i,2024-01-02 10:00:00" + b",1" * 5_000 + b"\n")
    assert root.step("ingest")[0] == 2
    root.configure("[source.limits]\nmax_columns = 6000\n")
    assert root.ok("ingest")["rows_loaded"] == 1


def test_deep_records_are_loaded_if_the_events_are_flat(root: Root, capsys: pytest.CaptureFixture[str]) -> None:
    record = '{"user_id": "u%d", "item_id": "i", "event_time": "2024-01-02", "x": %s}\n'
    deep = "[" * 5_000 + "]" * 5_000
    root.drop("a.jsonl", "".join(record % (number, deep if number == 1 else 0) for number in range(20)))
    assert root.ok("ingest")["rows_loaded"] == 20
    assert next(check for check in diagnose(root.layout.root) if check.name == "events").found.startswith("20 rows")
    capsys.readouterr()
    assert call("init", str(root.layout.root), "--from", str(root.landing())) == 0, capsys.readouterr()


@pytest.mark.parametrize("deep", ["[" * 5_000 + "]" * 5_000, '{"a":' * 5_000 + "1" + "}" * 5_000])
def test_a_deep_id_is_refused_as_a_row(root: Root, capsys: pytest.CaptureFixture[str], deep: str) -> None:
    root.drop("a.jsonl", f'{{"user_id": {deep}, "item_id": "i", "event_time": "2024-01-02"}}\n' * 10)
    code, _, log = root.step("ingest")
    assert (code, "user_id_readable" in log, len(log) < 5_000) == (3, True, True), log
    assert call("init", str(root.layout.root), "--from", str(root.landing())) == 2
    assert "a.jsonl: its records are nested too deeply" in capsys.readouterr().err


def test_a_record_with_one_open_quote_does_not_stop_a_survey(root: Root) -> None:
    """Finding the end of the first records took the square of the lines after the quote."""
    lines = "".join(f"u{number},i,2024-01-02\n" for number in range(150_000))
    root.drop("a.csv", f'user_id,item_id,event_time\n"u,i,2024-01-02\n{lines}')
    (check,) = [check for check in diagnose(root.layout.root) if check.name == "pull"]
    assert "the record that starts on line 2" in check.found


HOSTILE_TEXT = "\x1b[31m\u202e\x9b"


def test_control_characters_of_data_reach_neither_log_nor_record(root: Root) -> None:
    """The real process, since the test's own handler does not format what it captures."""
    root.drop("a.csv", f"user_id,item_id,event_time\nu{HOSTILE_TEXT},i,never{HOSTILE_TEXT}\n")
    command = [sys.executable, "-m", "jobs.ingest", "--root", str(root.layout.root), "--day", DAY.isoformat()]
    for config, status in (("", 3), ('[source.columns]\nweight = "w\\u001b\\u202e\\u009b"\n', 2)):
        root.configure(config)
        done = subprocess.run(command, capture_output=True, check=False)
        said = done.stderr.decode() + "".join(path.read_text() for path in root.layout.root.glob("runs/**/*.json"))
        assert done.returncode == status, said
        assert not set(said) & {"\x1b", "\u202e", "\x9b"}, said
        assert "u202e" in said
