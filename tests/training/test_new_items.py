"""Which items are new, and how a model learns of those that its training did not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import scipy.sparse as sp
import torch

from hmamba.evaluation.ranking import rank_all
from hmamba.models import files as model_files
from hmamba.ranker import Ranker
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.categories import Categories
from hmamba.storage.layout import Layout
from hmamba.training.new_items import described_without_events, with_new_items
from hmamba.training.recount import Counts, recount
from tests.histories import random_histories
from tests.stored import ITEMS, stored_model

SIZE, MORE = ITEMS + 1, ITEMS + 5
IDS = pa.array([None, *(f"item {number}" for number in range(1, MORE))])
PATHS = [["a", f"b{item % 3}"] for item in range(1, SIZE)] + [["a", "b0"], ["x"], [], ["a", "b0"]]
"""The categories of the items that the model knows, and of four more: known, unknown, none, known."""


def categories(items: int) -> Categories:
    paths = pa.array(PATHS[: items - 1], pa.list_(pa.string()))
    return Categories(paths, np.arange(1, items), items)


def attributes(items: int) -> sp.csr_array:
    """One attribute for each first level; the third new item has none."""
    found = np.zeros((items, 2), dtype=np.float32)
    for item, path in enumerate(PATHS[: items - 1], start=1):
        if path:
            found[item, int(path[0] == "x")] = 1
    return sp.csr_array(found)


def trained(**settings):
    """A model with category vectors, biases and a prior, as after training; item 7 had no event."""
    histories = random_histories(items=ITEMS)
    histories = histories.keep(histories.items != 7)
    eligible = [item for item in range(1, SIZE) if item != 7]
    stored = stored_model(eligible=eligible, category_levels=(1, 2), category_vectors=True, **settings)
    model, groups = stored.model, torch.from_numpy(categories(SIZE).numbers((1, 2)))
    events, users = (torch.from_numpy(part) for part in (histories.item_events(SIZE), histories.item_users(SIZE)))
    model.start_from_counts(events, users, groups)
    with torch.no_grad():
        model.shared.weight.normal_(std=0.1)
        model.shared.weight[0] = 0
        model.bias.add_(torch.linspace(-1, 1, SIZE))
    model.forget_items(torch.tensor([7]))
    return replace(stored, new_items=np.array([7])), histories


def counts_of(stored, histories):
    return Counts.of(histories, MORE, [stored.model], attributes(MORE))


def test_new_items_have_attributes_and_no_event():
    assert described_without_events(attributes(MORE), np.array([0] * 7 + [0] + [1] * (MORE - 8))).tolist() == [
        1, 2, 3, 4, 5, 6, 7,
    ]  # fmt: skip
    assert described_without_events(None, np.zeros(MORE, np.int64)).tolist() == []


def test_a_model_learns_of_items_that_share_a_category_with_one_that_it_knows():
    stored, histories = trained()
    before, _ = rank_all(stored.model, histories, stored.candidate_items, k=ITEMS, exclude_seen=False)
    points = stored.model.item_points(torch.arange(SIZE)).clone()
    counts = counts_of(stored, histories)
    stored.model.ranker = Ranker("trees", 10)
    grown = with_new_items(stored, IDS, counts, categories(MORE), attributes(MORE))
    assert grown.model.ranker is stored.model.ranker
    stored.model.ranker = grown.model.ranker = None
    assert grown.new_items.tolist() == [7, SIZE, SIZE + 3]  # not those of an unknown category, or of none
    assert grown.item_ids.to_pylist() == [*IDS.to_pylist()[: SIZE + 1], None, None, IDS[SIZE + 3].as_py()]
    assert grown.candidate_items.eligible.tolist() == stored.candidate_items.eligible.tolist()
    torch.testing.assert_close(grown.model.item_points(torch.arange(SIZE)), points)
    after, _ = rank_all(grown.model, histories, grown.candidate_items, k=ITEMS, exclude_seen=False)
    np.testing.assert_array_equal(after, before)
    new = torch.tensor([SIZE, SIZE + 3])
    assert not grown.model.tangents.weight[new].any()
    share = np.log(1 / (counts.events.sum() + MORE))
    np.testing.assert_allclose(grown.model.bias[new].detach(), [share, share], rtol=1e-5)
    alike = grown.model.item_points(torch.tensor([SIZE, SIZE + 3]))
    torch.testing.assert_close(alike[0], alike[1])
    assert alike[0, 1:].norm() > 0


def test_without_attributes_a_model_stays_as_it_is():
    stored, histories = trained()
    plain = replace(stored, new_items=np.zeros(0, np.int64))
    assert with_new_items(plain, IDS, counts_of(stored, histories), categories(MORE), None) is plain
    bare = stored_model()
    assert with_new_items(bare, IDS, counts_of(bare, histories), categories(MORE), attributes(MORE)) is bare


def test_a_version_from_before_there_were_new_items_learns_of_them(tmp_path):
    """Its items without training events have random tangents: they stay out until the next training."""
    layout = Layout.at(tmp_path)
    stored, histories = trained()
    version = model_files.save(layout, stored.model, stored.provenance, stored.candidate_items, stored.item_ids)
    old = model_files.load(layout, version, torch.device("cpu"))
    assert old.new_items.tolist() == []
    grown = with_new_items(old, IDS, counts_of(old, histories), categories(MORE), attributes(MORE))
    assert grown.new_items.tolist() == [SIZE, SIZE + 3]
    model_files.save(
        layout, stored.model, stored.provenance, stored.candidate_items, stored.item_ids, None, np.array([7])
    )
    assert model_files.load(layout, version, torch.device("cpu")).new_items.tolist() == [7]
    run = layout.run(stored.provenance.day, "one")
    model_files.save_serving(run, grown)
    again = model_files.load_serving(run, version, torch.device("cpu"))
    assert again.new_items.tolist() == grown.new_items.tolist()
    torch.testing.assert_close(
        again.model.item_vectors(torch.arange(MORE)), grown.model.item_vectors(torch.arange(MORE))
    )


@pytest.mark.parametrize("terms", [("attributes",), ("repeats", "cooccurrence", "attributes")])
def test_terms_are_counted_for_new_items(terms):
    stored, histories = trained(score_terms=terms)
    grown = with_new_items(stored, IDS, counts_of(stored, histories), categories(MORE), attributes(MORE))
    recount(grown, counts_of(stored, histories))
    items = CandidateItems.only(grown.new_items, MORE)
    _, scores = rank_all(grown.model, histories, items, k=3, exclude_seen=False)
    assert np.isfinite(scores).all()
