"""Load interactions from Parquet as histories: public data sets by name, or any file by its path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import EVENT_TIME, ITEM_ID, USER_ID
from hmamba.errors import InputError
from hmamba.sequences.attributes import attribute_matrix
from hmamba.sequences.categories import Categories
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, IntArray, offsets_of
from hmamba.storage.local import sha256

if TYPE_CHECKING:
    import scipy.sparse as sp

NAMES = {
    "beauty": "amazon-beauty-5core-order",
    "sports": "amazon-sports-5core-order",
    "toys": "amazon-toys-5core-order",
    "video-games": "amazon-video-games-5core-minus2",
    "complete-journey": "complete-journey",
    "ml-latest-small": "ml-latest-small",
    "foursquare": "foursquare-nyc-lbsn2vec-order",
}
"""Command-line name of each data set, and its folder."""

ITEMS, CATEGORIES = "items.parquet", "categories"
"""The item file of a data set, and its column of category paths, the widest category first."""

POSITION = "position"
"""The column that orders events if there is no time."""


@dataclass(frozen=True)
class Columns:
    """Names of a file's columns. ``time`` is None for event_time if that column exists, and for position otherwise."""

    user: str = USER_ID
    item: str = ITEM_ID
    time: str | None = None


@dataclass(frozen=True)
class Data:
    """The interactions of a file.

    Attributes:
        name: name for titles and file names.
        sha256: hash of the file.
        histories: all events; if the file has only an order, a user's events are a day apart.
        ids: (size,) item ids by index, as text; entry 0 is padding.
        timed: whether the file has times.
        items: path of the item file with the categories; it may not exist.
    """

    name: str
    sha256: str
    histories: Histories
    ids: pa.Array
    timed: bool
    items: Path

    @cached_property
    def repeats(self) -> float:
        """Share of the events that repeat an item of their user."""
        pairs = np.unique(self.histories.owner * self.size + self.histories.items)
        return 1 - len(pairs) / self.histories.events

    @property
    def size(self) -> int:
        """Number of item indices, padding included."""
        return len(self.ids)


def find(choice: str, folder: Path | None) -> tuple[str, Path]:
    """Name and file of a data set.

    Args:
        choice: one of ``NAMES``, or the path of a Parquet file.
        folder: folder of the named data sets.

    Raises:
        InputError: the file does not exist, or a named data set is chosen without a folder.
    """
    if choice in NAMES:
        if folder is None:
            raise InputError(f"{choice}: set the folder of the data sets with --folder or the variable HMAMBA_DATA.")
        path = folder / NAMES[choice] / "interactions.parquet"
        if not path.is_file():
            raise InputError(f"{path} does not exist. Check --folder (or HMAMBA_DATA), or give a file's path.")
        return choice, path
    path = Path(choice)
    if not path.is_file():
        raise InputError(f"{choice}: neither a file nor one of {', '.join(NAMES)}.")
    return path.parent.name if path.stem == "interactions" else path.stem, path


def _read(path: Path, columns: Columns) -> tuple[pa.Array, pa.Array, pa.Array]:
    try:
        present = pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a Parquet file ({error}).") from error
    time = columns.time or (EVENT_TIME if EVENT_TIME in present else POSITION)
    for name, option in ((columns.user, "--user-id"), (columns.item, "--item-id"), (time, "--time")):
        if name not in present:
            raise InputError(f"{path} has no column {name!r}. Name one of {', '.join(present)} with {option}.")
    table = pq.read_table(path, columns=[columns.user, columns.item, time])
    arrays = [table[name].combine_chunks() for name in (columns.user, columns.item, time)]
    for name, array in zip((columns.user, columns.item, time), arrays, strict=True):
        if array.null_count:
            row = int(pc.index(pc.is_null(array), True).as_py()) + 1
            raise InputError(f"{path}, row {row}: {name} is empty. Remove such rows.")
    if not table.num_rows:
        raise InputError(f"{path} has no rows.")
    user, item, when = arrays
    return user, item, when


