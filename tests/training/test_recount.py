"""A recount replaces the counts of a model and changes no trained weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hmamba.contracts.contents import Contents
from hmamba.model.hmamba import HMamba
from hmamba.models import files as model_files
from hmamba.storage.layout import Layout
from hmamba.terms.cooccurrence import Cooccurrence
from hmamba.training.recount import Counts, recount
from tests.histories import random_histories, randomly_valued
from tests.stored import ITEMS, stored_model

SIZE = ITEMS + 1


def with_counts(stored, histories):
    """A model that was initialised with these events and whose bias was then trained."""
    events, users = (torch.from_numpy(part) for part in (histories.item_events(SIZE), histories.item_users(SIZE)))
    stored.model.start_from_counts(events, users)
    with torch.no_grad():
        if stored.model.bias is not None:
            stored.model.bias.add_(torch.linspace(-1, 1, SIZE))
    return stored


def log_share(events):
    return np.log((events + 1) / (events.sum() + len(events)))


def test_the_bias_moves_by_the_difference_of_its_priors():
    early, late = random_histories(items=ITEMS), randomly_valued(random_histories(users=90, items=ITEMS, seed=1))
    stored = with_counts(stored_model(), early)
    recount(stored, Counts.of(late, SIZE, []))
    expected = log_share(late.item_events(SIZE)) + np.linspace(-1, 1, SIZE)
    np.testing.assert_allclose(stored.model.bias.detach(), expected, rtol=1e-4, atol=1e-5)
    recount(stored, Counts.of(early, SIZE, []))
    again = with_counts(stored_model(), early)
    torch.testing.assert_close(stored.model.bias, again.model.bias)


def test_a_bias_with_an_unknown_prior_is_not_changed():
    stored = stored_model()  # random weights, and no prior
    before = stored.model.bias.clone()
    for seed in (0, 1):
        recount(stored, Counts.of(random_histories(items=ITEMS, seed=seed), SIZE, []))
        assert torch.equal(stored.model.bias, before)
    linear = stored_model(score="linear")
    recount(linear, Counts.of(random_histories(items=ITEMS), SIZE, []))
    assert linear.model.bias is linear.model.prior is None


def test_repeat_counts_equal_those_of_a_new_model():
    late = randomly_valued(random_histories(users=90, items=ITEMS, seed=1))
    stored = with_counts(stored_model(score_terms=("repeats",)), random_histories(items=ITEMS))
    before = {name: value.clone() for name, value in stored.model.state_dict().items()}
    recount(stored, Counts.of(late, SIZE, []))
    expected = with_counts(stored_model(score_terms=("repeats",)), late).model
    torch.testing.assert_close(stored.model.learned_term.item_counts, expected.learned_term.item_counts)
    changed = {name for name, value in stored.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"learned_terms.repeats.item_counts", "bias", "prior"}


def test_counted_terms_are_recounted_and_keep_their_weights():
    stored, late = stored_model(score_terms=("cooccurrence",)), random_histories(users=90, items=ITEMS, seed=1)
    (before,) = stored.model.counted_terms
    recount(stored, Counts.of(late, SIZE, [stored_model().model, stored.model]))
    (after,) = stored.model.counted_terms
    assert (after.term.table != Cooccurrence.count(late, SIZE).table).nnz == 0
    assert (after.term.table != before.term.table).nnz > 0
    assert after.weights == before.weights == {"new": 1.6, "seen": 0.4}
    assert Counts.of(late, SIZE, [stored_model().model]).terms == {}


@pytest.mark.parametrize("kind", [{"score_terms": ("repeats",)}, {"score_terms": ("cooccurrence",)}])
def test_a_model_with_fewer_items_than_were_counted(kind):
    """Tonight's new items stay unknown to yesterday's champion, and their events do not count in its shares."""
    late = random_histories(users=90, items=ITEMS + 7, seed=1)
    stored = with_counts(stored_model(**kind), random_histories(items=ITEMS))
    shapes = {name: value.shape for name, value in stored.model.state_dict().items()}
    counts = Counts.of(late, SIZE + 7, [stored.model])
    recount(stored, counts)
    assert {name: value.shape for name, value in stored.model.state_dict().items()} == shapes
    known = log_share(late.item_events(SIZE + 7)[:SIZE])
    np.testing.assert_allclose(stored.model.prior, known, rtol=1e-5)
    for term in stored.model.counted_terms:
        assert (term.term.table != counts.terms["cooccurrence"].table[:SIZE, :SIZE]).nnz == 0


def test_fewer_items_may_be_counted_than_the_model_has():
    stored = with_counts(stored_model(), random_histories(items=ITEMS))
    recount(stored, Counts(np.array([0, 5, 2]), np.array([0, 3, 2]), {}))
    np.testing.assert_allclose(stored.model.prior, log_share(np.r_[0, 5, 2, np.zeros(SIZE - 3)]), rtol=1e-5)


@pytest.mark.parametrize("kind", [{}, {"score_terms": ("repeats",)}, {"score": "linear"}])
def test_versions_without_a_stored_prior_load_and_keep_their_bias(tmp_path, kind):
    layout, stored = Layout.at(tmp_path), with_counts(stored_model(**kind), random_histories(items=ITEMS))
    version = model_files.save(layout, stored.model, stored.provenance, stored.candidate_items, stored.item_ids)
    path = layout.model(version) / "model.safetensors"
    weights = load_file(path)
    assert ("prior" in weights) == (kind.get("score") != "linear")
    save_file({name: value for name, value in weights.items() if name != "prior"}, path)
    Contents.of(path.parent).write(path.parent / "contents.json")
    again = model_files.load(layout, version, torch.device("cpu"))
    recount(again, Counts.of(random_histories(users=90, items=ITEMS, seed=1), SIZE, []))
    if stored.model.bias is not None:
        assert torch.equal(again.model.bias, stored.model.bias)


def test_a_child_starts_from_tonights_counts_and_its_parents_weights():
    """Otherwise training would learn the drift of popularity, and the recount would add it a second time."""
    early, late = random_histories(items=ITEMS), random_histories(users=90, items=ITEMS + 5, seed=1)
    parent = with_counts(stored_model(), early)
    counts = [torch.from_numpy(part) for part in (late.item_events(SIZE + 5), late.item_users(SIZE + 5))]
    child = HMamba(parent.model.config, ITEMS + 5)
    assert child.start_from(parent.model, *counts) == 5
    share = log_share(late.item_events(SIZE + 5))
    learnt = np.r_[np.linspace(-1, 1, SIZE), np.zeros(5)]
    for _ in range(2):  # a recount of the same events changes nothing
        np.testing.assert_allclose(child.bias.detach(), share + learnt, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(child.prior, share, rtol=1e-4, atol=1e-5)
        recount(replace(stored_model(items=ITEMS + 5), model=child), Counts.of(late, SIZE + 5, []))
