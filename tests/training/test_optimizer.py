"""Groups of parameters, steps on some rows, and the common norm of dense and sparse gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hmamba.model.hmamba import HMamba
from hmamba.training.optimizer import RowAdamW, clip_gradients, make_optimizer
from tests.training.trainings import settings


@pytest.mark.parametrize("terms", [[], ["repeats"]])
def test_every_parameter_is_trained_once_and_only_matrices_decay(terms):
    config = settings(model={"score_terms": terms}, train={"weight_decay": 0.3, "learning_rate": 0.02})
    model = HMamba(config.model, 12)
    groups = make_optimizer(model, config).param_groups
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
    for group in groups:
        assert group["weight_decay"] == (0.3 if group["params"] and group["params"][0].ndim > 1 else 0.0)
        assert group["lr"] == 0.02
        assert len({parameter.ndim > 1 for parameter in group["params"]}) <= 1
    fast = {id(parameter) for group in groups if group["factor"] == 10 for parameter in group["params"]}
    assert fast == ({id(model.learned_term.mixture), id(model.learned_term.gate)} if terms else set())


def two_steps(gradients, *, sparse):
    """The weights after steps with these (rows, values) as gradients."""
    parameter = nn.Parameter(torch.arange(12.0).view(4, 3))
    optimizer = RowAdamW([parameter], lr=0.1, betas=(0.9, 0.98), weight_decay=0.1)
    for rows, values in gradients:
        gradient = torch.sparse_coo_tensor(torch.tensor([rows]), values, (4, 3))
        parameter.grad = gradient if sparse else gradient.to_dense()
        optimizer.step()
        assert not sparse or parameter.grad is None
    return parameter.detach()


def test_a_step_on_all_rows_is_that_of_adamw():
    values = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    gradients = [(list(range(4)), part) for part in values]
    torch.testing.assert_close(two_steps(gradients, sparse=True), two_steps(gradients, sparse=False))


def test_other_rows_neither_move_nor_decay():
    moved = two_steps([([1, 3], torch.ones(2, 3)), ([3], torch.ones(1, 3))], sparse=True)
    before = torch.arange(12.0).view(4, 3)
    assert torch.equal(moved[[0, 2]], before[[0, 2]])
    assert (moved[[1, 3]] < before[[1, 3]]).all()


def test_a_row_that_is_given_twice_gets_the_sum_of_both():
    twice = two_steps([([2, 2], torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, -1.0]]))], sparse=True)
    torch.testing.assert_close(twice, two_steps([([2], torch.tensor([[4.0, 0.0, 1.0]]))], sparse=True))


@pytest.mark.parametrize(("largest", "scale"), [(2.5, 0.5), (5.0, 1.0), (50.0, 1.0)])
def test_dense_and_sparse_gradients_have_one_norm(largest, scale):
    dense, sparse, without = (nn.Parameter(torch.zeros(2, 2)) for _ in range(3))
    dense.grad = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    # Two parts of one row count as their sum.
    sparse.grad = torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.tensor([[0.0, 1.0], [0.0, 3.0]]), (2, 2))
    clip_gradients([dense, sparse, without], largest)
    assert dense.grad[0, 0].item() == pytest.approx(3 * scale, rel=1e-5)
    assert sparse.grad.to_dense()[1, 1].item() == pytest.approx(4 * scale, rel=1e-5)
    assert without.grad is None
