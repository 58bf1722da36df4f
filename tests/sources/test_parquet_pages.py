"""Page headers as writers write them, and bytes that are none."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
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
