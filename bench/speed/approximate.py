"""Approximate top-100 of a million items against FAISS's flat index, with recall measured on held-out users."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from bench.datasets import NAMES
from bench.speed.candidate_items import DATA, large, trained
from bench.speed.flat import BY_DEFAULT, LEAST_KEPT, PEER, SEEN, K, by_default, in_blocks
from bench.speed.rounds import Figure, check, in_turns
from hmamba.index.base import Excluded, RealArray, Trial
from hmamba.index.flat import FlatSearcher
from hmamba.index.index import ROWS
from hmamba.index.ivf import IvfSearcher
from hmamba.index.tuning import recalls

log = logging.getLogger("hmamba")

OURS, EXACT = "IVF", "product, grouped"
_FLOOR, _TARGET = 0.99, 20.0


def _missing(folder: Path | None) -> str | None:
    if folder is None:
        return "the folder of the data sets is not set (--data, or the variable HMAMBA_DATA)"
    return None if (folder / NAMES[DATA]).is_dir() else f"{folder / NAMES[DATA]} does not exist"


def figures(*, quick: bool, data: Path | None = None) -> Iterator[Figure]:
    """Figures against FAISS at its fastest and with its defaults; none if the data set is missing.

    Args:
        quick: use fewer items and epochs.
        data: folder of the data sets; the variable HMAMBA_DATA if None.
    """
    folder = data or (Path(os.environ["HMAMBA_DATA"]) if os.environ.get("HMAMBA_DATA") else None)
    missing = _missing(folder)
    if missing is not None:
        log.info("approximate search: skipped, because %s.", missing)
        return
    assert folder is not None
    items, epochs, users, rounds = (50_000, 2, 2 * ROWS, 3) if quick else (1_000_000, 5, 4 * ROWS, 5)
    model, queries = trained(folder, epochs, users)
    synthetic = large(model, queries, items)
    vectors, chosen_by, others = synthetic.vectors, queries[:ROWS], queries[ROWS:]
    flat = FlatSearcher.build(vectors)

    started = time.perf_counter()
    ivf = IvfSearcher.build(vectors)
    built = time.perf_counter() - started
    tuned = ivf.tuned(Trial(chosen_by, K, None, *ivf.exact.search(chosen_by, K), _FLOOR, float("inf")))
    check(tuned.searcher is not None, f"no parameters reach a recall of {_FLOOR}; the last ones reach {tuned.recall}")
    assert isinstance(tuned.searcher, IvfSearcher)
    ivf = tuned.searcher
    best, expected = ivf.exact.search(others, K)
    products, found = ivf.search(others, K)
    recall = float(recalls(found, products, expected, best).mean())
    check(recall >= _FLOOR - 0.003, f"recall {recall:.4f} on held-out users")

    block = others[:ROWS]
    seconds, spread = in_turns(
        {
            OURS: partial(ivf.search, block, K),
            EXACT: partial(ivf.exact.search, block, K),
            PEER: partial(in_blocks, flat, block),
            BY_DEFAULT: partial(by_default, flat, block),
        },
        rounds,
    )
    parameters, way = ivf.parameters, partial(ivf.search, block, K)
    notes = [
        f"approximate top-{K} of {items:,} items",
        f"recall {recall:.4f} on {len(others):,} held-out users, {tuned.recall:.4f} on those of the tuning",
        f"nprobe {parameters.nprobe:,} of {ivf.nlist:,} lists, k_factor {parameters.k_factor}",
        f"built in {built:.0f} s",
        f"local dimension {synthetic.dimension:.1f}, that of the trained items {synthetic.trained_dimension:.1f}",
    ]
    yield Figure("; ".join(notes), OURS, PEER, (len(block), "queries"), seconds, spread, _TARGET, way)
    yield Figure("the same against FAISS flat by default", OURS, BY_DEFAULT, (len(block), "queries"), seconds, spread)
    yield from _excluding(ivf, block, rounds)


def _excluding(ivf: IvfSearcher, queries: RealArray, rounds: int) -> Iterator[Figure]:
    """The cost of excluding items of every query: random ones, and with the best ones as a tenth of them."""
    random = np.random.default_rng(0)
    random_RS = np.stack([random.choice(len(ivf.vectors), SEEN, replace=False) for _ in queries])
    few = SEEN // 10
    best_RS = np.concatenate([ivf.exact.search(queries, few)[1], random_RS[:, few:]], axis=1)
    ways: dict[str, Excluded | None] = {"no exclusion": None}
    for name, excluded_RS in (("random", random_RS), ("a tenth of them the best", best_RS)):
        ways[name] = np.repeat(np.arange(len(queries)), SEEN), excluded_RS.ravel()
        found = ivf.search(queries, K, ways[name])[1]
        out = [np.isin(one, others).any() for one, others in zip(found, excluded_RS, strict=True)]
        check(not any(out), f"{name}: an excluded item was found")
    seconds, spread = in_turns(
        {name: partial(ivf.search, queries, K, excluded) for name, excluded in ways.items()}, rounds
    )
    plain, *others = ways
    for name in others:
        what = f"approximate, {SEEN:,} items of each user excluded, {name}"
        yield Figure(what, name, plain, (len(queries), "queries"), seconds, spread, LEAST_KEPT)
