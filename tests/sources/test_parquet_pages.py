"""Page headers as writers write them, and bytes that are none."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmamba.sources.parquet_pages import BadPageError, ChunkSize, chunk_size

ROWS = 5_000
TEXTS = [f"user-{number % 700}" for number in range(ROWS)]


def measured(path: Path, number: int = 0, fixed_length: int = 0) -> ChunkSize:
    handle = os.open(path, os.O_RDONLY)
    try:
        return chunk_size(handle, pq.read_metadata(path).row_group(0).column(number), fixed_length, 2**30)
    finally:
        os.close(handle)


@pytest.mark.parametrize("codec", ["NONE", "SNAPPY", "GZIP", "BROTLI", "ZSTD", "LZ4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize(
    ("settings", "longest"),
    [
        ({}, len("user-699")),
        ({"use_dictionary": False}, 0),
        ({"use_dictionary": False, "column_encoding": {"u": "DELTA_LENGTH_BYTE_ARRAY"}}, 0),
        ({"dictionary_pagesize_limit": 1_000}, len("user-699")),
    ],
)
def test_texts(tmp_path: Path, codec: str, version: Any, settings: dict[str, Any], longest: int) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"u": TEXTS}), path, compression=codec, data_page_version=version, data_page_size=2_000, **settings
    )
    found = measured(path)
    assert (found.values, found.value_bytes) == (ROWS, longest)
    assert 0 < found.page_bytes < 4 * ROWS * len("user-699")


def test_a_text_that_continues_another_may_be_as_long_as_its_page(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    encoded = {"use_dictionary": False, "column_encoding": {"u": "DELTA_BYTE_ARRAY"}}
    pq.write_table(pa.table({"u": ["x" * 1_000] * ROWS}), path, **encoded)
    found = measured(path)
    assert 1_000 <= found.value_bytes == found.page_bytes < 20_000


def test_numbers_and_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    lists = pa.ListArray.from_arrays(np.arange(0, ROWS * 3 + 1, 3), pa.array(TEXTS * 3))
    pq.write_table(pa.table({"n": np.arange(ROWS), "b": pa.array([b"x" * 7] * ROWS, pa.binary(7)), "l": lists}), path)
    assert (measured(path).values, measured(path).value_bytes) == (ROWS, 8)
    assert measured(path, 1, 7).value_bytes == 7
    assert (measured(path, 2).values, measured(path, 2).value_bytes) == (3 * ROWS, len("user-699"))


I32, I64, STRUCT = 5, 6, 12


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def struct(*fields: tuple[int, int, bytes]) -> bytes:
    """A struct of fields: number, type and content."""
    return b"".join(bytes([kind]) + varint(2 * number) + content for number, kind, content in fields) + b"\0"


def data_page(values: int, *more: tuple[int, int, bytes]) -> bytes:
    return struct((1, I32, varint(2 * values)), *more)


def header(kind: int, size: int, *pages: tuple[int, int, bytes]) -> bytes:
    return struct((1, I32, varint(2 * kind)), (2, I32, varint(2 * size)), (3, I32, b"\0"), *pages)


@pytest.mark.parametrize(
    "first",
    [
        header(0, 100, (5, STRUCT, data_page(1)), (8, STRUCT, data_page(100))),
        header(1, 100, (5, STRUCT, data_page(100))),
        header(0, 100, (5, STRUCT, data_page(2**32 + 1))),
        header(0, 100, (5, STRUCT, data_page(1, (1, I64, varint(200))))),
        header(0, 100, (5, STRUCT, data_page(1, (2**16 + 1, I64, varint(200))))),
    ],
    ids=["another version", "an index", "more bits", "another width", "another number"],
)
def test_values_that_arrow_does_not_count_hide_no_page(tmp_path: Path, first: bytes) -> None:
    path, second = tmp_path / "a.parquet", header(0, 1_000_000, (5, STRUCT, data_page(100)))
    path.write_bytes(first + second)
    chunk: Any = SimpleNamespace(
        physical_type="INT64",
        num_values=100,
        data_page_offset=0,
        has_dictionary_page=False,
        total_compressed_size=len(first + second),
    )
    with path.open("rb") as stream:
        assert chunk_size(stream.fileno(), chunk, 0, 2**30).page_bytes == 1_000_000


@given(st.binary(max_size=64), st.integers(0, 40))
def test_bytes_that_are_no_header_end(data: bytes, at: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        pq.write_table(pa.table({"u": ["a", "b", "a"]}), path, compression="NONE")
        content = bytearray(path.read_bytes())
        content[4 + at : 4 + at + len(data)] = data
        path.write_bytes(content[: len(content)])
        try:
            found = measured(path)
        except (BadPageError, pa.ArrowException, OSError):
            return
        assert found.page_bytes >= 0
