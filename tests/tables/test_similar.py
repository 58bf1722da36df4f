"""Similar items equal their definitions, computed in loops, and planted pairs come first."""

from __future__ import annotations

import geoopt.manifolds.lorentz.math as geoopt_lorentz
import numpy as np
import pyarrow as pa
import pytest
import torch

from hmamba.columns import TABLES
from hmamba.index import index as item_index
from hmamba.model import lorentz
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.tables import similar as module
from hmamba.tables.similar import Alike, Choice, Near, Together, similar_items
from hmamba.terms.attributes import Attributes
from hmamba.terms.cooccurrence import Cooccurrence
from tests.histories import histories_of, random_histories
from tests.stored import ITEMS, attributes_of, stored_model

SIZE = ITEMS + 1
IDS = pa.array([None, *(f"item {number:02d}" for number in range(1, SIZE))])
EVERY = np.arange(1, SIZE)
ELIGIBLE = np.arange(1, SIZE, 2)


def events(seed=0):
    return np.random.default_rng(seed).integers(0, 5, SIZE)


def by_definition(scores, choice, item, k):
    """The k best items of one row of a matrix of scores, NaN where there is no evidence."""
    order = [other for other in choice.items if other != item and not np.isnan(scores[item, other])]
    return sorted(order, key=lambda other: -scores[item, other])[:k]  # stable: those with more events stay first


def check(source, scores, choice, k, items=EVERY):
    rows, others, found = source.best(items, k)
    assert (np.diff(rows) >= 0).all()
    for row, item in enumerate(items):
        own = rows == row
        assert others[own].tolist() == by_definition(scores, choice, item, k), item
        np.testing.assert_allclose(found[own], scores[item, others[own]], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 4, 100])
@pytest.mark.parametrize("eligible", [EVERY, ELIGIBLE], ids=["all", "odd"])
def test_what_was_taken_together_is_the_table_of_cooccurrence(k, eligible):
    table, choice = Cooccurrence.count(random_histories(items=ITEMS), SIZE).table, Choice.of(eligible, events())
    scores = table.toarray().astype(np.float64)
    scores[scores == 0] = np.nan
    check(Together(table, choice), scores, choice, k)


@pytest.mark.parametrize("k", [1, 4, 100])
@pytest.mark.parametrize("eligible", [EVERY, ELIGIBLE], ids=["all", "odd"])
def test_what_is_alike_has_the_largest_cosine(k, eligible):
    counted = Attributes.count(random_histories(items=ITEMS), SIZE, attributes_of(SIZE))
    choice = Choice.of(eligible, events())
    dense = counted.vectors.toarray().astype(np.float64)
    scores = np.minimum(dense @ dense.T, 1.0).astype(np.float32).astype(np.float64)
    scores[scores <= 0] = np.nan
    check(Alike.of(counted.vectors, choice), scores, choice, k)


def near(stored, eligible=EVERY, known=EVERY, way="matmul", new=()):
    """The source and its choice; ``new``: those of the eligible items that are searched apart."""
    searched = CandidateItems.only(np.setdiff1d(eligible, new), SIZE)
    index = item_index.build(stored, searched, way)
    if len(new):
        index = item_index.with_new(stored, index, CandidateItems.only(np.array(new), SIZE), 0.1)
    choice = Choice.of(eligible, events())
    return Near(stored.model, known, index, choice), choice


@pytest.mark.parametrize("settings", [{}, {"variant": "half"}, {"category_levels": (1, 2), "curvature": 0.3}])
@pytest.mark.parametrize("k", [1, 4, 100])
@pytest.mark.parametrize("way", ["flat", "matmul", "float64"])
@pytest.mark.parametrize("new", [(), (3, 7, 39)], ids=["known", "new"])
def test_the_same_taste_is_the_geodesic_distance_of_another_implementation(settings, k, way, new):
    stored = stored_model(**settings)
    model = stored.model.in_float64()
    with torch.inference_mode():
        points = model.item_points(torch.arange(SIZE))
        distance = geoopt_lorentz.dist(points[:, None], points[None], k=1 / model.curvature).numpy()
    source, choice = near(stored, ELIGIBLE, way=way, new=new)
    check(source, -distance, choice, k)


def test_flat_space_has_straight_distances():
    stored = stored_model(variant="euclidean")
    with torch.inference_mode():
        points = stored.model.in_float64().item_points(torch.arange(SIZE))[:, 1:]
        distance = torch.cdist(points, points).numpy()
    source, choice = near(stored)
    check(source, -distance, choice, 5)