def _codes(array: pa.Array) -> tuple[IntArray, pa.Array]:
    """Codes from 0 in the order of first appearance, and the values that they stand for, as text."""
    encoded = array.dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.cast(pa.string())


def read_categories(path: Path, ids: pa.Array) -> Categories | None:
    """The category paths of the items.

    Args:
        path: a file with the columns item_id and categories, a list of text with the widest category first; without
            the file or that column there are none.
        ids: (size,) item ids by index.

    Raises:
        InputError: the file is not Parquet, has no item_id, or its categories are not lists of text.
    """
    if not path.is_file():
        return None
    try:
        if CATEGORIES not in pq.read_schema(path).names:
            return None
        table = pq.read_table(path, columns=[ITEM_ID, CATEGORIES])
        paths = table[CATEGORIES].cast(pa.list_(pa.string())).combine_chunks()
    except (pa.ArrowException, KeyError, OSError) as error:
        raise InputError(
            f"{path} must have {ITEM_ID} and {CATEGORIES}, a list of text ({error}). Correct it, or rename it to "
            "measure without categories."
        ) from error
    index = pc.index_in(table[ITEM_ID].cast(pa.string()).combine_chunks(), ids)
    known = index.is_valid()
    paths = paths.filter(known)
    return Categories(paths, index.filter(known).to_numpy().astype(np.int64), len(ids))


def attributes_of(categories: Categories) -> sp.csr_array | None:
    """Each level of the items' category paths as an attribute, as in a snapshot (sql/sequences.sql)."""
    levels = []
    for level in range(1, categories.depth + 1):
        reaches = pc.fill_null(pc.greater_equal(pc.list_value_length(categories.paths), level), False)
        names = pc.binary_join(pc.list_slice(categories.paths.filter(reaches), 0, level), "\x1f")
        levels.append((categories.index[reaches.to_numpy(zero_copy_only=False)], names))
    if not levels:
        return None
    values = pa.concat_arrays([names for _, names in levels])
    each = pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32), values)
    return attribute_matrix(np.concatenate([index for index, _ in levels]), each, categories.size)


def load(choice: str, folder: Path | None = None, columns: Columns | None = None) -> Data:
    """Read a data set. Each user's events are in order of time; events of equal time keep the order of the file.

    Raises:
        InputError: the file does not exist or lacks a column, a value is empty, or the time column holds neither times
            nor whole numbers (positions).
    """
    name, path = find(choice, folder)
    users, items, when = _read(path, columns or Columns())
    timed = pa.types.is_timestamp(when.type) or pa.types.is_date(when.type)
    if not timed and not pa.types.is_integer(when.type):
        raise InputError(f"{path}: the time column is {when.type}. It must hold times, dates or whole numbers.")
    times = when.cast(pa.timestamp("us", getattr(when.type, "tz", None))).cast(pa.int64()) if timed else when
    user, user_ids = _codes(users)
    item, item_ids = _codes(items)
    moments = times.to_numpy().astype(np.int64)
    order = np.lexsort((moments, user))  # stable: events of equal time keep their order
    offsets = offsets_of(np.bincount(user, minlength=len(user_ids)))
    histories = Histories(user_ids, offsets, item[order] + 1, moments[order])
    if not timed:
        ordinal = np.arange(histories.events) - offsets[histories.owner]
        histories = Histories(user_ids, offsets, histories.items, ordinal * MICROSECONDS_A_DAY)
    ids = pa.concat_arrays([pa.array([None], pa.string()), item_ids])
    return Data(name, sha256(path), histories, ids, timed, path.parent / ITEMS)


def one_at_a_time(histories: Histories) -> Histories:
    """The same events, each at least a microsecond after the one before, so that each is a basket of its own."""
    starts = histories.offsets[:-1][histories.lengths > 0]
    gaps = np.maximum(np.diff(histories.times, prepend=0), 1)
    gaps[starts] = 0
    passed = np.cumsum(gaps)
    begin = histories.offsets[histories.owner]
    times = histories.times[begin] + passed - passed[begin]
    return Histories(histories.users, histories.offsets, histories.items, times)
