"""Exact top-100 of Lorentz points: the product against FAISS's flat index; also where users have had much."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from bench.speed.rounds import Figure, check, in_turns
from hmamba.retrieval.index import Flat
from hmamba.retrieval.product import Barred, Product, RealArray

OURS, PEER, PLAIN = "product, grouped", "FAISS flat", "product and torch.topk"
BLOCKS = "FAISS flat, 256 queries at once"
_WIDTH, _K = 66, 100
_SEEN = 5_000


def _blocks(flat: Flat, queries: RealArray) -> list[RealArray]:
    return [flat.search(queries[start : start + 256], _K)[0] for start in range(0, len(queries), 256)]


def _plain(queries: torch.Tensor, vectors: torch.Tensor) -> list[torch.Tensor]:
    return [(block @ vectors.T).topk(_K, dim=1).indices for block in queries.split(256)]


def figures(*, quick: bool) -> Iterator[Figure]:
    """At two sizes of the catalogue, and with items left out."""
    generator = torch.Generator().manual_seed(0)
    asked, rounds = (512, 5) if quick else (2_048, 7)
    queries = torch.randn(asked, _WIDTH, generator=generator)
    for items in (5_000, 50_000):
        vectors = torch.randn(items, _WIDTH, generator=generator)
        product, flat = Product(vectors), Flat.of(vectors.numpy())

        right = flat.search(queries.numpy(), _K)[0]
        check(np.allclose(product.search(queries.numpy(), _K)[0], right, atol=1e-4), "the product's best differ")
        seconds, spread = in_turns(
            {
                OURS: partial(product.search, queries.numpy(), _K),
                PEER: partial(flat.search, queries.numpy(), _K),
                BLOCKS: partial(_blocks, flat, queries.numpy()),
                PLAIN: partial(_plain, queries, vectors),
            },
            rounds,
        )
        target = 2.0 if items == 50_000 else None
        peer = min((PEER, BLOCKS), key=lambda way: seconds[way])  # FAISS at its best
        yield Figure(f"exact top-{_K} of {items:,} items", OURS, peer, (asked, "queries"), seconds, spread, target)
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
