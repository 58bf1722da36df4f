"""The effect of ratings as weights: MovieLens with and without them, evaluated on the same queries.

    python -m bench.ratings --folder DATA

Every variant is trained by the night's own code on the same events; the variants differ in the use of the ratings. The
relevant item is each user's last film, and in a second table each user's last film with a rating of 4 or more. Training
events are before it.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from bench.datasets import Columns, find, load
from bench.machine import commit, machine, today
from bench.tables import table
from hmamba.config import Config, parse
from hmamba.errors import HMambaError
from hmamba.evaluation.comparison import compare
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.gate import Measured, measure_baselines, measure_model
from hmamba.evaluation.split import Split
from hmamba.models.files import StoredModel
from hmamba.sequences.histories import FloatArray, Histories
from hmamba.training.fit import Fit
from hmamba.training.prepare import name_training, prepare
from hmamba.training.recount import Counts, recount

DATA, LIKED = "ml-latest-small", 4.0
_PLAIN = "no weights"
VARIANTS = (_PLAIN, "weight = rating, log", "weight = rating, linear", f"min_weight_as_target = {LIKED:g}")
CONFIG = parse({"candidates": {"exclude_seen": True}, "train": {"device": "cpu"}}, "bench.ratings")


def ratings(folder: Path | None, histories: Histories) -> FloatArray:
    """(N,) the rating of each event, in the order of the histories."""
    _, path = find(DATA, folder)
    rows = pq.read_table(path, columns=["user_id", "item_id", "event_time", "rating"])
    users = rows["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    times = rows["event_time"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    order = np.lexsort((times, users))  # as bench.datasets sorts them
    if not np.array_equal(times[order], histories.times):
        raise AssertionError("ratings are not in the order of the histories")
    found: FloatArray = rows["rating"].to_numpy()[order].astype(np.float32)
    return found


def variant(name: str, histories: Histories, rating: FloatArray) -> Histories:
    """The same events with this variant's weights or targets."""
    if name == _PLAIN:
        return histories
    if name == VARIANTS[1]:
        return replace(histories, weights=np.log2(1 + rating).astype(np.float32))
    if name == VARIANTS[2]:
        return replace(histories, weights=rating)
    return replace(histories, targets=rating >= LIKED)


def trained(histories: Histories, split: Split, ids: object, config: Config, evaluation_set: EvaluationSet) -> Measured:
    """Train on one variant's events, recount up to the held-out ones, and measure."""
    with tempfile.TemporaryDirectory() as folder:
        provenance = name_training(date(2000, 1, 1), "bench", None, split, config)
        ready = prepare(histories, ids, provenance, None, split, Path(folder), config)
        fit = Fit(ready.model, ready.plan)
        fit.run()
    stored = StoredModel(provenance.version, provenance, ready.model.eval(), ready.plan.candidate_items, ready.ids)
    size = len(ready.ids)
    recount(stored, Counts.of(split.before_holdout(histories), size, [stored.model]))
    return measure_model(stored, evaluation_set, config)


def compared(data_name: str, histories: Histories, queried: Histories, rating: FloatArray, ids: object) -> str:
    """The table of all variants on the queries of ``queried``."""
    split = Split.of(queried, CONFIG)
    evaluation_set = split.holdout_set(queried, CONFIG)
    # All variants read the same past; they differ in their training only.
    evaluation_set = replace(evaluation_set, past=replace(evaluation_set.past, targets=None, weights=None))
    found: dict[str, Measured] = measure_baselines(
        split.before_holdout(histories).item_events(len(ids)),  # type: ignore[arg-type]
        evaluation_set,
        CONFIG,
    )
    for name in VARIANTS:
        torch.manual_seed(0)
        found[name] = trained(variant(name, histories, rating), split, ids, CONFIG, evaluation_set)
    lines = []
    for name, measured in found.items():
        against = ""
        if name in VARIANTS[1:]:
            entry = compare((name, _PLAIN), "ndcg@10", measured.deciding, found[_PLAIN].deciding)
            against = f"{entry.difference:+.4f} ({entry.low:+.4f} to {entry.high:+.4f}), {entry.says}"
        lines.append([name, *(f"{measured.means[key]:.4f}" for key in ("ndcg@10", "hr@10", "mrr@10")), against])
    head = [
        f"{data_name}, {evaluation_set.judged} users",
        "NDCG@10",
        "HR@10",
        "MRR@10",
        "against no weights (95 % interval)",
    ]
    return table(head, lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.ratings", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--folder", type=Path, default=os.environ.get("HMAMBA_DATA"), help="folder of the data sets (HMAMBA_DATA)"
    )
    given = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        data = load(DATA, None if given.folder is None else Path(given.folder), Columns())
    except HMambaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    rating = ratings(None if given.folder is None else Path(given.folder), data.histories)
    print(f"Commit {commit()}, {today()}, {machine()}\n\nEach user's last film:\n")
    print(compared(DATA, data.histories, data.histories, rating, data.ids), flush=True)
    liked = replace(data.histories, targets=rating >= LIKED)
    print(f"\nEach user's last film with a rating of {LIKED:g} or more:\n")
    print(compared(DATA, data.histories, liked, rating, data.ids))
    return 0


if __name__ == "__main__":
    sys.exit(main())
