"""Judging one replayed night on the days that followed: what served, in each of the ways in which it could have.

A model's version is judged as it was trained, with what is only counted counted up to the night (recounted), and with a
short fine-tuning over the days that were held out (refit). Baselines count up to the night as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch

from hmamba import registry
from hmamba.config import Config
from hmamba.evaluation.gate import Measured, is_baseline, measure_baselines, measure_model
from hmamba.evaluation.question import Question
from hmamba.evaluation.split import Split
from hmamba.files import read_json
from hmamba.layout import Layout
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, midnight, read_histories, shard_files
from hmamba.sequences.snapshot import MANIFEST
from hmamba.training.recount import Counts, recount, wants_transitions
from hmamba.training.refit import refit

AS_TRAINED, RECOUNTED, REFIT = "as trained", "recounted", "recounted and refit"
VARIANTS = (AS_TRAINED, RECOUNTED, REFIT)


@dataclass(frozen=True)
class Chain:
    """Nights that follow each other in a root of their own.

    Attributes:
        name: such as "fine-tuned".
        layout: the root.
    """

    name: str
    layout: Layout


@dataclass(frozen=True)
class JudgedNight:
    """One night's figures.

    Attributes:
        day: the night.
        users, questions: who was asked about the days after it, and how much.
        serving: by chain, the version that served.
        measured: by system.
    """

    day: date
    users: int
    questions: int
    serving: dict[str, str]
    measured: dict[str, Measured]


def ask_after(truth: Histories, day: date, until: date, config: Config) -> Question:
    """What users took after a day, up to the end of another.

    Args:
        truth: all events up to the end of ``until``, or more.
        day: the night.
        until: last day that is asked about.
        config: whether only new items count.
    """
    known = truth.between(None, midnight(until) + MICROSECONDS_A_DAY)
    before = known.between(None, midnight(day) + MICROSECONDS_A_DAY)
    starts = known.offsets[:-1] + before.lengths
    return Question.ask(known, starts, known.offsets[1:], exclude_seen=config.candidates.exclude_seen)


def judge_night(
    chains: list[Chain], day: date, run_id: str, truth: Histories, until: date, config: Config, device: torch.device
) -> JudgedNight:
    """Judge what served after the night of ``day`` on what came up to the end of ``until``.

    Args:
        chains: each has the snapshot, the versions and the verdict of this night.
        day: the night.
        run_id: of the night's run in each chain.
        truth: all events.
        until: last day that is asked about.
        config: all settings.
        device: where to compute.
    """
    question = ask_after(truth, day, until, config)
    sequences = chains[0].layout.run(day, run_id).sequences
    histories = read_histories(shard_files(sequences))
    # Who is asked may have had items since that the night did not know.
    size = int(truth.items.max(initial=0)) + 1
    snapshot = str(read_json(sequences / MANIFEST)["digest"])
    serving = {chain.name: registry.serving(chain.layout.run(day, run_id).verdict) for chain in chains}
    if not len(question):
        return JudgedNight(day, 0, 0, serving, {})
    measured = measure_baselines(histories, question, config, size)
    split, counts = Split.of(histories, config), None
    for chain in chains:
        version = serving[chain.name]
        if is_baseline(version):
            name = version.removeprefix("baseline-")
            measured |= {f"{chain.name}, {variant}": measured[name] for variant in VARIANTS}
            continue
        stored = registry.load(chain.layout, version, device, config.model.kernels)
        measured[f"{chain.name}, {AS_TRAINED}"] = measure_model(stored, question, config)
        if counts is None:
            counts = Counts.of(histories, size, transitions=wants_transitions(stored.model))
        recount(stored, counts)
        measured[f"{chain.name}, {RECOUNTED}"] = measure_model(stored, question, config)
        folder: Path = chain.layout.run(day, run_id).training / "backtest-refit"
        refit(stored, histories, split, snapshot, folder, config)
        measured[f"{chain.name}, {REFIT}"] = measure_model(stored, question, config)
    return JudgedNight(day, question.judged, len(question), serving, measured)


def pooled(nights: list[JudgedNight], system: str) -> Measured | None:
    """One system's figures over all nights, each user of each night counting once; None if it was never judged."""
    found = [night for night in nights if system in night.measured]
    if not found:
        return None
    weights = np.array([night.users for night in found], dtype=np.float64)
    names = found[0].measured[system].means
    means = {
        name: round(float(np.average([night.measured[system].means[name] for night in found], weights=weights)), 6)
        for name in names
    }
    return Measured(means, np.concatenate([night.measured[system].deciding for night in found]))
