"""Approximate search for large catalogues: IVF lists of items, of which a query scans the most promising.

Items are put into the list whose centroid is nearest, and a query scans the lists in the order of its inner product
with their centroids. The items there are compared by codes of 4 bits a coordinate; the best by codes are re-ranked with
the items' own vectors, so that products mean what they mean in an exact search. Only which items are compared can be
wrong, and how many are is set by measurement (:mod:`hmamba.index.tuning`).

Items are assigned by distance and lists ranked by inner product: an index that assigns by inner product would give
nearly all items to the few longest centroids, and a graph of inner products is not followed by a query whose time
coordinate is negated. Vectors are moved so that their mean is 0, which changes all products of a query by the
same amount and its ranking not at all.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from hmamba.index.base import Excluded, RealArray, Searcher, Trial, Tuned, are_excluded
from hmamba.index.flat import faiss_module
from hmamba.index.matmul import MatmulSearcher
from hmamba.index.tuning import START, SearchParameters, tune
from hmamba.progress import Progress, track
from hmamba.sequences.histories import IntArray, spans
from hmamba.storage.local import read_json, write_json

_LISTS = 8  # times the square root of the items
_ADDED = 1 << 16  # items at once
_MORE = 8  # times k that may be searched for in excess at once, for queries with many excluded items


def build_ivf(vectors: RealArray) -> Any:
    """Return a FAISS index of IVF lists.

    Args:
        vectors: (V, X) float32, at least 1,000: fewer cannot train the codes.
    """
    faiss = faiss_module()
    moved = np.asarray(vectors - vectors.mean(axis=0), dtype=np.float32)
    centroids = _centroids(moved)
    width = moved.shape[1]
    nearest = faiss.IndexFlatL2(width)
    nearest.add(centroids)
    index = faiss.IndexIVFPQFastScan(nearest, width, len(centroids), width, 4, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = True
    index.train(moved[np.random.default_rng(0).permutation(len(moved))[:_ADDED]])
    with Progress("index: IVF lists", len(moved), "items") as progress:
        for start in range(0, len(moved), _ADDED):
            part = moved[start : start + _ADDED]
            index.add(part)
            progress.update(len(part))
    largest = faiss.IndexFlatIP(width)
    largest.add(centroids)
    index.quantizer = largest  # assigned by distance, searched by inner product
    index.own_fields = True
    largest.this.disown()  # it belongs to the index now, and would be freed under it otherwise
    return index


def _centroids(moved: RealArray) -> RealArray:
    """Centroids of about ``_LISTS`` sqrt(V) lists, by k-means within the clusters of a k-means: in seconds.

    FAISS's own ``two_level_clustering`` gives the same recall, but fails where a cluster is so small that it gets no
    centroid: a few outliers among the items are enough.
    """
    faiss = faiss_module()
    nlist = max(1, round(_LISTS * len(moved) ** 0.5))
    random = np.random.default_rng(0)

    def k_means(points: RealArray, count: int) -> Any:
        found = faiss.Kmeans(points.shape[1], count, niter=6, seed=0, min_points_per_centroid=1)
        found.train(points)
        return found

    coarse = max(1, round(nlist**0.5))
    first = k_means(moved[np.sort(random.permutation(len(moved))[: 128 * coarse])], coarse)
    owner = first.assign(moved)[1]
    clusters = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner, minlength=coarse))[:-1])
    parts = [
        k_means(moved[inside], max(1, round(len(inside) * nlist / len(moved)))).centroids
        for inside in track(clusters, "index: centroids", coarse, "clusters")
        if len(inside)
    ]
    return np.concatenate(parts)


class IvfSearcher(Searcher):
    """IVF lists with the vectors of their items, and an exact search for queries that find too few in them.

    Args:
        lists: what :func:`build_ivf` made of ``vectors``.
        vectors: (V, X) float32.
        parameters: how much is compared.
        exact: an exact search of the same vectors.
    """

    name = "ivf"
    is_exact = False
    _FILE, _PARAMETERS = "ivf.faiss", "ivf.json"

    def __init__(self, lists: Any, vectors: RealArray, parameters: SearchParameters, exact: MatmulSearcher) -> None:
        self.faiss, self.parameters, self.exact = lists, parameters, exact
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)

    @classmethod
    def build(cls, vectors: RealArray, device: torch.device | None = None) -> Self:
        """Build lists that are to be tuned; the device computes what is searched exactly."""
        return cls(build_ivf(vectors), vectors, START, MatmulSearcher(vectors, device))

    @property
    def nlist(self) -> int:
        """Number of IVF lists."""
        return int(self.faiss.nlist)

    def with_parameters(self, parameters: SearchParameters) -> Self:
        """Return a search of the same lists with other parameters."""
        return type(self)(self.faiss, self.vectors, parameters, self.exact)

    def describe(self) -> dict[str, int]:
        """Return nprobe, nlist and k_factor."""
        return {"nprobe": self.parameters.nprobe, "nlist": self.nlist, "k_factor": self.parameters.k_factor}

    def tuned(self, trial: Trial) -> Tuned:
        """Raise nprobe and k_factor until the recall is reached."""
        return tune(self, trial)

    def search(self, queries: RealArray, k: int, excluded: Excluded | None = None) -> tuple[RealArray, IntArray]:
        """Re-rank the ``k_factor`` k best by their codes; a query whose lists hold fewer than k is searched exactly."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)  # re-ranking reads its memory
        rows, columns = excluded if excluded is not None else (np.zeros(0, np.int64), np.zeros(0, np.int64))
        cuts = np.searchsorted(rows, np.arange(len(queries) + 1))
        found_RW = self._best_by_codes(queries, min(self.parameters.k_factor * k, len(self.vectors)), k, columns, cuts)
        products_Rk, columns_Rk = self._rerank(queries, found_RW, k)
        short = np.flatnonzero((found_RW >= 0).sum(axis=1) < k)
        if len(short):
            width = np.diff(cuts)[short]
            theirs = np.repeat(np.arange(len(short)), width), columns[spans(cuts[short], width)]
            products_Rk[short], columns_Rk[short] = self.exact.search(queries[short], k, theirs)
        return products_Rk, columns_Rk

    def _best_by_codes(self, queries: RealArray, wanted: int, k: int, columns: IntArray, cuts: IntArray) -> IntArray:
        """Return the (R, wanted) best items by their codes without excluded ones; -1 where the lists hold no more.

        Queries search for as many more items as any of them excludes, within bounds, and again for twice as many where
        too many of those are excluded. Searching deeper costs little, searching again costs everything: queries with
        many excluded items search much deeper from the start, apart from the others.
        """
        items, width = len(self.vectors), np.diff(cuts)
        found_RW = np.empty((len(queries), wanted), dtype=np.int64)
        is_long = width > wanted // 4
        waiting = [
            (these, min(wanted + min(int(width[these].max(initial=0)), max(wanted, _MORE * k)), items))
            for these in (np.flatnonzero(~is_long), np.flatnonzero(is_long))
        ]
        while waiting:
            these, depth = waiting.pop()
            if not len(these):
                continue
            found = self._scan(queries[these], depth)
            is_all = (found[:, -1] < 0) | (depth == items)
            found[are_excluded(found, columns, (cuts[these], cuts[these + 1]), items)] = -1
            is_done = is_all | ((found >= 0).sum(axis=1) >= wanted)
            done = found[is_done]
            if depth > wanted:
                first = np.argsort(done < 0, axis=1, kind="stable")[:, :wanted]
                done = np.take_along_axis(done, first, axis=1)
            found_RW[these[is_done]] = done
            waiting.append((these[~is_done], min(2 * depth, items)))
        return found_RW

    def _scan(self, queries: RealArray, depth: int) -> IntArray:
        """Return the (R, depth) best by their codes, -1 where the lists hold no more."""
        scan = faiss_module().SearchParametersIVF(nprobe=min(self.parameters.nprobe, self.nlist))
        found: IntArray = self.faiss.search(queries, depth, params=scan)[1]
        return found

    def _rerank(self, queries: RealArray, found_RW: IntArray, k: int) -> tuple[RealArray, IntArray]:
        """Return the k largest products (R, k) of what was found, and their columns."""
        faiss = faiss_module()
        products_RW = np.empty(found_RW.shape, dtype=np.float32)
        pointers = (faiss.swig_ptr(array) for array in (products_RW, queries, self.vectors, found_RW))
        faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *found_RW.shape)  # -inf where there is no item
        best = torch.from_numpy(products_RW).topk(k, dim=1)
        return best.values.numpy(), np.take_along_axis(found_RW, best.indices.numpy(), axis=1)

    def save(self, folder: Path) -> None:
        """Write the lists, the vectors and the parameters."""
        faiss_module().write_index(self.faiss, str(folder / self._FILE))
        write_json(folder / self._PARAMETERS, asdict(self.parameters))
        self.exact.save(folder)

    @classmethod
    def load(cls, folder: Path, device: torch.device | None = None) -> Self:
        """Read the lists, the vectors and the parameters."""
        exact = MatmulSearcher.load(folder, device)
        parameters = SearchParameters(**read_json(folder / cls._PARAMETERS))
        return cls(faiss_module().read_index(str(folder / cls._FILE)), exact.vectors, parameters, exact)
