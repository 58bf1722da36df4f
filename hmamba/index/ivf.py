"""Approximate search for many items: a query scans ``nprobe`` of the IVF lists.

Each item is in the list whose centroid is nearest. A query scans the lists with the largest inner products of query and
centroid, and compares the items there by codes of 4 bits per coordinate. The best by codes are re-ranked with the
items' own vectors, so the returned products are exact. The search can miss items; the search parameters are tuned by
measuring how many (:mod:`hmamba.index.tuning`).

Items are assigned by distance, and lists are ranked by inner product. Assignment by inner product would put nearly all
items into the few lists with the longest centroids. A graph over inner products does not work either, since a query's
time coordinate is negated. Vectors are centred to mean 0, which changes all products of a query by the same amount and
keeps its ranking.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from hmamba.index.base import Excluded, RealArray, Searcher, Trial, Tuned, are_excluded
from hmamba.index.flat import faiss_module, has_faiss
from hmamba.index.matmul import MatmulSearcher
from hmamba.index.tuning import START, SearchParameters, tune
from hmamba.progress import Progress, track
from hmamba.sequences.histories import IntArray, spans
from hmamba.storage.local import read_json, write_json

_LISTS = 8  # nlist = 8 sqrt(V)
_ADDED = 1 << 16  # items added per call, and items that the codes are trained on
_MORE = 8  # over-fetch for excluded items, in multiples of k, of the first scan


def build_ivf(vectors: RealArray) -> Any:
    """Return a FAISS index of IVF lists.

    Args:
        vectors: (V, X) float32, at least 1,000: fewer cannot train the codes.
    """
    faiss = faiss_module()
    centred = np.asarray(vectors - vectors.mean(axis=0), dtype=np.float32)
    centroids = _centroids(centred)
    width = centred.shape[1]
    nearest = faiss.IndexFlatL2(width)
    nearest.add(centroids)
    index = faiss.IndexIVFPQFastScan(nearest, width, len(centroids), width, 4, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = True
    index.train(centred[np.random.default_rng(0).permutation(len(centred))[:_ADDED]])
    with Progress("index: IVF lists", len(centred), "items") as progress:
        for start in range(0, len(centred), _ADDED):
            part = centred[start : start + _ADDED]
            index.add(part)
            progress.update(len(part))
    largest = faiss.IndexFlatIP(width)
    largest.add(centroids)
    index.quantizer = largest  # assigned by distance, searched by inner product
    index.own_fields = True
    largest.this.disown()  # the index owns and frees it
    return index


def _centroids(centred: RealArray) -> RealArray:
    """Centroids of about ``_LISTS`` sqrt(V) lists, by k-means within the clusters of a k-means, which takes seconds.

    FAISS's ``two_level_clustering`` gives the same recall, but fails if a cluster is so small that it gets no centroid;
    a few outliers among the items are enough.
    """
    faiss = faiss_module()
    nlist = max(1, round(_LISTS * len(centred) ** 0.5))
    random = np.random.default_rng(0)

    def k_means(points: RealArray, count: int) -> Any:
        found = faiss.Kmeans(points.shape[1], count, niter=6, seed=0, min_points_per_centroid=1)
        found.train(points)
        return found

    coarse = max(1, round(nlist**0.5))
    first = k_means(centred[np.sort(random.permutation(len(centred))[: 128 * coarse])], coarse)
    owner = first.assign(centred)[1]
    clusters = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner, minlength=coarse))[:-1])
    parts = [
        k_means(centred[inside], max(1, round(len(inside) * nlist / len(centred)))).centroids
        for inside in track(clusters, "index: centroids", coarse, "clusters")
        if len(inside)
    ]
    return np.concatenate(parts)


class IvfSearcher(Searcher):
    """Search by IVF lists, with an exact search for queries whose lists hold too few items.

    Args:
        lists: result of :func:`build_ivf` for ``vectors``.
        vectors: (V, X) float32 item vectors.
        parameters: nprobe and k_factor.
        exact: an exact search of the same vectors.
    """

    name = "ivf"
    is_exact = False
    _FILE, _PARAMETERS = "ivf.faiss", "ivf.json"

    def __init__(self, lists: Any, vectors: RealArray, parameters: SearchParameters, exact: MatmulSearcher) -> None:
        self.faiss, self.parameters, self.exact = lists, parameters, exact
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)

    @classmethod
    def is_available(cls) -> bool:
        """Whether FAISS is installed."""
        return has_faiss()

    @classmethod
    def build(cls, vectors: RealArray, device: torch.device | None = None) -> Self:
        """Build the lists, with parameters still to be tuned; the device is for exact searches."""
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
        """Re-rank the ``k_factor`` k best by codes; search exactly for queries whose lists hold fewer than k items."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)  # re-ranking passes a pointer to FAISS
        rows, columns = excluded if excluded is not None else (np.zeros(0, np.int64), np.zeros(0, np.int64))
        cuts = np.searchsorted(rows, np.arange(len(queries) + 1))
        found_RW = self._best_by_codes(queries, min(self.parameters.k_factor * k, len(self.vectors)), k, columns, cuts)
        products_Rk, columns_Rk = self._rerank(queries, found_RW, k)
        short = np.flatnonzero((found_RW >= 0).sum(axis=1) < k)
        if len(short):
            width = np.diff(cuts)[short]
            of_short = np.repeat(np.arange(len(short)), width), columns[spans(cuts[short], width)]
            products_Rk[short], columns_Rk[short] = self.exact.search(queries[short], k, of_short)
        return products_Rk, columns_Rk

    def _best_by_codes(self, queries: RealArray, count: int, k: int, columns: IntArray, cuts: IntArray) -> IntArray:
        """Return the (R, count) best items by codes without excluded ones; -1 if the lists hold no more.

        A scan over-fetches by the largest number of excluded items of its queries, within bounds. Queries for which
        this is not enough are scanned again at twice the depth. A deeper scan costs little and a second scan costs as
        much as the first, so queries with many excluded items are scanned separately and deeper from the start.
        """
        items, width = len(self.vectors), np.diff(cuts)
        found_RW = np.empty((len(queries), count), dtype=np.int64)
        is_long = width > count // 4
        waiting = [
            (these, min(count + min(int(width[these].max(initial=0)), max(count, _MORE * k)), items))
            for these in (np.flatnonzero(~is_long), np.flatnonzero(is_long))
        ]
        while waiting:
            these, depth = waiting.pop()
            if not len(these):
                continue
            found = self._scan(queries[these], depth)
            is_all = (found[:, -1] < 0) | (depth == items)
            found[are_excluded(found, columns, (cuts[these], cuts[these + 1]), items)] = -1
            is_done = is_all | ((found >= 0).sum(axis=1) >= count)
            done = found[is_done]
            if depth > count:
                first = np.argsort(done < 0, axis=1, kind="stable")[:, :count]
                done = np.take_along_axis(done, first, axis=1)
            found_RW[these[is_done]] = done
            waiting.append((these[~is_done], min(2 * depth, items)))
        return found_RW

    def _scan(self, queries: RealArray, depth: int) -> IntArray:
        """Return the (R, depth) best items by codes; -1 if the lists hold no more."""
        scan = faiss_module().SearchParametersIVF(nprobe=min(self.parameters.nprobe, self.nlist))
        found: IntArray = self.faiss.search(queries, depth, params=scan)[1]
        return found

    def _rerank(self, queries: RealArray, found_RW: IntArray, k: int) -> tuple[RealArray, IntArray]:
        """Return the k largest products (R, k) of the found items with their own vectors, and their columns."""
        faiss = faiss_module()
        products_RW = np.empty(found_RW.shape, dtype=np.float32)
        pointers = (faiss.swig_ptr(array) for array in (products_RW, queries, self.vectors, found_RW))
        faiss.fvec_inner_products_by_idx(*pointers, queries.shape[1], *found_RW.shape)  # -inf for -1
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
