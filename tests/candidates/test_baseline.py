"""A baseline's table is held to the rules of every table, and ranks as the baseline that the gate measures."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.candidates.baseline import Baseline, write_eligible
from hmamba.candidates.score import POINTS, write_candidates
from hmamba.evaluation.baselines import most_bought, popular
from hmamba.index.index import restrict
from hmamba.quality.candidates import CandidateFiles, ShardFiles, check_candidates
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.storage.layout import Layout
from tests.histories import histories_of, random_histories, randomly_valued, valued, write_shard

ITEMS = 20
POPULARITY, MOST_BOUGHT = "baseline-popularity", "baseline-most_bought"
IDS = pa.array([None, *(f"item {n}" for n in range(1, ITEMS + 1))])


def baseline_of(version, histories, allowed=None):
    popularity = histories.item_events(ITEMS + 1)
    wanted = None if allowed is None else pa.chunked_array([[f"item {n}" for n in allowed]])
    (allowed_items,) = restrict(IDS, wanted, CandidateItems.of(popularity, 1))
    return Baseline(version, allowed_items, IDS, popularity)


def write(baseline, blocks, folder, k=5, exclude_seen=False):
    paths = {"candidates": folder / "part.parquet", "vectors": folder / "users.parquet"}
    metrics = write_candidates(
        partial(baseline.block, k=k, exclude_seen=exclude_seen), baseline.item_ids, blocks, **paths
    )
    return metrics, pd.read_parquet(paths["candidates"])


def some_shop(seed):
    """Users by ascending id, as a shard has them."""
    histories = randomly_valued(random_histories(users=30, items=ITEMS - 2, events=30, seed=seed), seed)
    return replace(histories, users=pa.array([f"u{number:02d}" for number in range(len(histories))]))


@pytest.mark.parametrize(
    ("version", "exclude_seen", "k", "allowed"),
    [
        (POPULARITY, True, 3, None),
        (POPULARITY, True, 100, [1, 2, 3, 9]),
        (POPULARITY, False, 100, None),
        (MOST_BOUGHT, False, 100, None),
        (MOST_BOUGHT, False, 3, [1, 2, 3, 9]),
    ],
)
def test_it_passes_the_rules_of_all_candidates(tmp_path, version, exclude_seen, k, allowed):
    """Some events were not wanted, some do not count as seen, and two items of the warehouse nobody has had."""
    histories = some_shop(k)
    baseline = baseline_of(version, histories, allowed)
    write(baseline, [histories], tmp_path, k, exclude_seen)
    write_shard(tmp_path / "shard.parquet", histories)
    write_eligible(baseline.candidate_items, IDS, tmp_path / "indexed.parquet")
    everything = CandidateItems.of(np.r_[0, np.ones(ITEMS, dtype=np.int64)], 1)
    write_eligible(everything, IDS, tmp_path / "items.parquet")
    files = CandidateFiles(
        (ShardFiles(tmp_path / "part.parquet", (tmp_path / "shard.parquet",)),),
        tmp_path / "items.parquet",
        tmp_path / "indexed.parquet",
        None if allowed is None else pa.chunked_array([[f"item {n}" for n in allowed]]),
    )
    with duckdb.connect() as connection:
        totals = check_candidates(Layout.at(tmp_path).checks, connection, files, k, exclude_seen, "a night")
    assert totals.model_version == version
    # Who has seen everything that is allowed has no rows.
    assert 20 < totals.users <= len(histories)


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_popularity_ranks_as_it_is_measured(tmp_path, exclude_seen):
    histories = some_shop(0)
    baseline = baseline_of(POPULARITY, histories)
    _, table = write(baseline, [histories], tmp_path, 7, exclude_seen)
    expected = popular(histories, baseline.popularity, 7, exclude_seen=exclude_seen)
    check_ranked(table, histories, expected)
    counts = dict(enumerate(baseline.popularity.tolist()))
    whole = sum(counts.values())
    assert table.score.tolist() == pytest.approx([counts[int(item[5:])] / whole for item in table.item_id])


def test_most_bought_ranks_as_it_is_measured_and_adds_the_users_own_count(tmp_path):
    histories = some_shop(0)
    baseline = baseline_of(MOST_BOUGHT, histories)
    _, table = write(baseline, [histories], tmp_path, 7)
    check_ranked(table, histories, most_bought(histories, baseline.popularity, 7))
    read = histories.read
    names = read.users.to_pylist()
    own = pd.Series([(names[user], f"item {item}") for user, item in zip(read.owner, read.items, strict=True)])
    counts = own.value_counts()
    found = [
        counts.get((user, item), 0) + baseline.popularity[int(item[5:])] / baseline.popularity.sum()
        for user, item in zip(table.user_id, table.item_id, strict=True)
    ]
    assert table.score.tolist() == pytest.approx(found)


def test_reasons_are_the_users_own_items_and_popular_ones(tmp_path):
    histories = some_shop(0)
    for version, reasons in ((POPULARITY, {"popular"}), (MOST_BOUGHT, {"again", "popular"})):
        block = baseline_of(version, histories).block(histories, 7, exclude_seen=False, because=True)
        names = np.array(block.reasons.names.to_pylist())
        assert set(names) == reasons
        assert ((block.ranked.scores >= 1) == (names == "again")).all()
        assert not block.reasons.items.any()


def check_ranked(table, histories, expected):
    names = histories.users.to_pylist()
    items = [(names[user], f"item {item}") for user, row in enumerate(expected) for item in row if item >= 0]
    assert list(zip(table.user_id, table.item_id, strict=True)) == items


def test_an_item_that_nobody_was_to_be_told_of_comes_last_and_is_there():
    """All of an item's events may have come after it was counted, or be no targets."""
    baseline = Baseline(POPULARITY, CandidateItems.of(np.array([0, 1, 1]), 1), IDS, np.array([0, 0, 7]))
    assert baseline.rank(histories_of([(0, 2)]), 2, exclude_seen=False).items.tolist() == [2, 1]


