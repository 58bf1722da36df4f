"""Run RecTools' SASRec in its own environment on an experiment, and measure it with this project's metrics."""

from __future__ import annotations

import logging
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.protocols import Exam, Experiment, measure
from hmamba.errors import HMambaError
from hmamba.sequences.histories import Histories, IntArray
from hmamba.storage.local import read_json, write_json

log = logging.getLogger("hmamba")

Settings = dict[str, Any]

FOLDER = Path(__file__).parent / "peers"


def search_space(given: Settings) -> tuple[Settings, dict[str, list[Any]]]:
    """The fixed settings, and the axes to search that ``given`` does not fix."""
    space = tomllib.loads((FOLDER / "sasrec.toml").read_text(encoding="utf-8"))
    axes = {name: values for name, values in space["axes"].items() if name not in given}
    return {**space["fixed"], **given}, axes


def _numbers(histories: Histories, all_users: pa.Array) -> IntArray:
    numbers: IntArray = pc.index_in(histories.users, all_users).to_numpy().astype(np.int64)
    return numbers


def write_events(path: Path, histories: Histories, all_users: pa.Array) -> None:
    """Write events as columns: user (position in ``all_users``), item, and position in the user's history."""
    columns = {
        "user": _numbers(histories, all_users)[histories.owner],
        "item": histories.items,
        "place": np.arange(histories.events) - histories.offsets[histories.owner],
    }
    pq.write_table(pa.table(columns), path)


def _read_ranking(path: Path, exam: Exam, all_users: pa.Array) -> IntArray:
    """Ranked items (U, depth); -1 for users whom the peer cannot rank for."""
    table = pq.read_table(path)
    row_of = np.full(len(all_users), -1, dtype=np.int64)
    row_of[_numbers(exam.evaluation_set.past, all_users)] = np.arange(len(exam.evaluation_set.past))
    ranked = np.full((len(exam.evaluation_set.past), exam.depth), -1, dtype=np.int64)
    ranked[row_of[table["user"].to_numpy()], table["rank"].to_numpy() - 1] = table["item"].to_numpy()
    return ranked


def run_sasrec(
    experiment: Experiment, settings: Settings, *, seed: int, length: int, folder: Path, python: Path
) -> dict[str, Any]:
    """Train RecTools' SASRec, or resume from its last epoch in ``folder``, and measure it.

    Args:
        experiment: leave-one-out; each user has one relevant item.
        settings: keywords of SASRecModel, and epochs and patience.
        seed: seed of the training.
        length: number of events that the peer reads of each user.
        folder: folder of its files and checkpoints.
        python: the Python interpreter of the peers' environment.

    Returns:
        The same fields as :func:`bench.training.train`.

    Raises:
        HMambaError: the peer's process failed.
    """
    all_users = experiment.train.users
    write_events(folder / "train.parquet", experiment.train, all_users)
    stop = experiment.stop.evaluation_set
    users = _numbers(stop.past, all_users)[stop.rows]
    pq.write_table(pa.table({"user": users, "item": stop.items}), folder / "stop.parquet")
    for name, exam in experiment.exams.items():
        write_events(folder / f"past-{name}.parquet", exam.evaluation_set.past, all_users)
    depth = {name: exam.depth for name, exam in experiment.exams.items()}
    job = {"settings": {**settings, "session_max_len": length}, "seed": seed, "depth": depth}
    write_json(folder / "job.json", job)
    log.info("sasrec: seed %d, %s", seed, settings)
    done = subprocess.run([str(python), str(FOLDER / "sasrec.py"), str(folder)], check=False)
    if done.returncode:
        raise HMambaError(
            f"{python} {FOLDER / 'sasrec.py'} exited with status {done.returncode}; see its output above."
        )
    measured = {
        name: measure(
            _read_ranking(folder / f"ranked-{name}.parquet", exam, all_users), exam, len(experiment.candidate_items)
        )
        for name, exam in experiment.exams.items()
    }
    epochs = read_json(folder / "epochs.json")
    return {
        "measured": measured,
        "epochs": epochs,
        "best_epoch": max(epochs, key=lambda epoch: (epoch["ndcg@10"], -epoch["epoch"]))["epoch"],
        "seconds": sum(epoch["seconds"] + epoch["validation_seconds"] for epoch in epochs),
        **read_json(folder / "facts.json"),
    }
