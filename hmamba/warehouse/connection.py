"""Opening the warehouse. Whoever opens a connection also begins and commits its transactions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from hmamba.config import WarehouseConfig
from hmamba.errors import InputError

_HOLDER = re.compile(r"PID (\d+)")


@contextmanager
def connect(path: Path, config: WarehouseConfig, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the DuckDB file at ``path`` and close it after the block.

    Raises:
        InputError: another process holds the file, or it is not a DuckDB file.
    """
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": config.memory_limit,
        "temp_directory": f"{path}.tmp",
        "autoinstall_known_extensions": False,
    }
    if config.threads is not None:
        settings["threads"] = config.threads
    try:
        connection = duckdb.connect(str(path), read_only=read_only, config=settings)
    except duckdb.Error as error:
        text = str(error)
        if "lock" in text:
            holder = _HOLDER.search(text)
            who = f"process {holder[1]}" if holder else "another process"
            raise InputError(f"{path} is in use by {who}. Wait until it has ended, then run this step again.") from None
        raise InputError(f"{path} cannot be opened as a DuckDB file ({text.splitlines()[0]}). Restore it.") from None
    try:
        yield connection
    finally:
        connection.close()
