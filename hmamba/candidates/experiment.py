"""The control group: a hashed share of the users, who get the list of a baseline while all others get the model's.

The group of a user depends on the id and on the salt only: not on the day, the machine, or the shard, whose hash is
another one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from hmamba.candidates.because import Reasons
from hmamba.candidates.retrieve import Ranked
from hmamba.candidates.score import ScoredBlock
from hmamba.columns import BASELINE_VERSION, BASELINES, CONTROL, TREATMENT
from hmamba.config import Config
from hmamba.contracts.manifest import Experiment
from hmamba.contracts.verdict import Verdict
from hmamba.evaluation.gate import is_baseline
from hmamba.index.base import FloatArray
from hmamba.inference.encode import Encode
from hmamba.models.files import StoredModel
from hmamba.rules.apply import Effects
from hmamba.sequences.histories import Histories, IntArray


def experiment_of(config: Config, verdict: Verdict) -> Experiment | None:
    """The experiment of a night; None without a control group.

    The control group gets the baseline that the gate measured as the best, or the one that serves.
    """
    settings = config.experiment
    if not settings.control or settings.salt is None or verdict.serving is None:
        return None
    if is_baseline(verdict.serving):
        return Experiment(control=settings.control, salt=settings.salt, version=verdict.serving)
    measured = [name for name in BASELINES if verdict.metric in verdict.metrics.get(name, {})]
    default = "popularity" if config.candidates.exclude_seen else "most_bought"
    best = max(measured, key=lambda name: verdict.metrics[name][verdict.metric], default=default)
    return Experiment(control=settings.control, salt=settings.salt, version=f"{BASELINE_VERSION}{best}")


def in_control(users: pa.Array, experiment: Experiment) -> npt.NDArray[np.bool_]:
    """(U,) whether each user is in the control group."""
    salt, limit = f"{experiment.salt}:", experiment.limit
    hashed = (hashlib.sha256(f"{salt}{user}".encode()).hexdigest() for user in users.to_pylist())
    return np.fromiter((int(digest[:13], 16) < limit for digest in hashed), dtype=bool, count=len(users))


@torch.inference_mode()
def points_of(histories: Histories, stored: StoredModel, encode: Encode) -> FloatArray:
    """The Lorentz points (U, d + 1) of users who are not ranked by the model."""
    hidden_Ud = encode(stored.model, stored.readable(histories)[0])
    device = stored.model.tangents.weight.device
    points_UX: FloatArray = stored.model.user_points(hidden_Ud.to(device)).float().cpu().numpy()
    return points_UX


@dataclass(frozen=True)
class ExperimentScorer:
    """Ranks items for both groups.

    Attributes:
        treatment: ranks a block of users by what serves.
        control: ranks a block of users by the baseline.
        points: the Lorentz points of a block of users who are not ranked by the model; it may store their carried
            states. None where a baseline serves.
        experiment: who is in which group.
    """

    treatment: Callable[[Histories], ScoredBlock]
    control: Callable[[Histories], ScoredBlock]
    points: Callable[[Histories], FloatArray] | None
    experiment: Experiment

    def __call__(self, histories: Histories) -> ScoredBlock:
        """The candidates, points and groups of a block of users."""
        is_control = in_control(histories.users, self.experiment)
        parts = []
        for score, rows in ((self.treatment, np.flatnonzero(~is_control)), (self.control, np.flatnonzero(is_control))):
            if len(rows):
                own = histories.select(rows)
                block = score(own)
                if block.points is None and self.points is not None:
                    block = replace(block, points=self.points(own))
                parts.append((rows, block))
        groups = pa.array(np.where(is_control, CONTROL, TREATMENT), pa.string())
        return replace(_joined(parts), groups=groups)


def _joined(parts: list[tuple[IntArray, ScoredBlock]]) -> ScoredBlock:
    """The results of a block, from those of users at some positions each."""
    order = np.argsort(np.concatenate([rows for rows, _ in parts]), kind="stable")
    blocks = [block for _, block in parts]
    owners = np.concatenate([rows[block.ranked.users] for rows, block in parts])
    by_user = np.argsort(owners, kind="stable")
    ranked = Ranked(
        owners[by_user],
        np.concatenate([block.ranked.items for block in blocks])[by_user],
        np.concatenate([block.ranked.scores for block in blocks])[by_user],
    )
    points = [block.points for block in blocks if block.points is not None]
    return ScoredBlock(
        ranked,
        pa.concat_arrays([block.versions.cast(pa.string()) for block in blocks]).take(pa.array(order)),
        np.concatenate(points)[order] if points else None,
        sum(block.fallback_users for block in blocks),
        reasons=_reasons([block.reasons for block in blocks], by_user),
        effects=_effects([block.effects for block in blocks]),
    )


def _effects(parts: list[Effects | None]) -> Effects | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    total = Effects()
    for part in known:
        total.add(part)
    return total


def _reasons(parts: list[Reasons | None], order: IntArray) -> Reasons | None:
    known = [part for part in parts if part is not None]
    if not known:
        return None
    names = pa.concat_arrays([part.names.cast(pa.string()) for part in known]).take(pa.array(order))
    return Reasons(names.dictionary_encode(), np.concatenate([part.items for part in known])[order])
