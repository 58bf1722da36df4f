"""Read a column of ids from a user's file."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from hmamba.columns import ITEM_ID
from hmamba.config import Config, SourceConfig
from hmamba.errors import InputError
from hmamba.sources.base import LINE, MALFORMED, read_column
from hmamba.sources.discover import find_files
from hmamba.sources.read import open_file
from hmamba.sources.values import ids
from hmamba.storage.layout import Layout


def read_ids(path: Path, column: str, setting: str, source: SourceConfig) -> pa.ChunkedArray:
    """Read the ids in a Parquet or CSV file as strings, in file order; rows without an id are skipped.

    Args:
        path: the file.
        column: name of the column.
        setting: name of the setting that contains the path, for messages.
        source: words that mean an absent value, and bounds on what reading the file may take.

    Raises:
        InputError: the file does not exist, has another format, lacks the column, or has an unreadable row or id.
    """
    if not path.is_file():
        raise InputError(f"{setting}: {path} does not exist. Put it there, or remove the setting.")
    (file,) = find_files(str(path), path.parent, setting, limits=source.limits)
    if file.kind == "json":
        raise InputError(f"{setting}: {path} must be a Parquet or a CSV file.")
    chunks = []
    for batch in open_file(file, [column]).batches([column]):
        found = read_column(file.name, column, batch.column(column), partial(ids, null_words=source.null_words))
        bad = pc.indices_nonzero(pc.or_(found.unreadable, pc.is_valid(batch.column(MALFORMED))))
        if len(bad):
            row = batch.slice(bad[0].as_py(), 1)
            shown = row.column(MALFORMED)[0].as_py() or row.column(column)[0].as_py()
            raise InputError(
                f"{setting}: {path}, line {row.column(LINE)[0].as_py()}: {shown!r} is not an id. Ids are text, whole "
                "numbers (as floats, below 2^53) or UUIDs; correct the row, or remove it."
            )
        chunks.append(found.texts().drop_null())
    return pa.chunked_array(chunks, pa.string())


def allowed_items(layout: Layout, config: Config) -> pa.ChunkedArray | None:
    """The ids in the file that ``candidates.allowed_items`` names; None without the setting.

    Raises:
        InputError: as :func:`read_ids`.
    """
    name = config.candidates.allowed_items
    return None if name is None else read_ids(layout.root / name, ITEM_ID, "candidates.allowed_items", config.source)
