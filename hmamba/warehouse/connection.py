"""Connections to the warehouse. The caller that opens a connection also begins and commits its transactions."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from hmamba.config import WarehouseConfig
from hmamba.errors import BusyError, InputError, explained, reasons
from hmamba.storage.locks import alone
from hmamba.storage.temporary import claimed, private_folder

log = logging.getLogger("hmamba")

REPORT_SECONDS = 10.0
"""Interval between log lines while a step waits for the lock."""

_TRY_SECONDS = 0.5
_DAMAGE = re.compile(
    r"Corrupt database file|Corrupt WAL file|replaying WAL|Could not read enough bytes|Serialization Err"
)
"""What DuckDB says of a damaged file. It verifies the checksum of every block that it reads."""
_HOLDER = re.compile(r"PID (\d+)")


_Settings = dict[str, str | bool | int | float | list[str]]


def _settings(config: WarehouseConfig, spill: Path) -> _Settings:
    settings: _Settings = {
        "memory_limit": config.memory_limit,
        "temp_directory": str(spill),
        "autoinstall_known_extensions": False,
    }
    if config.threads is not None:
        settings["threads"] = config.threads
    return settings


@contextmanager
def in_memory(config: WarehouseConfig | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an in-memory DuckDB for queries over Parquet files; it spills to a temporary folder.

    Args:
        config: memory and thread limits; None for the defaults.
    """
    config = config or WarehouseConfig()
    with private_folder() as spill, duckdb.connect(config=_settings(config, spill)) as connection:
        yield connection


@contextmanager
def connect(path: Path, config: WarehouseConfig, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the DuckDB file at ``path`` and close it after the block.

    DuckDB locks its file: a writer excludes all other processes, a reader excludes writers. A lock held by another
    process is awaited for up to ``config.wait_seconds``. A writer makes a missing file, whole or not at all.

    Raises:
        BusyError: another process still holds the lock, or the disk is full.
        InputError: the file is not a DuckDB file, permission is denied, or a block that the caller reads is damaged.
    """
    with private_folder(path) as spill, _open(path, config, read_only, spill) as connection:
        try:
            yield connection
        except Exception as error:
            damage = next((reason for reason in reasons(error) if _DAMAGE.search(str(reason))), None)
            if damage is None:
                raise
            raise InputError(f"{path} is damaged ({_first_line(damage)}). {_rebuild(path)}") from error


def _create(path: Path, wait_seconds: float) -> None:
    """Make an empty database under another name, and give it its own unless another process was faster.

    DuckDB writes three headers; a file that a full disk or a kill cut among them is not a database.
    """
    lock = path.with_name(f".{path.name}.lock")
    with alone(lock.parent, lock.name, wait_seconds):
        try:
            if not path.exists():
                with claimed(path) as temporary:
                    duckdb.connect(str(temporary)).close()
                    # The log of a database that was removed would be replayed into the new one.
                    wal_of(path).unlink(missing_ok=True)
                    temporary.rename(path)
        except duckdb.Error as error:
            raise explained(error, str(path)) or error from None
        finally:
            lock.unlink(missing_ok=True)


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def _rebuild(path: Path) -> str:
    return (
        f"Restore it from a backup, with {wal_of(path).name} if there was one. Without a backup, move both away, put "
        "back files that were pulled and are gone, pull all files again (python -m jobs.ingest --new-warehouse), and "
        "run a night with --full-retrain."
    )


def wal_of(path: Path) -> Path:
    """DuckDB's write-ahead log of a database."""
    return path.with_name(f"{path.name}.wal")


def _open(path: Path, config: WarehouseConfig, read_only: bool, spill: Path) -> duckdb.DuckDBPyConnection:
    started = reported = time.monotonic()
    while True:
        if not read_only and not path.exists():
            _create(path, config.wait_seconds)
        before = _inode(path)
        try:
            connection = duckdb.connect(str(path), read_only=read_only, config=_settings(config, spill))
            if _inode(path) == before:
                return connection
            connection.close()  # the file was replaced or deleted while it was opened: this is the old one
            continue
        except duckdb.Error as error:
            holder = _holder(error)
            if holder is None:
                raise explained(error) or InputError(
                    f"{path} cannot be opened as a DuckDB file ({_first_line(error)}). {_rebuild(path)}"
                ) from None
        now = time.monotonic()
        if now - started >= config.wait_seconds:
            raise BusyError(
                f"{path} is in use by {holder}, also after {now - started:.0f} seconds (warehouse.wait_seconds). Wait "
                "until it has ended, or end it, then run this step again."
            )
        if reported == started or now - reported >= REPORT_SECONDS:
            log.info("%s is in use by %s: waiting, %.0f s so far", path.name, holder, now - started)
            reported = now
        time.sleep(min(_TRY_SECONDS, max(0.0, started + config.wait_seconds - now)))


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _holder(error: duckdb.Error) -> str | None:
    """The process that holds the lock; None if the error is not about a lock."""
    text = str(error)
    if "set lock on file" not in text:
        return None
    found = _HOLDER.search(text)
    return f"process {found[1]}" if found else "another process"
