"""Hidden states after the last event equal the encoder's output at that position."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmamba.inference import encode
from hmamba.inference.encode import alike, encode_users
from tests.histories import histories_of, random_histories
from tests.stored import ITEMS, stored_model

KINDS = [{"score": "squared"}, {"variant": "half"}, {"variant": "euclidean"}, {"norm": "post"}, {"layers": 2}]


def expected(model, histories):
    """The last output of the encoder, computed one user at a time."""
    hidden = torch.zeros(len(histories), model.config.dim)
    with torch.inference_mode():
        for user, items in enumerate(np.split(histories.items, histories.offsets[1:-1])):
            if len(items):
                hidden[user] = model.encode(torch.from_numpy(items)[None])[0, -1]
    return hidden


@pytest.fixture
def histories():
    """Users with 0 to 40 events."""
    return histories_of([], *([(float(day), 1 + (7 * day + n) % ITEMS) for day in range(n)] for n in range(41)), [])


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_the_encoders_last_outputs(kind, histories):
    model = stored_model(**kind).model
    torch.testing.assert_close(encode_users(model, histories), expected(model, histories), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_long_histories_in_pieces_and_large_catalogues_without_a_table(kind, histories, monkeypatch):
    model = stored_model(**kind).model
    right = expected(model, histories)
    monkeypatch.setattr(encode, "LONGEST", 7)
    monkeypatch.setattr(encode, "_TABLE_ITEMS", 3)
    torch.testing.assert_close(encode_users(model, histories), right, atol=2e-5, rtol=2e-5)


def test_long_and_short_histories_are_equally_exact():
    """Step sizes vary over thousands of events: old events decay to nothing, new ones do not."""
    model = stored_model().model
    with torch.no_grad():
        model.blocks[0].mixer.dt_bias.copy_(torch.linspace(-6, 3, len(model.blocks[0].mixer.dt_bias)))
    histories = random_histories(users=3, items=ITEMS, events=9_000, baskets=False)
    torch.testing.assert_close(encode_users(model, histories), expected(model, histories), atol=1e-4, rtol=1e-4)


def test_groups_hold_every_user_once_with_little_padding():
    random = np.random.default_rng(0)
    lengths = np.concatenate([random.geometric(0.02, 3_000), [0, 0, 50_000]])
    groups = list(alike(lengths, 4_096))
    assert sorted(np.concatenate(groups).tolist()) == np.flatnonzero(lengths).tolist()
    padded = [len(group) * lengths[group].max() for group in groups]
    assert sum(padded) < 1.05 * lengths.sum()
    assert all(tokens <= 4_096 or len(group) == 1 for tokens, group in zip(padded, groups, strict=True))


def test_no_users_and_no_events():
    model = stored_model().model
    assert encode_users(model, histories_of([], [])).shape == (2, model.config.dim)


@pytest.mark.parametrize("kind", [{}, {"layers": 2}])
def test_groups_of_users_on_several_threads_give_the_same_states_in_the_same_order(kind, monkeypatch):
    """Only projections of the whole catalogue are computed by all threads together, and may differ in the last bits."""
    model = stored_model(**kind).model
    histories = random_histories(users=300, items=ITEMS, events=60, baskets=False)
    monkeypatch.setattr(encode, "GROUP_TOKENS", 512)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3, 3):
            torch.set_num_threads(threads)
            kept: list = []
            hidden = encode_users(model, histories, lambda *group, kept=kept: kept.append(group))
            found.append((hidden, kept))
    finally:
        torch.set_num_threads(before)
    assert len(found[0][1]) > 10 * 3
    for (hidden, kept), (expected_hidden, expected_kept), exact in ((*found[:2], False), (*found[1:], True)):
        bounds = {"atol": 0.0 if exact else 2e-5, "rtol": 0.0 if exact else 2e-5}
        torch.testing.assert_close(hidden, expected_hidden, **bounds)
        for (users, states), (expected_users, expected_states) in zip(kept, expected_kept, strict=True):
            assert np.array_equal(users, expected_users)
            torch.testing.assert_close([*map(tuple, states)], [*map(tuple, expected_states)], **bounds)
