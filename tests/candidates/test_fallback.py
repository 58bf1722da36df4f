"""Popular items of a segment, for users without usable history."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.candidates.baseline import Baseline
from hmamba.candidates.fallback import Fallback
from hmamba.candidates.score import ModelScorer
from hmamba.columns import FALLBACK_VERSION
from hmamba.index import index as item_index
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.segments import Group, Segments
from tests.histories import histories_of, valued
from tests.stored import ITEMS, stored_model

COUNTS = np.r_[0, np.arange(ITEMS, 0, -1)]  # item 1 is the most popular one
GOLD = Group(np.array([30, 31]), np.array([3, 1]), users=50)
SEGMENTS = Segments(("club",), 50, {("club", "gold"): GOLD})


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user_id": ["u0", "u1", "u2", "u9"], "club": ["gold", "tin", "gold", None]}), path)
    return path


def lists(rows, items):
    return [items[rows == row].tolist() for row in np.unique(rows)]


def test_each_user_gets_the_items_of_their_segment_and_others_those_of_all(users):
    fallback = Fallback(COUNTS, SEGMENTS, users)
    ranked = fallback.rank(histories_of([], [], [], []), 4, exclude_seen=False)
    rows, items, scores = ranked.users, ranked.items, ranked.scores
    assert lists(rows, items) == [[30, 31, 1, 2], [1, 2, 3, 4], [30, 31, 1, 2], [1, 2, 3, 4]]
    share = 0.5 * 0.75 + 0.5 * COUNTS[30] / COUNTS.sum()
    assert scores[0] == pytest.approx(np.log(share))
    assert scores[4] == pytest.approx(np.log(COUNTS[1] / COUNTS.sum()))
    assert (np.diff(scores.reshape(4, 4)) <= 0).all()
    names = fallback.reasons(histories_of([], [], [], []), rows, items)
    assert names.reshape(4, 4)[:2].tolist() == [["segment", "segment", "popular", "popular"], ["popular"] * 4]


def test_without_segments_all_get_what_everybody_takes():
    fallback = Fallback(COUNTS)
    ranked = fallback.rank(histories_of([], [(0, 1), (1, ITEMS + 9)]), 3, exclude_seen=True)
    rows, items = ranked.users, ranked.items
    assert lists(rows, items) == [[1, 2, 3], [2, 3, 4]]
    assert set(fallback.reasons(histories_of([], []), rows, items)) == {"popular"}


def test_seen_items_are_left_out_and_lists_end_where_items_do(users):
    counts = np.where(np.isin(np.arange(ITEMS + 1), [1, 30, 31]), COUNTS, 0)
    ranked = Fallback(counts, SEGMENTS, users).rank(histories_of([(0, 30)], []), 5, exclude_seen=True)
    assert lists(ranked.users, ranked.items) == [[1, 31], [1, 30, 31]]
    assert np.isfinite(ranked.scores).all()


def test_a_model_leaves_users_without_usable_history_to_it(users):
    stored = stored_model()
    built = item_index.build(stored, stored.candidate_items)
    histories = histories_of([], [(0, 1)], [(0, ITEMS + 5)])
    block = ModelScorer(stored, built, COUNTS, 3, False, fallback=Fallback(COUNTS, SEGMENTS, users))(histories)
    assert block.versions.to_pylist() == [FALLBACK_VERSION, "v1", FALLBACK_VERSION]
    assert block.fallback_users == 2
    assert block.ranked.items[:3].tolist() == block.ranked.items[6:].tolist() == [30, 31, 1]


def test_a_baseline_leaves_users_without_usable_history_to_it(users):
    everything = CandidateItems.of(COUNTS, 1)
    baseline = Baseline("baseline-most_bought", everything, stored_model().item_ids, COUNTS)
    histories = valued(histories_of([(0, 2)], [(0, 7), (1, 7)], []), weights=[0, 1, 1])
    options = {"exclude_seen": False, "because": True}
    block = baseline.block(histories, 3, fallback=Fallback(COUNTS, SEGMENTS, users), **options)
    assert block.versions.to_pylist() == [FALLBACK_VERSION, "baseline-most_bought", FALLBACK_VERSION]
    assert block.ranked.items.reshape(3, 3).tolist() == [[30, 31, 1], [7, 1, 2], [30, 31, 1]]
    assert block.reasons.names.to_pylist() == [
        "segment",
        "segment",
        "popular",
        "again",
        *["popular"] * 2,
        *["segment"] * 2,
        "popular",
    ]
    plain = baseline.block(histories, 3, **options)
    assert plain.versions.to_pylist() == ["baseline-most_bought"] * 3
    assert plain.fallback_users == 0
