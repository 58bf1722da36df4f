"""Ranks, radii and parts of a model; the two variants are the same network but for the lift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.geometry.__main__ import of_dim
from bench.geometry.measures import by_query
from bench.geometry.trained import ENCODER, TOP, WHOLE, arrays_of, radius, ranks_of, train
from bench.protocols import TEST, last_day, leave_one_out, measure
from bench.settings import configure
from bench.training import model_of
from hmamba.evaluation.ranking import rank_all
from tests.bench.files import order_data, shop

SMALL = {"model.d_state": 8, "train.epochs": 2, "train.tokens": 128, "train.learning_rate": 0.02}


def config_of(variant="full", dim=8, **overrides):
    return configure({}, {**SMALL, **of_dim(dim, variant), "train.seed": 1, **overrides})


def shop_experiment(folder):
    return last_day(shop(folder), days=7, validation_days=3, min_item_events=2, split="test")


@pytest.mark.parametrize("make", [lambda folder: leave_one_out(order_data(folder, users=60), 50), shop_experiment])
def test_ranks_are_those_of_the_published_ranking(tmp_path, make):
    experiment = make(tmp_path)
    exam, candidate_items = experiment.exams[TEST], experiment.candidate_items
    repeats = exam.views[0] == "unmasked"
    config = config_of(**{"candidates.exclude_seen": not repeats})
    torch.manual_seed(0)
    model = model_of(experiment, config)
    torch.nn.init.normal_(model.tangents.weight)
    ranks, top = ranks_of(model.eval(), exam, candidate_items)
    truth = exam.evaluation_set
    ranked, _ = rank_all(model, truth.past, candidate_items, k=exam.depth, exclude_seen=False)
    expected = measure(ranked, exam, len(candidate_items))["all users"][exam.views[0]]
    found = {name: float(values.mean()) for name, values in by_query(ranks, truth.rows, len(truth.past)).items()}
    for name, other in (("NDCG@10", "ndcg@10"), ("HR@10", "hr@10"), ("R@100", "recall@100")):
        assert found[name] == pytest.approx(expected[other], abs=1e-9)
    assert 0 < found["NDCG@10"] < 1
    assert ((ranks == 0) == (candidate_items.column[truth.items] < 0)).all()
    listed = ranks[(ranks > 0) & (ranks <= TOP)]
    rows, items = truth.rows[(ranks > 0) & (ranks <= TOP)], truth.items[(ranks > 0) & (ranks <= TOP)]
    assert (top[rows, listed - 1] == items).all()


def test_seen_items_are_left_out_only_where_the_view_masks(tmp_path):
    """An item that the model likes best, and that everybody has seen, is on top of unmasked lists only."""
    experiment = leave_one_out(order_data(tmp_path, users=60), 50)
    exam, model = experiment.exams[TEST], model_of(experiment, config_of())
    liked = int(exam.seen.items[0])
    with torch.no_grad():
        model.bias[liked] += 1000
    seen = exam.seen.owner[exam.seen.items == liked]
    _, masked = ranks_of(model.eval(), exam, experiment.candidate_items)
    _, unmasked = ranks_of(model, replace(exam, views=("unmasked",)), experiment.candidate_items)
    assert (unmasked[:, 0] == liked).all()
    assert not (masked[seen] == liked).any()


@pytest.mark.parametrize("variant", ["full", "euclidean"])
def test_radii_are_the_lengths_of_the_tangents_as_bounded(tmp_path, variant):
    experiment = leave_one_out(order_data(tmp_path), 50)
    model = model_of(experiment, config_of(variant))
    torch.nn.init.normal_(model.tangents.weight)
    index = torch.arange(1, experiment.size)
    with torch.no_grad():
        length = model._item_tangents(index).norm(dim=1)
        limit = model.config.max_norm / model.curvature.sqrt()
        expected = length if variant == "euclidean" else length / (1 + length.square() / limit**2).sqrt()
    found = radius(model, model.item_points(index))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)


def test_the_encoder_alone_has_no_score_terms_and_the_model_keeps_its_own(tmp_path):
    experiment = shop_experiment(tmp_path)
    config = config_of(**{"candidates.exclude_seen": False})
    facts, arrays = train(experiment, config, "v", tmp_path / "run")
    assert len(facts["epochs"]) == len(facts["cpu_seconds"]) == 2
    assert min(facts["cpu_seconds"]) > 0
    assert (arrays[f"ranks {WHOLE}"] != arrays[f"ranks {ENCODER}"]).any()
    model = model_of(experiment, config).eval()
    assert model.learned_term is not None
    whole = arrays_of(model, experiment)
    assert model.learned_term is not None
    bare = model_of(experiment, config_of(**{"candidates.exclude_seen": False, "model.score_terms": []})).eval()
    own = {name: value for name, value in model.state_dict().items() if not name.startswith("learned_terms")}
    bare.load_state_dict(own)
    expected, _ = ranks_of(bare, experiment.exams[TEST], experiment.candidate_items)
    np.testing.assert_array_equal(whole[f"ranks {ENCODER}"], expected)
    assert whole["item radius"].shape == (experiment.size,)
    assert whole["item radius"][0] == 0


@pytest.mark.parametrize("dim", [4, 8, 16, 32])
def test_the_variants_differ_in_one_input_of_the_state_space_only(tmp_path, dim):
    """Full reads one more coordinate. Each dimension has two heads, as the default of 64 has."""
    experiment = leave_one_out(order_data(tmp_path), 50)
    shapes = [
        {name: tuple(value.shape) for name, value in model_of(experiment, config_of(variant, dim)).state_dict().items()}
        for variant in ("full", "euclidean")
    ]
    differ = {name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name)}
    assert differ == {"blocks.0.mixer.project_in.weight"}
    (full, flat) = (each["blocks.0.mixer.project_in.weight"] for each in shapes)
    assert full == (flat[0], flat[1] + 1)
    assert shapes[0]["blocks.0.mixer.log_a"] == (2,)