@pytest.mark.parametrize(("version", "exclude_seen"), [(POPULARITY, True), (POPULARITY, False), (MOST_BOUGHT, False)])
def test_items_that_came_after_the_night_are_passed_over(version, exclude_seen):
    """A refresh reads events of items that were not counted; they are nobody else's."""
    events = [(0, 1 * (ITEMS + 1) + 2), (1, 2 * (ITEMS + 1) + 1)]  # as if others had had known ones
    counted = histories_of([(0, 1), (1, 2), (2, 2)], [(0, 3)])
    baseline = baseline_of(version, counted)
    known = baseline.rank(histories_of([(0, 1)], [(0, 3)]), 3, exclude_seen=exclude_seen)
    more = baseline.rank(histories_of([(0, 1), *events], [(0, 3)]), 3, exclude_seen=exclude_seen)
    for name in ("users", "items", "scores"):
        assert getattr(more, name).tolist() == getattr(known, name).tolist()


def test_blocks_of_users_make_no_difference(tmp_path):
    histories = some_shop(1)
    baseline = baseline_of(MOST_BOUGHT, histories)
    metrics, whole = write(baseline, [histories], tmp_path)
    blocks = [histories.select(users) for users in np.split(np.arange(len(histories)), [1, 2, 17])]
    again, table = write(baseline, blocks, tmp_path)
    pd.testing.assert_frame_equal(table, whole)
    assert metrics == again
    assert (metrics.users, metrics.fallback_users, metrics.rows) == (30, 0, len(whole))


def test_its_users_have_no_points(tmp_path):
    histories = valued(histories_of([(0, 1)], [(0, 2)]), weights=[1, 0])
    write(baseline_of(POPULARITY, histories), [histories], tmp_path)
    points = pq.read_table(tmp_path / "users.parquet")
    assert points.schema.equals(POINTS)
    assert points.to_pydict() == {"user_id": ["u0", "u1"], "point": [None, None]}
