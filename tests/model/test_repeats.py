"""The learned rates of repeat consumption. Its features are in tests/terms/test_repeats.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmamba.config import ModelConfig
from hmamba.model.repeats import Repeats, log_share
from hmamba.sequences.candidate_items import CandidateItems
from tests.histories import histories_of, random_histories

ITEMS = 20
ALL = CandidateItems.of(np.ones(ITEMS + 1, dtype=np.int64), 1)


@pytest.fixture
def term():
    torch.manual_seed(0)
    return Repeats.of(ModelConfig(dim=8, head_dim=8, d_state=4), ITEMS)


def test_untrained_rates_do_not_depend_on_the_user_or_the_network(term):
    entries = term.entries(random_histories(items=ITEMS), ALL)
    rows = int(entries.rows.max()) + 1
    rates = [term.log_rates(hidden, entries) for hidden in (torch.zeros(rows, 8), torch.randn(rows, 8))]
    assert torch.equal(rates[0], rates[1])
    expected = np.log(entries.shares.mean(axis=1) + 1e-12)  # equal shares of all time scales
    np.testing.assert_allclose(rates[0].detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_the_gate_the_mixture_and_the_hidden_state_change_the_rates(term):
    entries = term.entries(random_histories(items=ITEMS), ALL)
    hidden = torch.randn(int(entries.rows.max()) + 1, 8)
    before = term.log_rates(hidden, entries).detach()
    with torch.no_grad():
        term.gate.fill_(2.0)
    torch.testing.assert_close(term.log_rates(hidden, entries).detach(), before + 2)
    with torch.no_grad():
        term.mixture[0] = 50.0  # only the first time scale is left
    expected = np.log(entries.shares[:, 0] + 1e-12) + 2
    np.testing.assert_allclose(term.log_rates(hidden, entries).detach().numpy(), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        term.from_hidden.weight[0].normal_()
    gates = (hidden @ term.from_hidden.weight[0])[torch.from_numpy(entries.rows)].detach()
    np.testing.assert_allclose(
        term.log_rates(hidden, entries).detach().numpy(), expected + gates.numpy(), rtol=1e-4, atol=1e-4
    )


def test_a_score_is_raised_by_the_rate_and_never_lowered(term):
    entries = term.entries(random_histories(items=ITEMS), ALL)
    hidden = torch.randn(int(entries.rows.max()) + 1, 8)
    base = torch.randn(len(entries.rows)) * 5
    combined, rates = term.combine(base, entries, hidden), term.log_rates(hidden, entries)
    torch.testing.assert_close(combined.exp(), base.exp() + rates.exp())
    assert (combined >= base).all()


def test_entries_are_the_items_of_the_own_history_among_the_candidate_items(term):
    histories = histories_of([(0, 3), (1, 5), (2, 3)], [], [(0, 7)])
    some = CandidateItems.of(np.isin(np.arange(ITEMS + 1), [3, 7]).astype(np.int64), 1)
    entries = term.entries(histories, some)
    assert (entries.rows.tolist(), some.eligible[entries.columns].tolist()) == ([0, 2], [3, 7])
    before = term.entries_before(histories, ALL, np.array([0, 0]), np.array([1, 2]))
    assert (before.rows.tolist(), ALL.eligible[before.columns].tolist()) == ([0, 1, 1], [3, 3, 5])
    assert term.entry_counts(histories, np.array([0, 0]), np.array([1, 3])).tolist() == [1, 2]


def test_counts_of_items_are_logs_of_shares_and_of_events_a_user(term):
    events, users = torch.tensor([0.0] + [4.0] * ITEMS), torch.tensor([0.0] + [1.0] * ITEMS)
    term.recount(events, users)
    total = 4 * ITEMS + ITEMS + 1
    assert term.item_counts[1].tolist() == pytest.approx([np.log(5 / total), np.log(5 / 2)], rel=1e-5)
    assert log_share(events).exp().sum().item() == pytest.approx(1.0, rel=1e-5)


def test_scalars_are_trained_faster(term):
    assert {id(parameter) for parameter in term.fast_parameters()} == {id(term.mixture), id(term.gate)}
