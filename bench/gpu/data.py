"""The data of the check.

The shop is The Complete Journey where its file is given, and otherwise made up in its shape: 2,500 users with some 500
events each, a few items that everybody buys and many that few do, baskets, and people who buy their own things again.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.errors import InputError
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, IntArray, midnight, offsets_of, owners

HISTORIES = "histories.npz"
"""What the parts load, in the working folder."""

_NAMES = (("user_id", "item_id", "event_time"), ("household_id", "product_id", "transaction_timestamp"))
_START = midnight(date(2024, 1, 1))


def assemble(users: IntArray, items: IntArray, times: IntArray) -> Histories:
    """Order events by user, time and item, each once, and number the items that are left from 1."""
    order = np.lexsort((items, times, users))
    users, items, times = users[order], items[order], times[order]
    again = (users[1:] == users[:-1]) & (items[1:] == items[:-1]) & (times[1:] == times[:-1])
    keep = np.r_[True, ~again] if len(users) else np.zeros(0, dtype=bool)
    users, times = users[keep], times[keep]
    _, numbered = np.unique(items[keep], return_inverse=True)
    names, starts = np.unique(users, return_index=True)
    offsets = np.append(starts, len(users)).astype(np.int64)
    return Histories(pa.array(names.astype(str), pa.string()), offsets, numbered.astype(np.int64) + 1, times)


def read(path: Path) -> Histories:
    """Histories from a Parquet file of interactions, up to the end of its last busy day.

    The last busy day is the last one with at least half of the events of a middling day: what is asked of the model is
    a day on which the shop was open.

    Raises:
        InputError: the file is missing, is not Parquet, has other columns or no events.
    """
    try:
        present = set(pq.read_schema(path).names)
        names = next((names for names in _NAMES if present.issuperset(names)), None)
        if names is None:
            expected = " or ".join(", ".join(names) for names in _NAMES)
            raise InputError(f"{path} has the columns {', '.join(sorted(present))}, but {expected} are needed.")
        table = pq.read_table(path, columns=list(names)).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{path} cannot be read as Parquet ({error}). Give an interactions file with DATA=."
        ) from error
    if not table.num_rows:
        raise InputError(f"{path} holds no events. Give another interactions file with DATA=.")
    users, items = (_codes(table[name]) for name in names[:2])
    stamps = (
        pc.cast(table[names[2]], pa.timestamp("us"), safe=False)
        if not pa.types.is_integer(table.schema.field(names[2]).type)
        else table[names[2]]
    )
    times = pc.cast(stamps, pa.int64()).to_numpy().astype(np.int64)
    days, events = np.unique(times // MICROSECONDS_A_DAY, return_counts=True)
    last = days[events >= np.median(events) / 2].max()
    keep = times < (last + 1) * MICROSECONDS_A_DAY
    return assemble(users[keep], items[keep], times[keep])


def _codes(column: pa.ChunkedArray) -> IntArray:
    """A whole number for each distinct value, in their order."""
    codes: IntArray = pc.rank(column.combine_chunks(), tiebreaker="dense").to_numpy().astype(np.int64)
    return codes


def synthetic(users: int = 2_500, events: int = 500, items: int = 20_000, days: int = 350, seed: int = 0) -> Histories:
    """A made-up shop; ``events`` is the median of a user's."""
    random = np.random.default_rng(seed)
    lengths = np.clip(random.lognormal(np.log(events), 0.7, users), 4, 12 * events).astype(np.int64)
    user = owners(lengths)
    total = len(user)
    popularity = np.cumsum(1 / (np.arange(items) + 10.0))
    general = np.searchsorted(popularity / popularity[-1], random.random(total))
    favourites = np.searchsorted(popularity / popularity[-1], random.random((users, 40)))
    rank = np.minimum(random.geometric(0.08, total) - 1, 39)
    bought = np.where(random.random(total) < 0.6, favourites[user, rank], general)
    # Ten events to a basket; the hour is the user's own, so that a user's events of one day share a timestamp.
    visits = np.maximum(lengths // 10, 1)
    first = offsets_of(visits)[:-1]
    day = random.integers(0, days, int(visits.sum()))[first[user] + random.integers(0, visits[user])]
    return assemble(user, bought, _START + day * MICROSECONDS_A_DAY + user * 1_000_000)


def save(histories: Histories, path: Path) -> None:
    """Keep histories for the parts to load; external ids are not needed there."""
    np.savez(path, offsets=histories.offsets, items=histories.items, times=histories.times)


def load(path: Path) -> Histories:
    """Read what :func:`save` wrote."""
    with np.load(path) as held:
        users = pa.array([str(number) for number in range(len(held["offsets"]) - 1)], pa.string())
        return Histories(users, held["offsets"], held["items"], held["times"])
