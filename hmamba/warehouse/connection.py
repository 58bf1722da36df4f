"""Opening the warehouse. Whoever opens a connection also begins and commits its transactions."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from hmamba.config import WarehouseConfig
from hmamba.errors import InputError

_HOLDER = re.compile(r"PID (\d+)")


_Settings = dict[str, str | bool | int | float | list[str]]


def _settings(config: WarehouseConfig, spill: str) -> _Settings:
    settings: _Settings = {
        "memory_limit": config.memory_limit,
        "temp_directory": spill,
        "autoinstall_known_extensions": False,
    }
    if config.threads is not None:
        settings["threads"] = config.threads
    return settings


@contextmanager
def in_memory(config: WarehouseConfig) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own, for queries over Parquet files; spills into a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="hmamba-") as spill:
        connection = duckdb.connect(config=_settings(config, spill))
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def connect(path: Path, config: WarehouseConfig, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the DuckDB file at ``path`` and close it after the block.

    Raises:
        InputError: another process holds the file, or it is not a DuckDB file.
    """
    try:
        connection = duckdb.connect(str(path), read_only=read_only, config=_settings(config, f"{path}.tmp"))
    except duckdb.Error as error:
        text = str(error)
        if "set lock on file" in text:
            holder = _HOLDER.search(text)
            who = f"process {holder[1]}" if holder else "another process"
            raise InputError(f"{path} is in use by {who}. Wait until it has ended, then run this step again.") from None
        raise InputError(f"{path} cannot be opened as a DuckDB file ({text.splitlines()[0]}). Restore it.") from None
    try:
        yield connection
    finally:
        connection.close()