def test_items_without_trained_vectors_have_no_taste():
    source, _ = near(stored_model(), np.arange(1, 10), np.arange(1, 10))
    rows, others, _ = source.best(EVERY, 100)
    assert set(rows) == set(range(9))
    assert set(others) == set(range(1, 10))


def test_items_that_the_counts_do_not_know_have_no_rows():
    choice = Choice.of(EVERY, events())
    histories = random_histories(items=20)
    for source in (
        Together(Cooccurrence.count(histories, 21).table, choice),
        Alike.of(Attributes.count(histories, 21, attributes_of(21)).vectors, choice),
    ):
        rows, others, _ = source.best(EVERY, 100)
        assert rows.max() < 20
        assert others.max() <= 20


def planted():
    """Items 1 and 2, 3 and 4, ... are always taken together; items 1 and 11, 2 and 12, ... have one attribute."""
    import scipy.sparse as sp

    random = np.random.default_rng(0)
    users = [
        [(float(day), int(2 * pair + half)) for day, pair in enumerate(random.integers(0, 10, 8)) for half in (1, 2)]
        for _ in range(30)
    ]
    items = np.arange(1, 21)
    attributes = sp.csr_array((np.ones(20, np.float32), (items, (items - 1) % 10)), (21, 10))
    return histories_of(*users), attributes


def table_of(sources, k=3):
    return pa.concat_tables(list(similar_items(sources, EVERY[:20], IDS, k))).to_pandas()


def test_planted_pairs_come_first(monkeypatch):
    histories, attributes = planted()
    stored = stored_model(items=20)
    with torch.no_grad():  # of one taste: 1 and 20, 2 and 19, ...
        stored.model.tangents.weight[11:21] = stored.model.tangents.weight[1:11].flip(0) * 1.001
    choice = Choice.of(EVERY[:20], histories.item_events(21))
    index = item_index.build(stored, stored.candidate_items)
    counted = Attributes.count(histories, 21, attributes)
    sources = [
        Alike.of(counted.vectors, choice),
        Together(Cooccurrence.count(histories, 21).table, choice),
        Near(stored.model, EVERY[:20], index, choice),
    ]
    frame = table_of(sources)
    first = frame[frame["rank"] == 1].set_index(["source", "item_id"]).similar_item_id
    for number in range(1, 21):
        name = IDS[number].as_py()
        assert first["bought_together", name] == IDS[number + 1 if number % 2 else number - 1].as_py()
        assert first["alike", name] == IDS[number + 10 if number <= 10 else number - 10].as_py()
        assert first["same_taste", name] == IDS[21 - number].as_py()

    # In the order of the page for readers, and the same whatever the size of a block.
    keys = ["item_id", "source", "rank"]
    assert frame[keys].equals(frame[keys].sort_values(keys, ignore_index=True))
    assert (frame["rank"] == frame.groupby(["item_id", "source"]).cumcount() + 1).all()
    assert set(frame.columns) == TABLES["similar_items"].keys()
    monkeypatch.setattr(module, "_ROWS", 3)
    assert table_of(sources).equals(frame)


def test_a_search_that_misses_no_near_items_by_rounding():
    """Items so near that float32 cannot tell them apart are ordered by float64."""
    stored = stored_model()
    with torch.no_grad():
        base = stored.model.tangents.weight[1].clone()
        for number in range(1, 13):
            stored.model.tangents.weight[number] = base * (1 + 1e-6 * number)
    source, choice = near(stored)
    model = stored.model.in_float64()
    with torch.inference_mode():
        points = model.item_points(torch.arange(SIZE))
        gap = -2 / model.curvature - 2 * lorentz.inner(points[:, None], points[None])
        distance = lorentz.distance_from_gap(gap, K=1 / model.curvature).numpy()
    check(source, -distance, choice, 5)


def test_of_equal_items_the_more_popular_comes_first():
    vectors = Attributes.count(*equal_items()).vectors
    counts = np.zeros(11, dtype=np.int64)
    counts[[3, 7]] = 5, 9
    rows, others, _ = Alike.of(vectors, Choice.of(np.arange(1, 11), counts)).best(np.array([1, 7]), 3)
    assert others[rows == 0].tolist() == [7, 3, 2]
    assert others[rows == 1].tolist() == [3, 1, 2]


def equal_items():
    """A hundred items, ten of which have one and the same attribute."""
    import scipy.sparse as sp

    histories = histories_of([(float(item), item) for item in range(1, 101)])
    return histories, 101, sp.csr_array((np.ones(10, np.float32), (np.arange(1, 11), np.zeros(10, int))), (101, 1))
