"""Files made to take all memory or time: each is refused by a bound, or read within it."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.config import Limits
from hmamba.errors import InputError
from hmamba.sources import limits as limits_module
from hmamba.sources.discover import find_files
from hmamba.sources.read import open_file

REPOSITORY = Path(__file__).parents[2]
HEADER = b"user_id,item_id,event_time\n"
RECORD = b'{"user_id":"u","item_id":"i","event_time":"2024-01-02"'
SMALL = Limits(max_columns=100, max_record_bytes=10_000)
"""Bounds that small files exceed."""
MIB = 2**20


def repeated(value: object, count: int, kind: pa.DataType | None = None) -> pa.Array:
    """A dictionary of one value, for ``count`` rows."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value], kind))


def parquet(path: Path, table: pa.Table, **settings: object) -> None:
    pq.write_table(table, path, compression="zstd", store_schema=False, write_statistics=False, **settings)


def events(users: pa.Array) -> pa.Table:
    """A table of events with these users."""
    return pa.table(
        {"user_id": users, "item_id": repeated("i", len(users)), "time": repeated("2024-01-02", len(users))}
    )


def gzipped(path: Path, pieces: Iterator[bytes]) -> None:
    with gzip.open(path, "wb", 1) as stream:
        for piece in pieces:
            stream.write(piece)


def lists(path: Path) -> None:
    values = pa.ListArray.from_arrays(pa.array([0, 50_000], pa.int32()), pa.array(np.zeros(50_000, np.int8)))
    parquet(path, pa.table({"user_id": ["u"], "path": values}))


def many_groups(path: Path) -> None:
    table = pa.table({"user_id": ["u"]})
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(1_000):
            writer.write_table(table)


BEYOND: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "columns of CSV": (
        "a.csv",
        lambda path: path.write_bytes(b"user_id" + b",c" * 100 + b"\n"),
        "it has 101 columns, more than source.limits.max_columns = 100. Remove",
    ),
    "columns of Parquet": (
        "a.parquet",
        lambda path: parquet(path, pa.table({f"c{number}": [1] for number in range(101)})),
        "it has 101 columns",
    ),
    "a header line": (
        "a.csv",
        lambda path: path.write_bytes(b"user_id," + b"x" * 20_000),
        "line 1 has more bytes than source.limits.max_record_bytes = 10000. Look for",
    ),
    "a header line with an open quote": (
        "a.csv",
        lambda path: path.write_bytes(b'user_id,"' + b"x\n" * 20_000),
        "the record that starts on line 1 has more bytes",
    ),
    "a field": (
        "a.csv",
        lambda path: path.write_bytes(HEADER + b"u,i,2024\n" * 5 + b"u" * 20_000 + b",i,2024\n"),
        "line 7 has more bytes",
    ),
    "a quoted field of many lines": (
        "a.csv",
        lambda path: path.write_bytes(HEADER + b'u,i,"' + b"x\n" * 20_000 + b'"\n'),
        "the record that starts on line 2 has more bytes",
    ),
    "a line in gzip": ("a.csv.gz", lambda path: gzipped(path, iter([HEADER, b"x" * 20_000])), "line 2 has more bytes"),
    "a JSON line": (
        "a.jsonl",
        lambda path: path.write_bytes(RECORD + b"}\n" + RECORD + b',"' + b"k" * 20_000 + b'":1}\n'),
        "line 2 has more bytes",
    ),
    "a JSON element": (
        "a.json",
        lambda path: path.write_bytes(b"[" + RECORD + b"},\n" + RECORD + b',"' + b"k" * 20_000 + b'":1}]'),
        "element 2, which starts on line 2, has more bytes",
    ),
    "a page": (
        "a.parquet",
        lambda path: parquet(path, pa.table({"user_id": ["u" * 200_000]}), use_dictionary=False),
        "bytes of memory, more than 16 times source.limits.max_record_bytes = 10000. Write",
    ),
    "a dictionary": (
        "a.parquet",
        lambda path: parquet(path, pa.table({"user_id": repeated("u" * 200_000, 3)})),
        "pages of row group 0 take 200,",
    ),
    "a list of many values in one page": (
        "a.parquet",
        lists,
        "lists of row group 0 take 400,000 bytes of memory, more than 16 times",
    ),
    "a row": ("a.parquet", lambda path: parquet(path, pa.table({"user_id": ["u" * 15_000]})), "a row has more bytes"),
    "a footer": ("a.parquet", many_groups, "bytes, more than 4 times source.limits.max_record_bytes"),
}


def count(path: Path, limits: Limits) -> int:
    (file,) = find_files(str(path), path.parent, "source.path", limits=limits)
    return sum(batch.num_rows for batch in open_file(file, ()).batches(None))


@pytest.mark.parametrize("what", BEYOND)
def test_a_file_beyond_a_bound_names_it_and_is_read_after_its_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("hmamba.sources.csv_records.BLOCK_BYTES", 4096)
    monkeypatch.setattr("hmamba.sources.json_records._PIECE", 4096)
    name, write, told = BEYOND[what]
    write(tmp_path / name)
    with pytest.raises(InputError) as raised:
        count(tmp_path / name, SMALL)
    assert str(raised.value).startswith(f"{name}: ")
    assert told in str(raised.value)
    assert "or raise the setting if the file is right" in str(raised.value)
    if "open quote" not in what:
        assert count(tmp_path / name, Limits()) >= 0


