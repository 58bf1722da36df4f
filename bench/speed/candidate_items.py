"""A large synthetic set of items with the shape of a trained one, and the queries of the trained model.

The product's loop trains on Beauty for a few epochs. Each item then gets many siblings that are distributed like its
neighbours: the mean of its 300 nearest items, plus the item's difference from that mean, plus Gaussian noise with 1.5
times the neighbours' standard deviation; both terms are scaled so that the covariance is kept. Siblings of near items
therefore overlap, and norms, biases and the local dimension stay as trained. The figures report the dimension.

Complete Journey, with its repeat purchases, would favour an approximate search: personal preferences are in the repeat
term there, and after three epochs the base score showed fewer than 200 distinct items to all users together.
"""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.datasets import load
from bench.protocols import TEST, leave_one_out
from bench.settings import configure
from bench.training import model_of, plan_of
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.index.base import RealArray
from hmamba.inference.encode import encode_users
from hmamba.model.hmamba import HMamba
from hmamba.progress import track
from hmamba.training.fit import Fit

log = logging.getLogger("hmamba")

DATA = "beauty"
_NEIGHBOURS, _DRAWN, _WIDER = 300, 32, 1.5
_ROWS = 2_048
_LENGTH = 50


@dataclass(frozen=True)
class Large:
    """Item vectors and query vectors.

    Attributes:
        vectors: (V, d + 2) item vectors.
        queries: (R, d + 2) query vectors of users, in random order.
        dimension: local dimension of the items' tangents.
        trained_dimension: local dimension of the trained items' tangents.
    """

    vectors: RealArray
    queries: RealArray
    dimension: float
    trained_dimension: float


def local_dimension(points: Tensor, sample: int = 200, near: int = 100) -> float:
    """Levina and Bickel's estimate of the dimension, from the distances of the nearest points.

    Args:
        points: (V, d) points, V > ``near``.
        sample: number of points that the estimate is averaged over.
        near: number of nearest points of each.
    """
    at = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:sample]
    parts = [torch.cdist(some, points).topk(near + 1, largest=False).values[:, 1:] for some in points[at].split(16)]
    distances = torch.cat(parts)
    return float(1 / torch.log(distances[:, -1:] / distances[:, :-1]).mean(dim=1).mean())


def grow(weights: Tensor, bias: Tensor, items: int) -> tuple[Tensor, Tensor]:
    """Siblings of trained items, equally many for each item.

    Args:
        weights: (V, d) weights of the items, without padding.
        bias: (V,) biases of the items.
        items: total number of siblings.

    Returns:
        Weights (items, d) and biases (items,).
    """
    generator = torch.Generator().manual_seed(0)
    joint = torch.cat([weights, bias[:, None]], dim=1)
    near = torch.cat(
        [torch.cdist(some, weights).topk(_NEIGHBOURS + 1, largest=False).indices[:, 1:] for some in weights.split(512)]
    )
    middle = torch.cat([joint[some].mean(dim=1) for some in near.split(512)])
    parents = (torch.arange(items) % len(weights))[torch.randperm(items, generator=generator)]
    grown = torch.empty(items, joint.shape[1])
    blocks = range(0, items, _ROWS)
    for start in track(blocks, "bench: catalogue", len(blocks), "blocks of items"):
        block = parents[start : start + _ROWS]
        drawn = torch.randint(near.shape[1], (len(block), _DRAWN), generator=generator)
        around = joint[near[block[:, None], drawn]] - middle[block, None]
        noise = torch.randn(len(block), 1, _DRAWN, generator=generator) / _DRAWN**0.5
        apart = joint[block] - middle[block] + _WIDER * (noise @ around)[:, 0]
        grown[start : start + _ROWS] = middle[block] + apart / (1 + _WIDER**2) ** 0.5
    return grown[:, :-1], grown[:, -1]


@torch.inference_mode()
def large(model: HMamba, queries: RealArray, items: int) -> Large:
    """A large set of items around those of a model.

    Args:
        model: a trained model with a bias.
        queries: (R, d + 2) query vectors of its users.
        items: number of items.
    """
    assert model.bias is not None
    trained = model.tangents.weight[1:]
    weights, bias = grow(trained, model.bias[1:], items)
    dimensions = local_dimension(weights), local_dimension(trained)
    state = model.state_dict()
    state["tangents.weight"] = torch.cat([model.tangents.weight[:1], weights])
    state["bias"] = torch.cat([model.bias[:1], bias])
    grown = HMamba(model.config, items).eval()
    grown.load_state_dict(state)
    vectors = torch.cat([grown.item_vectors(some) for some in torch.arange(1, items + 1).split(1 << 16)])
    return Large(vectors.numpy(), queries, *dimensions)


def trained(folder: Path, epochs: int, users: int) -> tuple[HMamba, RealArray]:
    """The product's model after a few epochs on Beauty, and the query vectors (users, d + 2) of some of its users.

    Raises:
        InputError: the data set does not exist.
    """
    overrides = {"train.epochs": epochs, "train.device": "cpu", "model.score_terms": []}
    config = configure({}, overrides)
    experiment = leave_one_out(load(DATA, folder), _LENGTH)
    model, empty = model_of(experiment, config), np.zeros(0, dtype=np.int64)
    evaluation_set = EvaluationSet(experiment.train.select(empty), empty, empty, empty)
    with tempfile.TemporaryDirectory() as temporary:
        plan = plan_of(experiment, config, model, "catalogue", Path(temporary))
        Fit(model, replace(plan, evaluation_set=evaluation_set)).run()  # without queries, the last epoch is kept
    model.eval()
    past = experiment.exams[TEST].evaluation_set.past
    sampled = past.select(np.random.default_rng(0).permutation(len(past))[:users])
    hidden_Rd = encode_users(model, sampled)
    with torch.inference_mode():
        queries: RealArray = model.query_vectors(hidden_Rd).numpy()
    return model, queries
