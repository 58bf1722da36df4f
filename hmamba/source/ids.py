"""Reading one column of ids from a file of the user's."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from hmamba.errors import InputError
from hmamba.source.discover import find_files
from hmamba.source.read import open_file


def read_ids(path: Path, column: str, setting: str) -> pa.ChunkedArray:
    """The ids in a Parquet or CSV file, as strings, in the file's order.

    Args:
        path: the file.
        column: the column that holds them.
        setting: name of the setting that holds the path, for messages.

    Raises:
        InputError: the file does not exist, is neither, or lacks the column.
    """
    if not path.is_file():
        raise InputError(f"{setting}: {path} does not exist. Put it there, or remove the setting.")
    (file,) = find_files(str(path), path.parent, setting)
    if file.kind == "json":
        raise InputError(f"{setting}: {path} must be a Parquet or a CSV file.")
    batches = open_file(file, [column]).batches([column])
    return pa.chunked_array([batch.column(column).cast(pa.string()) for batch in batches], pa.string())
