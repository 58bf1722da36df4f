"""The most taken items by category and segment: in a window, decayed with age, and trending.

Segments are the values of columns of the users file, one column at a time. Counts are of targets with a positive
weight, as those that a model learns from. DuckDB counts shard by shard, so memory is bounded by a shard's users and
the number of items and segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.columns import ITEM_INDEX, SEGMENT, USER_ID
from hmamba.config import PopularConfig
from hmamba.errors import InputError
from hmamba.progress import track
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.files import Snapshot
from hmamba.statements import statement

_SLOW = 8.0
"""The half-life of the longer-term rate that trending compares with, in half-lives."""
_SMOOTHING = 5.0
"""Events that are added on both sides of the ratio, so that few events make no trend."""
_ROWS = 1 << 17


def popular(
    connection: duckdb.DuckDBPyConnection, files: Snapshot, eligible: CandidateItems, settings: PopularConfig
) -> Iterator[pa.RecordBatch]:
    """Rows of the table popular, in its order.

    Args:
        connection: an in-memory DuckDB; temporary tables are made in it.
        files: the snapshot.
        eligible: the items that may be recommended.
        settings: number of items, window, half-life and columns of segments.

    Raises:
        InputError: ``by`` names a column that the users file does not have, or there is no users file.
    """
    connection.execute(statement("tables/create_popular"))
    for column in (None, *settings.by):
        for shard in track(range(files.manifest.shards), "index: popular items", files.manifest.shards, "shards"):
            connection.register("members", members(files, shard, column))
            bound = {
                "shard": str(files.shard(shard)),
                "segment_column": column,
                "everyone": column is None,
                "end_time": files.manifest.end,
                "window_days": settings.window_days,
                "half_life_days": settings.half_life_days,
                "slow_days": _SLOW * settings.half_life_days,
            }
            connection.execute(statement("tables/count_popular"), bound)
    connection.register("eligible", pa.table({ITEM_INDEX: pa.array(eligible.eligible, pa.int32())}))
    bound = {"items": str(files.items), "k": settings.k, "smoothing": _SMOOTHING}
    yield from connection.execute(statement("tables/popular"), bound).to_arrow_reader(_ROWS)


def members(files: Snapshot, shard: int, column: str | None) -> pa.Table:
    """The users of a shard and the segment of each, as text; without a column no users."""
    if column is None:
        return pa.table({USER_ID: pa.array([], pa.string()), SEGMENT: pa.array([], pa.string())})
    path = files.described_users(shard)
    if path is None:
        raise InputError(
            f'publish.popular.by = ["{column}"] names a column of users, and the snapshot has none. Set users.path, or '
            "remove publish.popular.by, and run the night again."
        )
    names = pq.read_schema(path).names
    if column not in names:
        close = get_close_matches(column, names, 1)
        like = f" Is {close[0]!r} meant?" if close else f" It has {', '.join(names)}."
        raise InputError(f"publish.popular.by names the column {column!r}, which the users file does not have.{like}")
    table = pq.read_table(path, columns=[USER_ID, column])
    return pa.table({USER_ID: table[USER_ID].cast(pa.string()), SEGMENT: table[column].cast(pa.string())})
