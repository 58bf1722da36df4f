"""Train: fine-tune the champion on the newest events, or train from nothing."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from typing import Any

from hmamba import registry
from hmamba.evaluation.split import Split
from hmamba.files import read_json, write_json
from hmamba.sequences.histories import read_histories, shard_files
from hmamba.training.fit import Fit
from hmamba.training.prepare import device_of, facts_of, name_training, prepare
from jobs.step import Facts, StepContext, run_step

log = logging.getLogger("hmamba")


def body(context: StepContext) -> Facts:
    """Train this night's challenger, unless it exists or there is nothing new to learn."""
    run, layout, config = context.run, context.layout, context.config
    snapshot = read_json(run.sequences / "manifest.json")["digest"]
    champion = registry.champion_before(layout, context.day)
    device = device_of(config.train.device)
    # A full retrain does not need the champion, and is the remedy where it is lost or damaged.
    wanted = champion is not None and not context.options.full_retrain
    parent = registry.load(layout, champion, device, config.model.kernels) if champion and wanted else None
    if parent is not None and parent.provenance.snapshot == snapshot:
        reason = f"no new events since {parent.version} was trained"
        return _conclude(context, {"version": None, "parent": champion, "reused": False, "skipped_reason": reason})
    histories = read_histories(shard_files(run.sequences))
    split = Split.of(histories, config)
    if parent is not None and not parent.model.config.same_weights(config.model):
        log.info("train: the [model] settings have changed since %s: training from nothing", parent.version)
        parent = None
    if parent is not None and parent.provenance.trained_until > split.validation:
        log.info("train: %s has seen the days that tonight judges on: training from nothing", parent.version)
        parent = None
    provenance = name_training(context.day, snapshot, parent.version if parent else None, split, config)
    if layout.model(provenance.version).exists():
        log.info("train: %s is trained already", provenance.version)
        known = read_json(layout.model(provenance.version) / "metrics.json")["training"]
        return _conclude(context, {**known, "reused": True, "skipped_reason": None})
    ids = registry.vocabulary(run.sequences / "items.parquet")
    if parent is not None:
        registry.check_vocabulary(parent, ids)
    ready = prepare(histories, ids, provenance, parent, split, run.training, config)
    if not ready.plan.batches.epoch(config.train.seed, ready.plan.windows):
        reason = "no window holds events that the champion has not been trained on"
        return _conclude(context, {"version": None, "parent": champion, "reused": False, "skipped_reason": reason})
    epochs = Fit(ready.model, ready.plan).run()
    facts = facts_of(ready, epochs)
    registry.save(layout, ready.model, provenance, ready.plan.catalogue, ids, facts)
    shutil.rmtree(run.training, ignore_errors=True)
    return _conclude(context, {**facts, "reused": False, "skipped_reason": None})


def _conclude(context: StepContext, facts: dict[str, Any]) -> Facts:
    write_json(context.run.training_result, {key: facts[key] for key in ("version", "parent", "skipped_reason")})
    return {"epochs": [], "events": None, "parameters": None, "curvature": None, "device": None, **facts}


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--full-retrain", action="store_true", help="train from nothing, whatever the champion knows")


def main(arguments: list[str] | None = None) -> int:
    """Run the step."""
    return run_step("train", __doc__ or "", body, _options, arguments)


if __name__ == "__main__":
    sys.exit(main())
