"""SASRec and a kNN as one list of candidates: the two rankings interleaved, as a candidate set of two sources.

Rankings are stored by exam and view, each with the first ``DEPTH`` items that the view shows. This module uses private
and public names of bench/peer.py and bench/floors.py and does not change these files: the names of their finished
runs depend on their code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import floors
from bench.floors import Settings
from bench.peer import _read_ranking as read_peer
from bench.protocols import DEPTH, MASKED, RECALL, VALIDATION, Exam, Experiment, measure, without_seen
from hmamba.sequences.histories import IntArray

Ranking = npt.NDArray[np.int32]
Rankings = dict[str, Ranking]
"""First ``DEPTH`` items (U, DEPTH) of each query by name of the exam and view; -1 where there is no further item."""


def name_of(exam: str, view: str) -> str:
    """The name of one ranking among :data:`Rankings`."""
    return f"{exam} {view}"


def rankings(experiment: Experiment, ranked: Callable[[str, Exam], IntArray]) -> Rankings:
    """What each view shows of a system's rankings.

    Args:
        experiment: the exams.
        ranked: ranks ``exam.depth`` items (U, depth) for the queries of an exam, given its name too.
    """
    found: Rankings = {}
    for name, exam in experiment.exams.items():
        whole = ranked(name, exam)
        for view in exam.views:
            shown = without_seen(whole, exam, DEPTH) if view == MASKED else whole[:, :DEPTH]
            found[name_of(name, view)] = shown.astype(np.int32)
    return found


def peer_rankings(experiment: Experiment, folder: Path) -> Rankings | None:
    """The rankings that SASRec's process has written into its folder; None if any of them is missing."""
    files = {name: folder / f"ranked-{name}.parquet" for name in experiment.exams}
    if not all(file.is_file() for file in files.values()):
        return None
    users = experiment.train.users
    return rankings(experiment, lambda name, exam: read_peer(files[name], exam, users))


def better(candidates: dict[str, dict[str, Any]], experiment: Experiment) -> str:
    """The kNN with the larger recall on validation in the view that settings are chosen on.

    Args:
        candidates: finished runs of the floors by name.
        experiment: the exams.
    """
    view = experiment.stop.views[0]

    def recall(name: str) -> float:
        ((_, views),) = candidates[name]["measured"][VALIDATION].items()
        return float(views[view][RECALL])

    return max(candidates, key=recall)


def knn_rankings(name: str, settings: Settings, experiment: Experiment) -> Rankings:
    """The rankings of item-kNN or V-SKNN with settings that were chosen before."""
    if name == "V-SKNN":
        return rankings(experiment, lambda _, exam: floors.rank_by_users(experiment, exam, **settings))
    most, shrinkage = max(floors.NEIGHBOURS), settings["shrinkage"]  # ties are cut as they were in the choice
    matrix = floors.neighbours(experiment.train, experiment.size, most=most, shrinkage=shrinkage).matrix(
        settings["neighbours"]
    )
    return rankings(experiment, lambda _, exam: floors.rank_by_neighbours(experiment, exam, matrix))


def interleave(first_Uk: Ranking, second_Uk: Ranking) -> IntArray:
    """Take items of two rankings in turn, each item once. Returns (U, k), -1 where none is left.

    Args:
        first_Uk: the ranking that begins, best first; -1 where there is no further item.
        second_Uk: the other ranking.
    """
    users, k = first_Uk.shape
    both = np.stack([first_Uk, second_Uk], axis=2).reshape(users, 2 * k)
    order = np.argsort(both, axis=1, kind="stable")
    ordered = np.take_along_axis(both, order, 1)
    again = np.zeros(both.shape, dtype=bool)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    again |= both < 0
    kept = np.argsort(again, axis=1, kind="stable")[:, :k]
    merged: IntArray = np.where(np.take_along_axis(again, kept, 1), -1, np.take_along_axis(both, kept, 1)).astype(int)
    return merged


def measured(experiment: Experiment, first: Rankings, second: Rankings) -> dict[str, Any]:
    """Metrics of two systems' merged rankings, by exam, group and view."""
    found: dict[str, Any] = {}
    for name, exam in experiment.exams.items():
        groups: dict[str, Any] = {group: {} for group in exam.groups}
        for view in exam.views:
            both = interleave(first[name_of(name, view)], second[name_of(name, view)])
            of_view = measure(both, replace(exam, views=(view,)), len(experiment.candidate_items))
            for group, views in of_view.items():
                groups[group] |= views
        found[name] = groups
    return found
