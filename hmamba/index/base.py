"""What every search of item vectors offers.

A further search is one file with a class that follows :class:`Searcher`, and its line in
:mod:`hmamba.index.registry`: the index step then times it beside the others, and uses it where it is the fastest.
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
"""(row, column) of items that a query must not find, sorted by row."""


class Searcher(Protocol):
    """Finds the items with the largest inner products.

    A class that inherits from this one gets the defaults of an exact search in float32.

    Attributes:
        name: how the registry, ``index.json``, the step metrics and the report call it.
        dtype: of its vectors and queries. Searchers in float64 are used only where float32 ranks too differently.
        is_exact: whether it compares every query with every item. One that does not is tried only for more than
            ``candidates.approximate_items`` items, and used only with a measured recall of ``candidates.recall``.
        vectors: (V, X) the item vectors.
    """

    name: ClassVar[str]
    dtype: ClassVar[type[np.float32] | type[np.float64]] = np.float32
    is_exact: ClassVar[bool] = True
    vectors: RealArray

    @classmethod
    def build(cls, vectors: RealArray, device: torch.device | None = None) -> Self:
        """Prepare a search.

        Args:
            vectors: (V, X) item vectors of type ``dtype``.
            device: where to compute, for searchers that can choose; None: the CPU.
        """
        ...

    def search(self, queries: RealArray, k: int, excluded: Excluded | None = None) -> tuple[RealArray, IntArray]:
        """Return the ``k`` largest inner products of each query, without those of excluded items.

        Args:
            queries: (R, X) of type ``dtype``.
            k: at most V.
            excluded: entries to leave out.

        Returns:
            Products (R, k), largest first, and the columns (R, k) of their items. A query with fewer than ``k`` items
            that are not excluded ends with products of -inf, whose columns mean nothing.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write all that :meth:`load` needs into an existing folder."""
        ...

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> Self:
        """Read what :meth:`save` wrote, unchanged; ``device`` as for :meth:`build`."""
        ...

    def describe(self) -> dict[str, int]:
        """Return the parameters that decide how much of the items is compared, for people; empty if all are."""
        return {}

    def tuned(self, trial: Trial) -> Tuned:
        """Return this search with the cheapest parameters that reach the trial's recall."""
        return Tuned(1.0, self)


@dataclass(frozen=True)
class Trial:
    """Queries on which an approximate search is tuned, and what an exact search does with them.

    Attributes:
        queries: (R, X), at least two.
        k: items wanted of each.
        excluded: entries to leave out.
        products: (R, k) that the exact search finds.
        columns: (R, k) of their items.
        floor: least recall.
        seconds: time that the exact search takes; nothing slower is tried further.
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
        recall: share of each query's best items by the exact search that this one finds; the mean over the queries,
            with the parameters that were chosen, or with the last ones tried if none were.
        searcher: None if no parameters reach the floor in the time of the exact search.
    """

    recall: float
    searcher: Searcher | None


def are_excluded(
    found_RD: IntArray, columns: IntArray, spans: tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]], items: int
) -> BoolArray:
    """Which columns (R, D) of found items are excluded.

    Args:
        found_RD: columns by row.
        columns: of excluded entries.
        spans: (R,) where the entries of each row begin among those, and (R,) where they end.
        items: number of columns.
    """
    starts = np.arange(len(found_RD) + 1) * found_RD.shape[1]
    return among(found_RD.ravel(), starts, columns, spans, items).reshape(found_RD.shape)
