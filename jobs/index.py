"""Index: put the Lorentz points of the serving model's items into an index that ranks as float64 does."""

from __future__ import annotations

import sys

import pyarrow.parquet as pq

from hmamba import registry
from hmamba.columns import EVENTS, ITEM_ID, ITEM_INDEX
from hmamba.evaluation.gate import is_baseline
from hmamba.retrieval import index as item_index
from hmamba.retrieval.approximate import Approximate
from hmamba.retrieval.baseline import write_eligible
from hmamba.retrieval.choice import choose
from hmamba.sequences.catalogue import Catalogue
from hmamba.sequences.histories import shard_files
from hmamba.sequences.snapshot import ITEMS
from hmamba.source.ids import read_ids
from hmamba.training.prepare import device_of
from jobs.step import Facts, StepContext, run_step


def body(context: StepContext) -> Facts:
    """Build the index of whoever serves tonight, and measure on some of tonight's queries what float32 loses.

    A baseline needs no index: then only the items that it may recommend are written.
    """
    run, layout, config = context.run, context.layout, context.config
    version = registry.serving(run.verdict)
    allowed = config.candidates.allowed_items
    wanted = (
        None
        if allowed is None
        else read_ids(layout.root / allowed, ITEM_ID, "candidates.allowed_items", config.source.null_words)
    )
    run.vectors.mkdir(parents=True, exist_ok=True)
    if is_baseline(version):
        items = pq.read_table(run.sequences / ITEMS, columns=[ITEM_INDEX, ITEM_ID, EVENTS])
        ids = registry.vocabulary_of(items)
        events = registry.by_index(items[ITEM_INDEX].to_numpy(), items[EVENTS].to_numpy(), len(ids))
        catalogue = item_index.restrict(Catalogue.of(events, 1), ids, wanted)
        write_eligible(catalogue, ids, run.vectors / ITEMS)
        return {"items": len(catalogue), "kind": "none", "device": "cpu", "model_version": version}
    device = device_of(config.train.device)
    stored = registry.load_serving(run.model, version, device, config.model.kernels)
    registry.check_vocabulary(f"model {version}", stored.item_ids, registry.vocabulary(run.sequences / ITEMS))
    catalogue = item_index.restrict(stored.catalogue, stored.item_ids, wanted)
    item_index.write_item_points(stored, stored.catalogue, run.vectors / ITEMS)
    wishes = config.candidates
    chosen = choose(stored, catalogue, shard_files(run.sequences), wishes)
    built, found = chosen.index, chosen.overlap
    measured = {
        "float32_overlap": found.share,
        "overlap_floor": wishes.float32_overlap,
        "overlap_at": found.depth,
        "overlap_users": found.users,
        "queries_per_second": chosen.queries_per_second,
        "recall": chosen.recall,
        "looked_at": _looked_at(built),
        "recall_floor": wishes.recall,
        "recall_at": min(wishes.k, len(catalogue)),
    }
    size = item_index.save(built, run.index, measured)
    return {
        "items": len(catalogue),
        "dim": int(built.vectors.shape[1]),
        "kind": built.kind,
        "bytes": size,
        "device": device.type,
        **measured,
        "model_version": stored.version,
    }


def _looked_at(built: item_index.ItemIndex) -> Facts | None:
    """Where cells search: in how many of them, and how many times k items are multiplied anew."""
    if not isinstance(built.index, Approximate):
        return None
    effort = built.index.effort
    return {"cells": effort.cells, "of": built.index.count, "times_k": effort.deep}


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("index", __doc__ or "", body, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
