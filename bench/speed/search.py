"""Exact top-100 of Lorentz points: the product against FAISS's flat index; also where users have had much."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from bench.speed.rounds import Figure, check, in_turns
from hmamba.retrieval.flat import Flat, faiss_module
from hmamba.retrieval.index import ROWS
from hmamba.retrieval.product import Barred, Product, RealArray

OURS, PEER, PLAIN = "product, grouped", "FAISS flat", "product and torch.topk"
ALL_AT_ONCE = "FAISS flat, all queries at once"
AS_IT_COMES = "FAISS flat as it comes, item by item"
_WIDTH, _K = 66, 100
_SEEN = 5_000
_ITEM_BY_ITEM = 128_000  # FAISS's own threshold, under which it multiplies no matrices


def _blocks(flat: Flat, queries: RealArray) -> RealArray:
    return np.concatenate([flat.search(queries[at : at + ROWS], _K)[0] for at in range(0, len(queries), ROWS)])


def _as_it_comes(flat: Flat, queries: RealArray) -> RealArray:
    settings = faiss_module().cvar
    ours, settings.distance_compute_blas_threshold = settings.distance_compute_blas_threshold, _ITEM_BY_ITEM
    try:
        return _blocks(flat, queries)
    finally:
        settings.distance_compute_blas_threshold = ours


def _plain(queries: torch.Tensor, vectors: torch.Tensor) -> list[torch.Tensor]:
    return [(block @ vectors.T).topk(_K, dim=1).indices for block in queries.split(256)]


def figures(*, quick: bool) -> Iterator[Figure]:
    """At two sizes of the catalogue, and with items left out; in blocks of as many queries as scoring asks at once."""
    generator = torch.Generator().manual_seed(0)
    asked, rounds = (ROWS, 5) if quick else (4 * ROWS, 7)
    queries = torch.randn(asked, _WIDTH, generator=generator)
    for items in (5_000, 50_000):
        vectors = torch.randn(items, _WIDTH, generator=generator)
        product, flat = Product(vectors), Flat.of(vectors.numpy())

        right = _blocks(flat, queries.numpy())
        check(np.allclose(product.search(queries.numpy(), _K)[0], right, atol=1e-4), "the product's best differ")
        check(np.allclose(_as_it_comes(flat, queries.numpy()), right, atol=1e-4), "FAISS's two ways differ")
        seconds, spread = in_turns(
            {
                OURS: partial(product.search, queries.numpy(), _K),
                PEER: partial(_blocks, flat, queries.numpy()),
                ALL_AT_ONCE: partial(flat.search, queries.numpy(), _K),
                AS_IT_COMES: partial(_as_it_comes, flat, queries.numpy()),
                PLAIN: partial(_plain, queries, vectors),
            },
            rounds,
        )
        target = 2.0 if items == 50_000 else None
        peer = min((PEER, ALL_AT_ONCE), key=lambda way: seconds[way])  # FAISS at its best
        what = f"exact top-{_K} of {items:,} items"
        yield Figure(what, OURS, peer, (asked, "queries"), seconds, spread, target)
        faiss_ways = {way: seconds[way] for way in (PEER, AS_IT_COMES)}
        what = f"FAISS flat by matrix products, {ROWS} queries at once, {items:,} items"
        yield Figure(what, PEER, AS_IT_COMES, (asked, "queries"), faiss_ways, spread)
    rows = np.repeat(np.arange(asked), _SEEN)
    barred: Barred = (rows, np.random.default_rng(0).integers(0, items, len(rows)))
    found = product.search(queries.numpy(), _K, barred)[1]
    out = np.isin(np.repeat(np.arange(asked), _K) * items + found.ravel(), barred[0] * items + barred[1])
    check(not out.any(), "what was to be left out was found")
    with_seen, without = f"{_SEEN:,} items of each user left out", "nothing left out"
    seconds, spread = in_turns(
        {
            with_seen: partial(product.search, queries.numpy(), _K, barred),
            without: partial(product.search, queries.numpy(), _K),
        },
        rounds,
    )
    what = f"exact top-{_K} of {items:,} items, the cost of leaving out"
    yield Figure(what, with_seen, without, (asked, "queries"), seconds, spread, 1 / 1.3)
