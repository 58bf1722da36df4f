"""An epoch of training by the product's loop against RecTools' SASRec, at equal width, length and loss.

Both train on the last 200 events of the same users, predict every event, score the same items in a full softmax and
take about the same number of steps. HMamba has one layer, as in the product, and SASRec two, as in its paper; HMamba
with two layers is reported too. Score terms, which SASRec lacks, are off. RecTools would also score padding and drop
the result; here it scores only positions with a target (:mod:`bench.peers.sasrec`), so this does not slow it down.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.datasets import Data, load
from bench.peer import search_space, write_events
from bench.protocols import Experiment, leave_one_out
from bench.settings import configure
from bench.speed.rounds import Figure, check
from bench.store import ROOT
from bench.training import model_of, plan_of
from hmamba.errors import HMambaError
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.storage.local import write_json
from hmamba.training.fit import Fit, Plan

log = logging.getLogger("hmamba")

OURS, DEEPER, PEER = "HMamba, 1 layer", "HMamba, 2 layers", "RecTools' SASRec, 2 layers"
USERS = {"ml-latest-small": None, "complete-journey": 250}
"""Data sets and the number of users to train on; None: all. With all 2,469 households, the softmax over their items
would take many minutes an epoch."""

PYTHON = ROOT / ".venv-peers" / "bin" / "python"
_LENGTH, _DIM, _BATCH_USERS, _SEED = 200, 64, 64, 1
_DROPOUT, _RATE = 0.2, 1e-3
_TARGET = 2.0


@dataclass(frozen=True)
class Epoch:
    """Time and loss of an epoch.

    Attributes:
        seconds: seconds without validation and checkpoints.
        answers: number of predicted positions.
        loss: their mean loss.
    """

    seconds: float
    answers: int
    loss: float


Runner = Callable[[], Epoch]


def experiment_of(data: Data, users: int | None) -> Experiment:
    """The training data of both: users with at least two events, a sample of them if ``users`` is less than all."""
    whole = leave_one_out(data, _LENGTH)
    train = whole.train.select(np.flatnonzero(whole.train.lengths > 1))  # others have no target
    if users is not None and users < len(train):
        train = train.select(np.sort(np.random.default_rng(_SEED).choice(len(train), users, replace=False)))
    return replace(whole, train=train, candidate_items=CandidateItems.of(train.item_events(whole.size), 1))


def ours(experiment: Experiment, layers: int) -> Runner:
    """The product's loop; each call trains the same model for another epoch."""
    tokens = experiment.train.events * _BATCH_USERS // len(experiment.train)
    overrides = {
        "model.dim": _DIM,
        "model.layers": layers,
        "model.dropout": _DROPOUT,
        "model.score_terms": [],
        "model.category_levels": [],
        "train.max_length": _LENGTH,
        "train.tokens": tokens,
        "train.learning_rate": _RATE,
        "train.epochs": 1,
        "train.row_share": 1.0,
        "train.half_life_days": None,
        "train.seed": _SEED,
        "train.device": "cpu",
        "candidates.exclude_seen": True,
    }
    config = configure({}, overrides)
    model, empty = model_of(experiment, config), np.zeros(0, dtype=np.int64)
    evaluation_set = EvaluationSet(experiment.train.select(empty), empty, empty, empty)

    def epoch() -> Epoch:
        with tempfile.TemporaryDirectory() as folder:
            plan: Plan = replace(
                plan_of(experiment, config, model, "epoch", Path(folder)), evaluation_set=evaluation_set
            )
            (facts,) = Fit(model, plan).run()
            return Epoch(facts["seconds"], plan.batches.rows, facts["loss"])

    return epoch


@contextmanager
def _peer(experiment: Experiment, python: Path, epochs: int) -> Iterator[Runner]:
    """RecTools in a process of its own, which waits between its epochs."""
    given = {"batch_size": _BATCH_USERS, "n_factors": _DIM, "dropout_rate": _DROPOUT, "lr": _RATE}
    settings, _ = search_space({**given, "session_max_len": _LENGTH})
    job = {
        "settings": {name: value for name, value in settings.items() if name not in ("epochs", "patience")},
        "seed": _SEED,
        "threads": torch.get_num_threads(),
        "epochs": epochs,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_events(folder / "train.parquet", experiment.train, experiment.train.users)
        write_json(folder / "job.json", job)
        command = [str(python), "-m", "bench.peers.epochs", str(folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            requests, answers = process.stdin, process.stdout

            def epoch() -> Epoch:
                requests.write("go\n")
                requests.flush()
                for line in answers:
                    if line.startswith("{"):
                        facts: dict[str, Any] = json.loads(line)
                        same = facts["items"] == len(experiment.candidate_items)
                        check(same, f"RecTools scores {facts['items']} items, HMamba {len(experiment.candidate_items)}")
                        return Epoch(facts["seconds"], facts["answers"], facts["loss"])
                raise HMambaError(f"{' '.join(command)} ended too early; see its output above.")

            try:
                yield epoch
            finally:
                process.kill()


def _check(name: str, epochs: dict[str, list[Epoch]]) -> None:
    answers = {way: {epoch.answers for epoch in taken} for way, taken in epochs.items()}
    check(len(set.union(*answers.values())) == 1, f"{name}: not the same number of answers: {answers}")
    for way, taken in epochs.items():
        check(taken[-1].loss < taken[0].loss, f"{name}: the loss of {way} does not fall")


def _missing(folder: Path | None, name: str) -> str | None:
    if not PYTHON.is_file():
        return "there is no .venv-peers (make bench-peers)"
    if folder is None:
        return "the folder of the data sets is not set (--data, or the variable HMAMBA_DATA)"
    if not (folder / name).is_dir():
        return f"{folder / name} does not exist"
    return None


def figures(*, quick: bool, data: Path | None = None) -> Iterator[Figure]:
    """One figure for each data set; none if the peer or the data set is missing.

    Args:
        quick: use three epochs of fewer users.
        data: folder of the data sets; the variable HMAMBA_DATA if None.
    """
    data = data or (Path(os.environ["HMAMBA_DATA"]) if os.environ.get("HMAMBA_DATA") else None)
    rounds = 3 if quick else 5
    for name, users in USERS.items():
        missing = _missing(data, name)
        if missing is not None:
            log.info("epoch of %s: skipped, because %s.", name, missing)
            continue
        assert data is not None
        experiment = experiment_of(load(name, data), 100 if quick else users)
        with _peer(experiment, PYTHON, rounds + 1) as peer:
            ways = {OURS: ours(experiment, 1), DEEPER: ours(experiment, 2), PEER: peer}
            taken: dict[str, list[Epoch]] = {way: [] for way in ways}
            for turn in range(rounds + 1):
                for way, run in ways.items():
                    taken[way].append(run())
                    last = taken[way][-1]
                    log.info("%s, %s, epoch %d: %.1f s, loss %.3f", name, way, turn, last.seconds, last.loss)
        _check(name, taken)
        seconds = {way: [epoch.seconds for epoch in epochs[1:]] for way, epochs in taken.items()}
        what = (
            f"training epoch, {name}: {len(experiment.train):,} users, {taken[OURS][0].answers:,} answers, "
            f"{len(experiment.candidate_items):,} items"
        )
        yield Figure(
            what,
            OURS,
            PEER,
            (taken[OURS][0].answers, "answers"),
            {way: statistics.median(times) for way, times in seconds.items()},
            {way: max(times) / min(times) for way, times in seconds.items()},
            _TARGET,
        )
