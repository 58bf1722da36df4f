"""Approximate top-100 of a million items against FAISS's flat index, at a recall that is measured on other users."""

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
from bench.speed.flat import AS_IT_COMES, LEAST_KEPT, PEER, SEEN, K, as_it_comes, in_blocks
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
        return "nobody says where the data sets are (--data, or the variable HMAMBA_DATA)"
    return None if (folder / NAMES[DATA]).is_dir() else f"{folder / NAMES[DATA]} does not exist"


def figures(*, quick: bool, data: Path | None = None) -> Iterator[Figure]:
    """Against FAISS at its best, and as it comes; nothing where the data are not there.

    Args:
        quick: fewer items and epochs.
        data: folder of the data sets; the variable HMAMBA_DATA if None.
    """
    folder = data or (Path(os.environ["HMAMBA_DATA"]) if os.environ.get("HMAMBA_DATA") else None)
    missing = _missing(folder)
    if missing is not None:
        log.info("approximate search: left out, because %s.", missing)
        return
    assert folder is not None
    items, epochs, users, rounds = (50_000, 2, 2 * ROWS, 3) if quick else (1_000_000, 5, 4 * ROWS, 5)
    model, asked = trained(folder, epochs, users)
    synthetic = large(model, asked, items)
    vectors, chosen_by, others = synthetic.vectors, asked[:ROWS], asked[ROWS:]
    flat = FlatSearcher.build(vectors)

    started = time.perf_counter()
    ivf = IvfSearcher.build(vectors)
    built = time.perf_counter() - started
    tuned = ivf.tuned(Trial(chosen_by, K, None, *ivf.exact.search(chosen_by, K), _FLOOR, float("inf")))
    check(tuned.searcher is not None, f"no parameters reach a recall of {_FLOOR}, the last ones {tuned.recall}")
    assert isinstance(tuned.searcher, IvfSearcher)
    ivf = tuned.searcher
    best, right = ivf.exact.search(others, K)
    products, found = ivf.search(others, K)
    recall = float(recalls(found, products, right, best).mean())
    check(recall >= _FLOOR - 0.003, f"users that it was not set with: recall {recall:.4f}")

    block = others[:ROWS]
    seconds, spread = in_turns(
        {
            OURS: partial(ivf.search, block, K),
            EXACT: partial(ivf.exact.search, block, K),
            PEER: partial(in_blocks, flat, block),
            AS_IT_COMES: partial(as_it_comes, flat, block),
        },
        rounds,
    )
    parameters, way = ivf.parameters, partial(ivf.search, block, K)
    told = [
        f"approximate top-{K} of {items:,} items",
        f"recall {recall:.4f} on {len(others):,} users that it was not set with, {tuned.recall:.4f} with the others",
        f"nprobe {parameters.nprobe:,} of {ivf.nlist:,} lists, k_factor {parameters.k_factor}",
        f"built in {built:.0f} s",
        f"local dimension {synthetic.dimension:.1f}, of the trained items {synthetic.trained_dimension:.1f}",
    ]
    yield Figure("; ".join(told), OURS, PEER, (len(block), "queries"), seconds, spread, _TARGET, way)
    yield Figure("the same against FAISS flat as it comes", OURS, AS_IT_COMES, (len(block), "queries"), seconds, spread)
    yield from _left_out(ivf, block, rounds)


def _left_out(ivf: IvfSearcher, queries: RealArray, rounds: int) -> Iterator[Figure]:
    """What it costs to leave out items of every query: any, and where a tenth of them are its very best."""
    random = np.random.default_rng(0)
    any_RS = np.stack([random.choice(len(ivf.vectors), SEEN, replace=False) for _ in queries])
    few = SEEN // 10
    best_RS = np.concatenate([ivf.exact.search(queries, few)[1], any_RS[:, few:]], axis=1)
    ways: dict[str, Excluded | None] = {"nothing left out": None}
    for name, excluded_RS in (("any", any_RS), ("a tenth of them the best", best_RS)):
        ways[name] = np.repeat(np.arange(len(queries)), SEEN), excluded_RS.ravel()
        found = ivf.search(queries, K, ways[name])[1]
        out = [np.isin(one, others).any() for one, others in zip(found, excluded_RS, strict=True)]
        check(not any(out), f"{name}: what was to be left out was found")
    seconds, spread = in_turns(
        {name: partial(ivf.search, queries, K, excluded) for name, excluded in ways.items()}, rounds
    )
    plain, *others = ways
    for name in others:
        what = f"approximate, {SEEN:,} items of each user left out, {name}"
        yield Figure(what, name, plain, (len(queries), "queries"), seconds, spread, LEAST_KEPT)
