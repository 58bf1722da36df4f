"""Top-100 of Lorentz points against FAISS's flat index: by IVF lists and by products, also with many excluded items."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.speed import approximate
from bench.speed.flat import ALL_AT_ONCE, BY_DEFAULT, LEAST_KEPT, PEER, SEEN, K, by_default, in_blocks
from bench.speed.rounds import Figure, check, in_turns
from hmamba.index.base import Excluded
from hmamba.index.flat import FlatSearcher
from hmamba.index.index import ROWS
from hmamba.index.matmul import MatmulSearcher

OURS, PLAIN = "product, grouped", "product and torch.topk"
_WIDTH = 66


def _plain(queries: torch.Tensor, vectors: torch.Tensor) -> list[torch.Tensor]:
    return [(block @ vectors.T).topk(K, dim=1).indices for block in queries.split(256)]


def figures(*, quick: bool, data: Path | None = None) -> Iterator[Figure]:
    """Approximate search, exact search of two numbers of items, and search with excluded items.

    All searches run in blocks of as many queries as in scoring.

    Args:
        quick: use fewer queries, items and rounds.
        data: folder of the data sets, for the approximate search.
    """
    yield from approximate.figures(quick=quick, data=data)
    generator = torch.Generator().manual_seed(0)
    count, rounds = (ROWS, 5) if quick else (4 * ROWS, 7)
    queries = torch.randn(count, _WIDTH, generator=generator)
    for items in (5_000, 50_000):
        vectors = torch.randn(items, _WIDTH, generator=generator)
        product, flat = MatmulSearcher.build(vectors.numpy()), FlatSearcher.build(vectors.numpy())

        expected = in_blocks(flat, queries.numpy())
        check(
            np.allclose(product.search(queries.numpy(), K)[0], expected, atol=1e-4), "the results of the product differ"
        )
        check(np.allclose(by_default(flat, queries.numpy()), expected, atol=1e-4), "FAISS's results differ")
        seconds, spread = in_turns(
            {
                OURS: partial(product.search, queries.numpy(), K),
                PEER: partial(in_blocks, flat, queries.numpy()),
                ALL_AT_ONCE: partial(flat.search, queries.numpy(), K),
                BY_DEFAULT: partial(by_default, flat, queries.numpy()),
                PLAIN: partial(_plain, queries, vectors),
            },
            rounds,
        )
        target = 2.0 if items == 50_000 else None
        peer = min((PEER, ALL_AT_ONCE), key=lambda way: seconds[way])  # FAISS at its best
        what = f"exact top-{K} of {items:,} items"
        yield Figure(
            what, OURS, peer, (count, "queries"), seconds, spread, target, partial(product.search, queries.numpy(), K)
        )
        faiss_ways = {way: seconds[way] for way in (PEER, BY_DEFAULT)}
        what = f"FAISS flat by matrix products, {ROWS} queries at once, {items:,} items"
        yield Figure(what, PEER, BY_DEFAULT, (count, "queries"), faiss_ways, spread)
    rows = np.repeat(np.arange(count), SEEN)
    excluded: Excluded = (rows, np.random.default_rng(0).integers(0, items, len(rows)))
    found = product.search(queries.numpy(), K, excluded)[1]
    out = np.isin(np.repeat(np.arange(count), K) * items + found.ravel(), excluded[0] * items + excluded[1])
    check(not out.any(), "an excluded item was found")
    with_seen, without = f"{SEEN:,} items of each user excluded", "no exclusion"
    seconds, spread = in_turns(
        {
            with_seen: partial(product.search, queries.numpy(), K, excluded),
            without: partial(product.search, queries.numpy(), K),
        },
        rounds,
    )
    what = f"exact top-{K} of {items:,} items, the cost of exclusion"
    yield Figure(what, with_seen, without, (count, "queries"), seconds, spread, LEAST_KEPT)
