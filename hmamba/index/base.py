"""The interface of searches over item vectors.

A new search is one file with a class that implements :class:`Searcher`, and one entry in :mod:`hmamba.index.registry`.
The index step then times it with the others and uses it if it is the fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from hmamba.sequences.histories import IntArray
from hmamba.sequences.sets import among

FloatArray: TypeAlias = npt.NDArray[np.float32]
DoubleArray: TypeAlias = npt.NDArray[np.float64]
RealArray: TypeAlias = FloatArray | DoubleArray
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Excluded: TypeAlias = tuple[IntArray, IntArray]
"""(rows, columns) of excluded items, sorted by row: a query must not return them."""


class Searcher(Protocol):
    """Finds the items with the largest inner products.

    A class that inherits from this one gets the defaults of an exact search in float32.

    Attributes:
        name: its name in the registry, ``index.json``, the step metrics and the report.
        dtype: type of its vectors and queries. Float64 searchers are used only if the float32 recall is too low.
        is_exact: whether it compares every query with every item. An approximate search is tried only for more than
            ``candidates.approximate_items`` items, and used only with a measured recall of ``candidates.recall``.
        vectors: (V, X) item vectors.
    """

    name: ClassVar[str]
    dtype: ClassVar[type[np.float32] | type[np.float64]] = np.float32
    is_exact: ClassVar[bool] = True
    vectors: RealArray

    @classmethod
    def is_available(cls) -> bool:
        """Whether the libraries that it needs are installed."""
        return True

    @classmethod
    def build(cls, vectors: RealArray, device: torch.device | None = None) -> Self:
        """Build a search.

        Args:
            vectors: (V, X) item vectors of type ``dtype``.
            device: device for the products; None for the CPU. Searchers that run on the CPU only ignore it.
        """
        ...

    def search(self, queries: RealArray, k: int, excluded: Excluded | None = None) -> tuple[RealArray, IntArray]:
        """Return the ``k`` largest inner products of each query, without those of excluded items.

        Args:
            queries: (R, X) queries of type ``dtype``.
            k: results per query, at most V.
            excluded: excluded items of each query.

        Returns:
            Products (R, k), largest first, and the columns (R, k) of their items. If fewer than ``k`` items are left,
            the last products are -inf and their columns are undefined.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write all files that :meth:`load` needs into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> Self:
        """Read what :meth:`save` wrote; ``device`` as for :meth:`build`."""
        ...

    def describe(self) -> dict[str, int]:
        """Return the search parameters for display; empty for an exact search."""
        return {}

    def tuned(self, trial: Trial) -> Tuned:
        """Return this search with the cheapest parameters that reach the trial's recall."""
        return Tuned(1.0, self)


@dataclass(frozen=True)
class Trial:
    """Queries on which an approximate search is tuned, and the exact results.

    Attributes:
        queries: (R, X) queries, at least two.
        k: results per query.
        excluded: excluded items of each query.
        products: (R, k) products that the exact search finds.
        columns: (R, k) columns of their items.
        floor: smallest acceptable recall, in [0, 1].
        seconds: time of the exact search; tuning stops at parameters that are slower.
    """

    queries: RealArray
    k: int
    excluded: Excluded | None
    products: RealArray
    columns: IntArray
    floor: float
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """A search with tuned parameters.

    Attributes:
        recall: share of each query's exact results that this search finds, averaged over queries, with the chosen
            parameters, or with the last ones tried if none were chosen.
        searcher: the search with the chosen parameters; None if none reach the floor in the time of the exact search.
    """

    recall: float
    searcher: Searcher | None


def are_excluded(
    found_RD: IntArray, columns: IntArray, spans: tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]], items: int
) -> BoolArray:
    """Return whether each found item (R, D) is excluded.

    Args:
        found_RD: columns of the found items.
        columns: columns of all excluded entries, by row.
        spans: (R,) start and (R,) end of each row's entries in ``columns``.
        items: number of columns.
    """
    starts = np.arange(len(found_RD) + 1) * found_RD.shape[1]
    return among(found_RD.ravel(), starts, columns, spans, items).reshape(found_RD.shape)
