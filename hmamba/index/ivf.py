"""Approximate search for large catalogues: cells of items, of which a query looks into the most promising.

Items are put into the cell whose centre is nearest, and a query goes through the cells in the order of its inner
product with their centres. What it finds there is compared by codes of 4 bits a coordinate; the best by codes are
multiplied anew with the items' own vectors, so that products mean what they mean in an exact search. What can be wrong
is only which items are looked at, and how many are is set by measurement (:mod:`hmamba.index.tuning`).

Items are assigned by distance and cells ranked by inner product: an index that assigns by inner product would give
nearly all items to the few longest centres, and a graph of inner products is not followed by a query whose time
coordinate is negated. Vectors are moved so that their mean is 0, which changes all products of a query by the
same amount and its ranking not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from hmamba.index.flat import faiss_module
from hmamba.index.matmul import Excluded, Product, RealArray
from hmamba.progress import Progress, track
from hmamba.sequences.histories import IntArray, spans
from hmamba.sequences.sets import among

BoolArray: TypeAlias = npt.NDArray[np.bool_]

LEAST_ITEMS = 1_000
"""Fewer cannot teach the codes."""

_CELLS = 8  # times the square root of the items
_ADDED = 1 << 16
_MORE = 8  # times k that may be asked for in excess at once, for queries with much barred
_RESCORED = 1 << 13  # vectors gathered at once: they stay in the cache


@dataclass(frozen=True)
class Effort:
    """How much is looked at.

    Attributes:
        cells: how many a query looks into.
        deep: for each item wanted, how many are multiplied anew.
    """

    cells: int
    deep: int


def build_cells(vectors: RealArray) -> Any:
    """A FAISS index of cells.

    Args:
        vectors: (V, X) float32, at least ``LEAST_ITEMS``.
    """
    faiss = faiss_module()
    moved = np.asarray(vectors - vectors.mean(axis=0), dtype=np.float32)
    centres = _centres(moved)
    width = moved.shape[1]
    nearest = faiss.IndexFlatL2(width)
    nearest.add(centres)
    index = faiss.IndexIVFPQFastScan(nearest, width, len(centres), width, 4, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = True
    sample = np.random.default_rng(0).permutation(len(moved))[:_ADDED]
    index.train(moved[sample])
    with Progress("index: cells", len(moved), "items") as progress:
        for start in range(0, len(moved), _ADDED):
            part = moved[start : start + _ADDED]
            index.add(part)
            progress.update(len(part))
    largest = faiss.IndexFlatIP(width)
    largest.add(centres)
    index.quantizer = largest  # assigned by distance, searched by inner product
    index.own_fields = True
    largest.this.disown()  # it belongs to the index now, and would be freed under it otherwise
    return index


def _centres(moved: RealArray) -> RealArray:
    """Centres of about ``_CELLS`` sqrt(V) cells, by k-means within the cells of a k-means: in seconds."""
    faiss = faiss_module()
    wanted = max(1, round(_CELLS * len(moved) ** 0.5))
    random = np.random.default_rng(0)

    def means(points: RealArray, count: int) -> Any:
        found = faiss.Kmeans(points.shape[1], count, niter=6, seed=0, min_points_per_centroid=1)
        found.train(points)
        return found

    coarse = max(1, round(wanted**0.5))
    wide = means(moved[np.sort(random.permutation(len(moved))[: 128 * coarse])], coarse)
    owner = wide.index.search(moved, 1)[1][:, 0]
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(np.bincount(owner, minlength=coarse))
    parts = []
    for inside in track(np.split(order, ends[:-1]), "index: centres", coarse, "groups of cells"):
        if len(inside):
            parts.append(means(moved[inside], max(1, round(len(inside) * wanted / len(moved)))).centroids)
    return np.concatenate(parts)


class Approximate:
    """Cells with the vectors that are in them, and the exact way for rows that they leave short.

    Args:
        cells: what :func:`build_cells` made of ``vectors``.
        vectors: (V, X) float32.
        effort: how much is looked at.
        exact: an exact search of the same vectors.
    """

    def __init__(self, cells: Any, vectors: RealArray, effort: Effort, exact: Product) -> None:
        self.faiss, self.effort, self.exact = cells, effort, exact
        self._vectors_VX = torch.from_numpy(vectors)

    @property
    def count(self) -> int:
        """Of cells."""
        return int(self.faiss.nlist)

    @property
    def items(self) -> int:
        """In all cells."""
        return len(self._vectors_VX)

    def with_effort(self, effort: Effort) -> Approximate:
        """The same cells, looked at otherwise."""
        return Approximate(self.faiss, self._vectors_VX.numpy(), effort, self.exact)

    def search(self, queries: RealArray, k: int, excluded: Excluded | None = None) -> tuple[RealArray, IntArray]:
        """As :meth:`Product.search`, but for items that are not looked at.

        Queries are asked for ``deep`` k items and as many more as any of them has barred, within bounds (those with
        little barred apart from the others), and again for twice as many where too many of those are barred. If its
        cells leave fewer than k, a query is searched exactly.
        """
        items, asked = self.items, len(queries)
        rows, columns = excluded if excluded is not None else (np.zeros(0, np.int64), np.zeros(0, np.int64))
        cuts = np.searchsorted(rows, np.arange(asked + 1))
        width = np.diff(cuts)
        wanted = min(self.effort.deep * k, items)
        products_Rk = np.full((asked, k), -np.inf, dtype=np.float32)
        columns_Rk = np.zeros((asked, k), dtype=np.int64)
        left = np.zeros(asked, dtype=np.int64)
        # Looking deeper costs little, looking again costs all: who has much barred is asked for much more at once.
        is_long = width > wanted // 4
        waiting = [
            (these, min(wanted + min(int(width[these].max(initial=0)), max(wanted, _MORE * k)), items))
            for these in (np.flatnonzero(~is_long), np.flatnonzero(is_long))
        ]
        while waiting:
            these, depth = waiting.pop()
            if not len(these):
                continue
            found = self._look(queries[these], depth)
            places = np.arange(len(these) + 1) * depth
            out = among(found.ravel(), places, columns, (cuts[these], cuts[these + 1]), items)
            out = out.reshape(found.shape) | (found < 0)
            left[these] = (~out).sum(axis=1)
            is_done = (left[these] >= wanted) | (found[:, -1] < 0) | (depth == items)  # or the cells hold no more
            done, found, out = these[is_done], found[is_done], out[is_done]
            if depth > wanted:  # of those left, the best by their codes
                first = np.argsort(out, axis=1, kind="stable")[:, :wanted]
                found, out = np.take_along_axis(found, first, axis=1), np.take_along_axis(out, first, axis=1)
            if len(done):
                products_Rk[done], columns_Rk[done] = self._best(queries[done], found, out, k)
            waiting.append((these[~is_done], min(2 * depth, items)))
        short = np.flatnonzero(left < k)
        if len(short):
            theirs = np.repeat(np.arange(len(short)), width[short]), columns[spans(cuts[short], width[short])]
            products_Rk[short], columns_Rk[short] = self.exact.search(queries[short], k, theirs)
        return products_Rk, columns_Rk

    def _look(self, queries: RealArray, depth: int) -> IntArray:
        """The (R, depth) best by their codes, -1 where the cells hold no more."""
        self.faiss.nprobe = min(self.effort.cells, self.count)
        found: IntArray = self.faiss.search(np.ascontiguousarray(queries), depth)[1]
        return found

    @torch.inference_mode()
    def _best(self, queries: RealArray, found: IntArray, out: BoolArray, k: int) -> tuple[RealArray, IntArray]:
        """The k largest products of what was found and is not out."""
        products, columns = [], []
        rows = max(1, _RESCORED // found.shape[1])
        for start in range(0, len(queries), rows):
            block = slice(start, start + rows)
            at_RD = torch.from_numpy(found[block]).clamp_min(0)
            inside_RD = torch.bmm(self._vectors_VX[at_RD], torch.from_numpy(queries[block])[:, :, None])[:, :, 0]
            inside_RD[torch.from_numpy(out[block])] = -torch.inf
            best = inside_RD.topk(k, dim=1)
            products.append(best.values)
            columns.append(at_RD.gather(1, best.indices))
        return torch.cat(products).numpy(), torch.cat(columns).numpy()
