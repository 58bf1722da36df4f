"""Users without events among those with events, in the order of a shard (``[users] include_without_events``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import USER_ID
from hmamba.sequences.histories import Histories, IntArray


def with_users(blocks: Iterable[Histories], file: Path | None, users: int) -> Iterator[Histories]:
    """Blocks of users with those of a file added who have no events, so that all ids ascend.

    Args:
        blocks: blocks of users with ascending ids.
        file: described users of the shard, with ascending ids; None to add nobody.
        users: maximum number of users of a block.
    """
    if file is None:
        yield from blocks
        return
    ids, done = pq.read_table(file, columns=[USER_ID])[USER_ID].cast(pa.large_string()).combine_chunks(), 0
    for block in blocks:
        end = done + (pc.sum(pc.less_equal(ids.slice(done), block.users[-1].cast(pa.large_string()))).as_py() or 0)
        yield from _parts(_merged(block, ids.slice(done, end - done)), users)
        done = end
    yield from _parts(_without_events(ids.slice(done)), users)


def _merged(block: Histories, ids: pa.Array) -> Histories:
    """A block with the users of these ids who are not in it."""
    known = block.users.cast(pa.large_string())
    added = ids.filter(pc.invert(pc.is_in(ids, value_set=known)))
    if not len(added):
        return block
    names = pa.concat_arrays([known, added])
    asked = block.asked
    if asked is not None:
        # The time is the same for all users, or without a meaning for a user without events.
        asked = np.concatenate([asked, np.full(len(added), asked[-1])])
    offsets = np.concatenate([block.offsets, np.full(len(added), block.events)])
    return replace(block, users=names, offsets=offsets, asked=asked).select(np.asarray(pc.sort_indices(names)))


def _without_events(ids: pa.Array) -> Histories:
    nothing: IntArray = np.zeros(0, dtype=np.int64)
    zeros = np.zeros(len(ids), dtype=np.int64)
    return Histories(ids, np.zeros(len(ids) + 1, dtype=np.int64), nothing, nothing, asked=zeros)


def _parts(histories: Histories, users: int) -> Iterator[Histories]:
    if len(histories) <= users:
        if len(histories):
            yield histories
        return
    for start in range(0, len(histories), users):
        yield histories.select(np.arange(start, min(start + users, len(histories))))
