"""Train: fine-tune the champion on the newest events, or train from scratch.

With ``train.processes`` above 1 the step starts that many processes through torchrun. If torchrun started it
(``torchrun --nproc-per-node 4 -m jobs.train ...``), the setting is ignored.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys

import torch
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from hmamba.config import load
from hmamba.contracts.steps import TrainMetrics
from hmamba.errors import HMambaError, InputError
from hmamba.evaluation.split import LAST, Split
from hmamba.inference.device import device_of
from hmamba.models import files as model_files
from hmamba.models import promotions
from hmamba.models.files import Provenance
from hmamba.processes import PARENT
from hmamba.recipe import with_levels
from hmamba.sequences.attributes import read_attributes
from hmamba.sequences.categories import read_categories
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import read_histories
from hmamba.storage.layout import Layout
from hmamba.training.fit import Fit
from hmamba.training.prepare import NothingToLearnError, name_training, prepare, training_metrics
from hmamba.training.ranks import Ranks, joined, launched
from jobs.step import StepContext, parser, run_step

log = logging.getLogger("hmamba")


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _leave_a_core() -> None:
    """Use all cores but one, on which the next batch is prepared, unless ``OMP_NUM_THREADS`` is set.

    OpenMP threads wait for the slowest of them many times per optimiser step: a thread that shares its core with the
    preparation costs more than it computes (docs/performance.md).
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, _cores() - 1))


def body(context: StepContext) -> TrainMetrics:
    """Train the night's challenger, unless it exists or there are no new events."""
    _leave_a_core()
    with joined(device_of(context.config.train.device)) as ranks:
        if not ranks.leads:
            log.setLevel(logging.WARNING)
        return _train(context, ranks)


def _train(context: StepContext, ranks: Ranks) -> TrainMetrics:
    run, layout, config = context.run, context.layout, context.config
    files = Snapshot.open(run)
    snapshot = files.digest
    champion = promotions.champion_before(layout, context.day)
    device = device_of(config.train.device)
    # A full retrain does not load the champion, so it also works if the champion is lost or damaged.
    fine_tunes = champion is not None and not context.options.full_retrain
    parent = model_files.load(layout, champion, device, config.model.kernels) if champion and fine_tunes else None
    if parent is not None and parent.provenance.snapshot == snapshot:
        reason = f"no new events since {parent.version} was trained"
        return TrainMetrics(day=context.day, parent=champion, skipped_reason=reason)
    histories, ids = read_histories(files.shards), model_files.vocabulary(files.items)
    split = Split.of(histories, config)
    categories = read_categories(files.items, len(ids))
    settled = with_levels(config.model, categories.depth, None if parent is None else parent.model.config)
    if parent is not None and not parent.model.config.same_weights(settled):
        what = "the [model] settings or the catalogue's categories"
        log.info("train: %s have changed since %s: training from scratch", what, parent.version)
        parent = None
    if parent is not None and _has_seen(parent.provenance, split):
        log.info("train: %s was trained on events that this night evaluates on: training from scratch", parent.version)
        parent = None
    provenance = name_training(context.day, snapshot, parent.version if parent else None, split, config)
    if _is_stored(context, provenance.version, device):
        log.info("train: %s is already trained", provenance.version)
        if ranks.leads:
            run.storage.delete(run.training)
        trained = model_files.read_metrics(layout, provenance.version).training
        if trained is None:
            return TrainMetrics(day=context.day, version=provenance.version, parent=provenance.parent, reused=True)
        return TrainMetrics(day=context.day, reused=True, **trained.model_dump())
    if parent is not None:
        model_files.check_vocabulary(f"model {parent.version}", parent.item_ids, ids)
    attributes = read_attributes(files.items, len(ids))
    try:
        ready = prepare(histories, ids, provenance, parent, split, run.training, config, categories, attributes)
    except NothingToLearnError as error:
        reason = str(error).rstrip(".")
        log.warning("train: nothing is trained: %s", reason)
        return TrainMetrics(day=context.day, parent=champion, skipped_reason=reason)
    if not ready.plan.batches.epoch(config.train.seed, ready.plan.windows):
        reason = "no window holds events that the champion has not been trained on"
        return TrainMetrics(day=context.day, parent=champion, skipped_reason=reason)
    fit = Fit(ready.model, ready.plan, ranks)
    epochs = fit.run()
    trained = training_metrics(ready, epochs, fit.weighed, fit.ranker, ranks.count)
    if ranks.leads:
        known = ready.plan.candidate_items
        model_files.save(layout, ready.model, provenance, known, ids, trained, ready.new_items)
        run.storage.delete(run.training)
    return TrainMetrics(day=context.day, **trained.model_dump())


def _is_stored(context: StepContext, version: str, device: torch.device) -> bool:
    """Whether a version is stored and can be read; a damaged one, or one of another format, is trained again."""
    if not context.layout.storage.exists(context.layout.model(version)):
        return False
    try:
        model_files.load(context.layout, version, device, context.config.model.kernels)
        trained = model_files.read_metrics(context.layout, version).training
        if trained is not None and trained.version != version:
            raise InputError(f"{context.layout.model_metrics(version)} is of model {trained.version}")
    except InputError as error:
        log.warning("train: %s is trained again: %s", version, error)
        return False
    return True


def _has_seen(parent: Provenance, split: Split) -> bool:
    """Whether a model was trained on events in the validation or held-out part of the night's split."""
    if parent.split == split.mode == LAST:
        return False  # its held-out baskets are still held out, or are no longer their users' last
    return (parent.split != split.mode and split.mode == LAST) or parent.trained_until > split.trained_until


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--full-retrain", action="store_true", help="train from scratch, not from the champion")


def _processes(arguments: list[str]) -> int:
    """Value of ``train.processes``; 1 if the settings cannot be read, which the step itself reports."""
    arguments_of = parser("train", __doc__ or "")
    _options(arguments_of)
    given = arguments_of.parse_args(arguments)
    try:
        return load(given.config, Layout.at(given.root)).train.processes
    except HMambaError:
        return 1


def _start(processes: int, arguments: list[str]) -> int:
    """Run this step through torchrun; returns the exit status of the process that failed first, or 0."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // processes)))
    if sys.flags.safe_path:
        os.environ["PYTHONSAFEPATH"] = "1"
    os.environ[PARENT] = str(os.getpid())  # for the processes, which must not outlive this one
    command = ["--standalone", "--nproc-per-node", str(processes), "-m", "jobs.train", *arguments]
    try:
        torchrun.run(torchrun.parse_args(command))
    except ChildFailedError as error:
        status = error.get_first_failure()[1].exitcode
        return status if status > 0 else 1
    except SignalException as ended:  # its processes have ended; so does this one, as every step does by this signal
        signal.signal(ended.sigval, signal.SIG_DFL)
        signal.raise_signal(ended.sigval)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the step."""
    if launched():
        return run_step("train", __doc__ or "", body, arguments, _options, records=os.environ["RANK"] == "0")
    given = sys.argv[1:] if arguments is None else arguments
    processes = _processes(given)
    if processes > 1:
        return _start(processes, given)
    return run_step("train", __doc__ or "", body, given, _options)


if __name__ == "__main__":
    sys.exit(main())
