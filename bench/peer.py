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

from bench.protocols import MASKED, Exam, Experiment, measure
from hmamba.errors import HMambaError
from hmamba.sequences.histories import Histories, IntArray
from hmamba.storage.local import read_json, write_json

log = logging.getLogger("hmamba")

Settings = dict[str, Any]

FOLDER = Path(__file__).parent / "peers"


class PeerError(HMambaError):
    """The peer's process did not finish; its checkpoints are kept. The message says why."""


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


def _run(command: list[str], seconds: float | None) -> None:
    """Run a command to its end.

    Raises:
        PeerError: it was interrupted, took longer than ``seconds``, or failed.
    """
    try:
        status = subprocess.run(command, check=False, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        raise PeerError("stopped") from None
    except KeyboardInterrupt:
        raise PeerError("interrupted") from None
    except OSError as error:
        raise PeerError(f"failed ({error})") from error
    if status:
        why = f"killed by signal {-status}" if status < 0 else f"failed with exit status {status}, see its output"
        raise PeerError(why)


def run_sasrec(
    experiment: Experiment,
    settings: Settings,
    *,
    seed: int,
    length: int,
    folder: Path,
    python: Path,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Train RecTools' SASRec, or resume from its last epoch in ``folder``, and measure it.

    Args:
        experiment: leave-one-out; each user has one relevant item.
        settings: keywords of SASRecModel, and epochs and patience.
        seed: seed of the training.
        length: number of events that the peer reads of each user.
        folder: folder of its files and checkpoints.
        python: the Python interpreter of the peers' environment.
        seconds: time after which the process is stopped; None: no limit.

    Returns:
        The same fields as :func:`bench.training.train`.

    Raises:
        PeerError: the peer's process did not finish.
    """
    all_users = experiment.train.users
    write_events(folder / "train.parquet", experiment.train, all_users)
    stop = experiment.stop.evaluation_set
    users = _numbers(stop.past, all_users)[stop.rows]
    pq.write_table(pa.table({"user": users, "item": stop.items}), folder / "stop.parquet")
    for name, exam in experiment.exams.items():
        write_events(folder / f"past-{name}.parquet", exam.evaluation_set.past, all_users)
    depth = {name: exam.depth for name, exam in experiment.exams.items()}
    masked = experiment.stop.views[0] == MASKED
    job = {"settings": {**settings, "session_max_len": length}, "seed": seed, "masked": masked, "depth": depth}
    write_json(folder / "job.json", job)
    log.info("sasrec: seed %d, %s", seed, settings)
    _run([str(python), str(FOLDER / "sasrec.py"), str(folder)], seconds)
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
