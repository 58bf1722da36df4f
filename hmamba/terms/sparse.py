"""What counted terms share: a user's recent events as a sparse matrix, and sparse matrices as Parquet files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.sequences.histories import Histories, IntArray, offsets_of, owners, spans

if TYPE_CHECKING:
    import scipy.sparse as sp

_READ = 50  # number of a user's last events that are read
_FADE = 0.8  # factor on a user's event for each later basket


@dataclass(frozen=True)
class RecentEvents:
    """The last 50 events of each of R users, N in all.

    Attributes:
        users: R.
        owner, items: (N,) user and item index of each event, sorted by user and time.
        ago: (N,) number of later baskets of the same user.
        weights: (N,) weight of each event.
    """

    users: int
    owner: IntArray
    items: IntArray
    ago: IntArray
    weights: npt.NDArray[np.float32]

    @classmethod
    def of(cls, histories: Histories) -> RecentEvents:
        """The events that the model reads."""
        histories = histories.read
        lengths = np.minimum(histories.lengths, _READ)
        latest = spans(histories.offsets[1:] - lengths, lengths)
        owner, weights = owners(lengths), histories.weights
        return cls(
            len(histories),
            owner,
            histories.items[latest],
            baskets_ago(owner, histories.times[latest]),
            np.ones(len(latest), dtype=np.float32) if weights is None else weights[latest],
        )

    @property
    def faded(self) -> npt.NDArray[np.float32]:
        """(N,) weight of each event, times 0.8 for each later basket."""
        return self.weights * (_FADE**self.ago).astype(np.float32)

    def matrix(self, values: npt.NDArray[np.floating], size: int) -> sp.csr_array:
        """Values (N,) of the events, summed by user and item index (R, size)."""
        import scipy.sparse as sp

        return sp.csr_array((values, (self.owner, self.items)), (self.users, size))


def baskets_ago(owner: IntArray, times: IntArray) -> IntArray:
    """Number of later baskets of the same user, for events sorted by user and time."""
    basket = np.cumsum((np.diff(owner, prepend=-1) != 0) | (np.diff(times, prepend=0) != 0))
    last = np.flatnonzero(np.diff(owner, append=-1) != 0)
    ago: IntArray = np.repeat(basket[last], np.diff(last, prepend=-1)) - basket
    return ago


def contributions(
    history: sp.csr_array,
    rows: IntArray,
    items: IntArray,
    similar: Callable[[IntArray, IntArray], npt.NDArray[np.floating]],
) -> sp.csr_array:
    """The parts of sum over x of history[r, x] similar(x, v), for pairs of a row r and an item v: (P, size) by x.

    Args:
        history: (R, size) weight of each item in each user's history.
        rows: (P,) row of each pair.
        items: (P,) item index of each pair.
        similar: values (N,) for item indices x (N,) and v (N,).
    """
    import scipy.sparse as sp

    lengths = np.diff(history.indptr)[rows].astype(np.int64)
    entries = spans(history.indptr[rows].astype(np.int64), lengths)
    sources = history.indices[entries]
    parts = history.data[entries] * similar(sources, np.repeat(items, lengths))
    return sp.csr_array((parts, sources, offsets_of(lengths)), (len(rows), history.shape[1]))


def write_matrix(matrix: sp.csr_array, path: Path, names: tuple[str, str, str]) -> None:
    """Write the entries of a matrix as Parquet: row, column and value, under these names."""
    entries = matrix.tocoo()
    columns = (
        pa.array(entries.row, pa.int32()),
        pa.array(entries.col, pa.int32()),
        pa.array(entries.data, pa.float32()),
    )
    pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path, compression="zstd")


def read_matrix(path: Path, rows: int, columns: int | None = None) -> sp.csr_array:
    """Read what :func:`write_matrix` wrote; without ``columns``, as many as the entries need."""
    import scipy.sparse as sp

    row, column, value = (part.to_numpy() for part in pq.read_table(path).columns)
    return sp.csr_array((value, (row, column)), (rows, int(column.max(initial=0)) + 1 if columns is None else columns))
