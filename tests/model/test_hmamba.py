"""The encoder, the scores and the features of repeat consumption."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
import torch

from hmamba.config import ModelConfig
from hmamba.errors import ConfigError
from hmamba.model import lorentz
from hmamba.model.hmamba import HMamba
from hmamba.model.kernels import choose
from hmamba.model.scores import Score
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, midnight
from hmamba.terms.repeats import TIME_SCALES, RepeatFeatures

SMALL = {"dim": 8, "d_state": 4, "head_dim": 8, "chunk": 4, "dropout": 0.0, "score_terms": ()}
KINDS = [
    {"score": "squared"},
    {"score": "linear"},
    {"score": "paper"},
    {"variant": "half"},
    {"variant": "euclidean"},
    {"norm": "post"},
    {"layers": 2},
]


def model(items=20, **settings):
    torch.manual_seed(0)
    return HMamba(ModelConfig(**{**SMALL, **settings}), items)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_users_are_encoded_as_if_alone(kind):
    net = model(**kind).eval()
    lengths = [1, 9, 3]
    items = torch.randint(1, 20, (sum(lengths),))
    segments = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    packed = net.encode(items[None], segments[None])[0]
    alone = torch.cat([net.encode(part[None])[0] for part in items.split(lengths)])
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_past_does_not_depend_on_the_future(kind):
    net = model(**kind).eval()
    items = torch.randint(1, 20, (1, 12))
    changed = items.clone()
    changed[0, 7:] = torch.randint(1, 20, (5,))
    torch.testing.assert_close(net.encode(items)[:, :7], net.encode(changed)[:, :7])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [[5, 7], [1, 1, 1, 9], [2, 0, 10], [12]])
def test_encoding_in_parts_equals_encoding_the_whole(kind, cuts):
    net = model(**kind).eval().double()
    items = torch.randint(1, 20, (3, 12))
    states, parts = net.start(3), []
    for part in items.split(cuts, dim=1):
        hidden, states = net.advance(part, states)
        parts.append(hidden)
    torch.testing.assert_close(torch.cat(parts, dim=1), net.encode(items), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_users_with_different_numbers_of_new_events_advance_together(kind):
    net = model(**kind).eval().double()
    before, new = torch.randint(1, 20, (4, 6)), torch.randint(1, 20, (4, 5))
    lengths = torch.tensor([5, 0, 2, 1])
    _, states = net.advance(before, net.start(4))
    _, states = net.advance(new, states, lengths)
    last = torch.randint(1, 20, (4, 1))
    together, _ = net.advance(last, states)
    for row, length in enumerate(lengths):
        whole = torch.cat([before[row], new[row, :length], last[row]])
        torch.testing.assert_close(together[row, 0], net.encode(whole[None])[0, -1], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_inner_products_give_the_score_of_its_definition(kind):
    """Logits from vectors equal the score computed from points, so an inner-product index ranks exactly."""
    net = model(**kind).double()
    with torch.no_grad():
        net.tangents.weight.normal_()
        if net.bias is not None:
            net.bias.normal_()
    hidden, index = torch.randn(5, 8, dtype=torch.float64), torch.arange(1, 20)
    score = net.score()
    logits = score.logits(net.query_vectors(hidden) @ net.item_vectors(index).T)
    u, v, K = net.user_points(hidden)[:, None], net.item_points(index)[None], 1 / net.curvature
    distance = lorentz.distance_from_gap(lorentz.inner(u - v, u - v), K=K)
    expected = {
        "inner": 2 * net.log_scale.exp() * (u[..., 1:] * v[..., 1:]).sum(-1),
        "euclidean": net.log_scale.exp() * (u[..., 1:].square().sum(-1) - (u - v)[..., 1:].square().sum(-1)),
        "squared": -net.log_scale.exp() * lorentz.inner(u - v, u - v),
        "linear": -net.log_scale.exp() * distance,
        "paper": -2 * K.sqrt() * torch.acosh(-lorentz.inner(u, v) / K),
    }[score.kind]
    if net.bias is not None and score.kind in ("inner", "squared", "euclidean"):
        expected = expected + net.bias[index]
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["squared", "linear", "paper"])
def test_far_items_still_get_a_gradient(kind):
    K = torch.tensor(1.0, dtype=torch.float64)
    v = torch.full((1, 3), 2.8, dtype=torch.float64, requires_grad=True)
    u = -torch.full((1, 3), 2.8, dtype=torch.float64)
    score = Score(kind, K, torch.tensor(1.0, dtype=torch.float64))
    query = score.queries(lorentz.exp0(u, K=K))
    score.logits(query @ score.items(lorentz.exp0(v, K=K), None).T).sum().backward()
    assert v.grad.abs().min() > 0.1


def test_curvature_reaches_the_state_space_of_full_and_not_of_half():
    for variant, reaches in (("full", True), ("half", False)):
        mixer = model(variant=variant).blocks[0].mixer
        flat, curved = mixer.decay(torch.tensor(0.01)), mixer.decay(torch.tensor(1.0))
        assert bool(flat[0] != curved[0]) is reaches
        assert torch.equal(flat[1:], curved[1:])
        if reaches:
            torch.testing.assert_close(flat[0], curved[0] * 0.1)


def test_learnt_curvature_has_a_gradient_and_stays_in_its_range():
    net = model()
    net.encode(torch.tensor([[1, 2, 3]])).square()[..., 0].sum().backward()
    assert net.log_curvature.grad.abs() > 0
    for extreme in (-1e6, 1e6):
        with torch.no_grad():
            net.log_curvature.fill_(extreme)
        assert 0.0999 < net.curvature.item() / net.config.curvature < 10.001
    assert not model(learn_curvature=False).log_curvature.requires_grad


def test_points_stay_within_their_bound_for_any_parameters():
    net = model()
    with torch.no_grad():
        net.tangents.weight.mul_(1e6)
    K = 1 / net.curvature
    points = net.item_points(torch.arange(len(net.tangents.weight)))
    assert lorentz.distance0(points, K=K).max() <= net.config.max_norm * K.sqrt() * 1.001


def test_start_from_copies_the_parent_and_adds_rows():
    parent, child = (model(items=items, score_terms=("repeats",)) for items in (10, 14))
    events = torch.arange(15)
    assert child.start_from(parent, events, events) == 4
    torch.testing.assert_close(child.tangents.weight[:11], parent.tangents.weight)
    torch.testing.assert_close(child.blocks[0].widen.weight, parent.blocks[0].widen.weight)
    torch.testing.assert_close(child.learned_term.widen.weight, parent.learned_term.widen.weight)
    assert child.tangents.weight[11:].abs().min() > 0


def test_a_model_with_category_levels_needs_tonights_categories():
    settings = {"score_terms": ("repeats",), "category_levels": (1, 2)}
    parent, child = model(items=10, **settings), model(items=10, **settings)
    events, own, parents = torch.arange(11), torch.arange(22).view(2, 11) // 3, torch.arange(22).view(2, 11) // 4
    parent.start_from_counts(events, events, parents)
    child.start_from(parent, events, events, own)
    np.testing.assert_array_equal(child.learned_term.categories, own)
    np.testing.assert_array_equal(parent.learned_term.categories, parents)
    with pytest.raises(ValueError, match="no categories are given"):
        child.start_from_counts(events, events)


VECTORS = {"category_levels": (1, 2), "category_vectors": True}


def test_an_items_vector_includes_those_of_its_shared_categories():
    net = model(items=5, **VECTORS)
    category = torch.tensor([[0, 1, 1, 2, 2, 3], [0, 1, 1, 2, 3, 4]])  # 5 is alone, and 3 and 4 are on the second level
    net.start_from_counts(torch.ones(6), torch.ones(6), category)
    items = torch.arange(6)
    torch.testing.assert_close(net.item_points(items), model(items=5).item_points(items))
    assert net.shared.weight.shape == (4, SMALL["dim"])
    with torch.no_grad():
        net.shared.weight[1:] = torch.tensor([1.0, 10.0, 100.0])[:, None]
    added = (net._item_tangents(items) / SMALL["dim"] ** 0.5 - net.tangents.weight)[:, 0]
    torch.testing.assert_close(added, torch.tensor([0.0, 101.0, 101.0, 10.0, 10.0, 0.0]))
    net.item_points(items)[1].sum().backward()
    assert (net.shared.weight.grad.abs().sum(1) > 0).tolist() == [False, True, False, True]


def test_a_new_item_starts_at_the_vectors_of_its_categories():
    parent, child = model(items=4, **VECTORS), model(items=6, **VECTORS)
    parent.start_from_counts(torch.ones(5), torch.ones(5), torch.tensor([[0, 1, 1, 2, 2], [0, 1, 1, 2, 3]]))
    with torch.no_grad():
        parent.shared.weight[1:] = torch.tensor([1.0, 10.0, 100.0])[:, None]
    # The categories have new numbers. Item 5 is in the categories of 1 and 2; 6 and 4 form one new to the parent.
    category = torch.tensor([[5, 4, 4, 3, 3, 4, 3], [6, 0, 0, 1, 2, 0, 2]])
    assert child.start_from(parent, torch.ones(7), torch.ones(7), category) == 2
    added = (child._item_tangents(torch.arange(7)) / SMALL["dim"] ** 0.5 - child.tangents.weight)[:, 0]
    torch.testing.assert_close(added, torch.tensor([0.0, 101.0, 101.0, 10.0, 10.0, 101.0, 10.0]))
    torch.testing.assert_close(child.item_points(torch.arange(5)), parent.item_points(torch.arange(5)))


def test_fused_kernels_are_refused_with_an_instruction_where_they_cannot_run():
    with pytest.raises(ConfigError, match=r"'fused'.*CPU"):
        choose("fused", torch.device("cpu"))


def test_repeat_features_read_only_the_past_and_shares_sum_to_one():
    day = 86_400_000_000
    start = midnight(date(2024, 1, 1))
    histories = Histories(
        pa.array(["a", "b"]),
        np.array([0, 4, 6]),
        np.array([1, 2, 1, 3, 2, 2]),
        start + np.array([0, 1, 2, 50, 0, 4]) * day,
    )
    candidate_items = CandidateItems.of(np.array([0, 5, 5, 5]), 1)
    repeats = RepeatFeatures.before(histories, candidate_items, np.array([0, 0, 1]), np.array([3, 4, 6]))
    assert repeats.rows.tolist() == [0, 0, 1, 1, 1, 2]
    assert repeats.columns.tolist() == [0, 1, 0, 1, 2, 1]
    assert np.allclose(np.add.reduceat(repeats.shares, [0, 2, 5]), 1, atol=1e-6)
    weights = np.exp(-np.array([2, 1, 0]) / TIME_SCALES[0])
    assert repeats.shares[0, 0] == pytest.approx((weights[0] + weights[2]) / weights.sum(), rel=1e-5)


def test_shares_do_not_depend_on_the_date_or_on_a_very_old_event():
    times = np.array([0, 20_000, 20_003]) * 86_400_000_000  # 1970, when everything has decayed to nothing, and 2024
    candidate_items = CandidateItems.of(np.array([0, 5, 5]), 1)
    whole = Histories(pa.array(["a"]), np.array([0, 3]), np.array([1, 2, 1]), times)
    later = Histories(whole.users, whole.offsets, whole.items, times + 10**15)
    shares = [
        RepeatFeatures.before(part, candidate_items, np.array([0]), np.array([3])).shares for part in (whole, later)
    ]
    assert np.array_equal(*shares)
    ratio = np.exp(-3 / np.array(TIME_SCALES))
    np.testing.assert_allclose(shares[0], [1 / (1 + ratio), ratio / (1 + ratio)], rtol=1e-6)
    first = RepeatFeatures.before(whole, candidate_items, np.array([0, 0]), np.array([1, 0]))
    assert (first.rows.tolist(), first.shares.tolist()) == ([0], [[1.0] * len(TIME_SCALES)])


def test_a_new_item_starts_beside_zero_when_it_is_trained():
    parent, child = (HMamba(ModelConfig(dim=8, head_dim=8), 4) for _ in range(2))
    counts = torch.ones(5)
    parent.start_from_counts(counts, counts)
    parent.forget_items(torch.tensor([3]))
    child.start_from(parent, counts, counts)
    assert child.tangents.weight[3].abs().max() > 0
    assert torch.equal(child.tangents.weight[[0, 1, 2, 4]], parent.tangents.weight[[0, 1, 2, 4]])