EXPANDING: dict[str, Callable[[Path], object]] = {
    "texts of a dictionary": lambda path: parquet(path, events(repeated("x" * 3_000, 50_000))),
    "texts that continue the text before": lambda path: parquet(
        path,
        pa.table({"user_id": ["x" * 3_000] * 20_000}),
        use_dictionary=False,
        column_encoding={"user_id": "DELTA_BYTE_ARRAY"},
    ),
    "values of a fixed length": lambda path: parquet(path, events(repeated(b"x" * 3_000, 50_000, pa.binary(3_000)))),
    "numbers": lambda path: parquet(path, pa.table({"user_id": np.zeros(5_000_000, np.int64)})),
    "members of lists": lambda path: parquet(
        path,
        pa.table({"user_id": pa.ListArray.from_arrays(np.arange(0, 20_001, 10), repeated("x" * 2_000, 20_000))}),
    ),
    "text": lambda path: gzipped(path, iter([HEADER, *[b"u,i,2024-01-02\n" * 100_000] * 20])),
}


@pytest.mark.parametrize("what", EXPANDING)
def test_an_expansion_beyond_the_bound_is_refused_and_one_within_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(limits_module, "FREE_BYTES", MIB)
    path = tmp_path / ("a.csv.gz" if what == "text" else "a.parquet")
    EXPANDING[what](path)
    with pytest.raises(InputError, match=r"bytes expand to more than .* beyond source\.limits\.max_expansion = 20\."):
        count(path, Limits(max_expansion=20))
    assert count(path, Limits(max_expansion=1_000_000)) >= 2_000


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz"])
def test_a_well_compressed_file_is_read_with_the_defaults(tmp_path: Path, name: str) -> None:
    path, rows = tmp_path / name, 300_000
    path.write_bytes(gzip.compress((HEADER + b"u,i,2024\n" * rows) if "csv" in name else (RECORD + b"}\n") * rows, 9))
    assert path.stat().st_size < 100_000
    assert count(path, Limits()) == rows


def test_short_rows_of_long_values_are_read_in_small_batches(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet(path, events(repeated("x" * 500, 20_000)))
    (file,) = find_files(str(path), tmp_path, "x", limits=Limits(max_record_bytes=10_000))
    batches = list(open_file(file, ["user_id"]).batches(["user_id"]))
    assert sum(batch.num_rows for batch in batches) == 20_000
    assert pa.Table.from_batches(batches)["user_id"].unique().to_pylist() == ["x" * 500]


def bomb(path: Path) -> None:
    parquet(path, events(repeated("x" * 33_000, 100_000)))


def pages(path: Path) -> None:
    parquet(path, events(pa.array(["x" * 15_000_000] * 16)), use_dictionary=False, data_page_size=2**30)


def delta(path: Path) -> None:
    kind = pa.schema([("user_id", pa.string())])
    encoded = {"use_dictionary": False, "column_encoding": {"user_id": "DELTA_BYTE_ARRAY"}}
    with pq.ParquetWriter(path, kind, compression="zstd", write_statistics=False, **encoded) as writer:
        for _ in range(5):
            writer.write_table(pa.table({"user_id": ["x" * 33_000] * 8_000}))


LARGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a Parquet file of 1.5 kB that holds 3.3 GB": ("a.parquet", bomb),
    "texts that continue others": ("a.parquet", delta),
    "pages as large as allowed": ("a.parquet", pages),
    "a gzip file with one line of 1 GB": (
        "a.csv.gz",
        lambda path: gzipped(path, iter([HEADER, *[b"x" * 10_000_000] * 100])),
    ),
    "a field of 200 MB": ("a.csv", lambda path: path.write_bytes(HEADER + b"x" * 200_000_000)),
    "a quoted field of 60 MB": ("a.csv", lambda path: path.write_bytes(HEADER + b'"' + b"x,\n" * 20_000_000 + b'"')),
    "a header of 200 MB": ("a.csv", lambda path: path.write_bytes(b"user_id," + b"x" * 200_000_000)),
    "a record of commas": ("a.csv", lambda path: path.write_bytes(HEADER + b"," * 16_000_000)),
    "a key of 200 MB": ("a.jsonl", lambda path: path.write_bytes(RECORD + b',"' + b"k" * 200_000_000 + b'":1}\n')),
    "an element of empty lists": (
        "a.json",
        lambda path: path.write_bytes(b"[" + RECORD + b',"x":[[]' + b",[]" * 2_000_000 + b"]}]"),
    ),
}
PEAK = """
import re, sys
from pathlib import Path
import pyarrow.compute
from hmamba.errors import InputError
from hmamba.sources.discover import find_files
from hmamba.sources.read import open_file
def peak():  # not ru_maxrss, which begins with that of the parent
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
path = Path(sys.argv[1])
(file,) = find_files(str(path), path.parent, "x")
try:
    print(sum(batch.num_rows for batch in open_file(file, ()).batches(None)))
except InputError as error:
    print(error)
print(peak() - before)
"""


@pytest.mark.parametrize("what", LARGE)
def test_memory_is_bounded_by_the_largest_record(tmp_path: Path, what: str) -> None:
    """64 times ``max_record_bytes``, as its description says."""
    name, write = LARGE[what]
    write(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / name)], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    *said, peak = done.stdout.splitlines()
    assert said[0].isdigit() or "source.limits." in said[0]
    assert 0 < int(peak) <= 64 * Limits().max_record_bytes
