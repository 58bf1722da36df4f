"""Evaluate one replayed night on the days that followed it.

Each serving model is evaluated in three variants: as trained; recounted, with its counted score terms counted up to the
night; and refit, with a short fine-tuning on the held-out days. Baselines count events up to the night.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import torch

from hmamba.columns import BASELINE_VERSION
from hmamba.config import Config
from hmamba.contracts.backtest import BacktestNight, SystemMetrics
from hmamba.contracts.verdict import Comparison, Verdict
from hmamba.evaluation.comparison import compare
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.gate import Metrics, is_baseline, measure_baselines, measure_model
from hmamba.evaluation.split import Split
from hmamba.models import files as model_files
from hmamba.models.files import StoredModel
from hmamba.sequences.attributes import read_attributes
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, midnight, read_histories
from hmamba.storage.layout import Layout
from hmamba.training.recount import Counts, recount
from hmamba.training.refit import refit

AS_TRAINED, RECOUNTED, REFIT = "as trained", "recounted", "recounted and refit"
VARIANTS = (AS_TRAINED, RECOUNTED, REFIT)


@dataclass(frozen=True)
class Chain:
    """Consecutive nights in a root of their own.

    Attributes:
        name: such as "fine-tuned".
        layout: the root.
    """

    name: str
    layout: Layout


def evaluation_set_after(truth: Histories, day: date, until: date, config: Config) -> EvaluationSet:
    """The evaluation set of the days after ``day``, up to the end of ``until``.

    Args:
        truth: all events up to the end of ``until``; later ones are ignored.
        day: the night.
        until: last day of the evaluation set.
        config: whether seen items are excluded.
    """
    known = truth.between(None, midnight(until) + MICROSECONDS_A_DAY)
    before = known.between(None, midnight(day) + MICROSECONDS_A_DAY)
    starts = known.offsets[:-1] + before.lengths
    return EvaluationSet.of(known, starts, known.offsets[1:], exclude_seen=config.candidates.exclude_seen)


def judge_night(
    chains: list[Chain], day: date, run_id: str, truth: Histories, until: date, config: Config, device: torch.device
) -> BacktestNight:
    """Evaluate the models and baselines of the night of ``day`` on the events up to the end of ``until``.

    Args:
        chains: each holds the snapshot, the versions and the verdict of this night. Chains in which nothing serves are
            left out.
        day: the night.
        run_id: run id of the night in each chain.
        truth: all events.
        until: last day of the evaluation set.
        config: all settings.
        device: the device to compute on.
    """
    evaluation_set = evaluation_set_after(truth, day, until, config)
    run = chains[0].layout.run(day, run_id)
    files = Snapshot.open(run)
    histories = read_histories(files.shards)
    # Users may have interacted since with items that the night did not know.
    size = int(truth.items.max(initial=0)) + 1
    runs = {chain.name: chain.layout.run(day, run_id) for chain in chains}
    serving = {name: Verdict.read(one.verdict, one.storage).serving for name, one in runs.items()}
    if not len(evaluation_set):
        return BacktestNight(day=day, user_ids=(), queries=0, serving=serving, measured={})
    measured = measure_baselines(histories.item_events(size), evaluation_set, config)
    models: dict[str, StoredModel] = {}
    for chain in chains:
        version = serving[chain.name]
        if version is not None and is_baseline(version):
            baseline = measured[version.removeprefix(BASELINE_VERSION)]
            measured |= {f"{chain.name}, {variant}": baseline for variant in VARIANTS}
        elif version is not None:
            models[chain.name] = model_files.load(chain.layout, version, device, config.model.kernels)
    split = Split.of(histories, config)
    counts = Counts.of(
        histories, size, [stored.model for stored in models.values()], read_attributes(files.items, size)
    )
    for name, stored in models.items():
        measured[f"{name}, {AS_TRAINED}"] = measure_model(stored, evaluation_set, config)
        recount(stored, counts)
        measured[f"{name}, {RECOUNTED}"] = measure_model(stored, evaluation_set, config)
        refit(stored, histories, split, files.digest, runs[name].training / "backtest-refit", config)
        measured[f"{name}, {REFIT}"] = measure_model(stored, evaluation_set, config)
    return BacktestNight(
        day=day,
        user_ids=tuple(evaluation_set.user_ids.to_pylist()),
        queries=len(evaluation_set),
        serving=serving,
        measured={
            name: SystemMetrics(means=found.means, deciding=tuple(found.deciding.tolist()))
            for name, found in measured.items()
        },
    )


def pooled(nights: Sequence[BacktestNight], system: str) -> Metrics:
    """Mean metrics of one system over the nights on which it was measured; each user of each night counts once."""
    found = [night for night in nights if system in night.measured]
    weights = np.array([len(night.user_ids) for night in found], dtype=np.float64)
    return {
        name: round(float(np.average([night.measured[system].means[name] for night in found], weights=weights)), 6)
        for name in found[0].measured[system].means
    }


def contrast(nights: Sequence[BacktestNight], pair: tuple[str, str], metric: str) -> Comparison | None:
    """Compare two systems over the nights on which both were measured; None if there is none."""
    common = [night for night in nights if all(name in night.measured for name in pair)]
    if not common:
        return None
    one, other = (np.concatenate([night.measured[name].deciding for night in common]) for name in pair)
    user = np.unique(np.concatenate([night.user_ids for night in common]), return_inverse=True)[1]
    return compare(pair, metric, one, other, user)
