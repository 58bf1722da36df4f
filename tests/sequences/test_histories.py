"""Flat histories: cutting in time, choosing users, baskets, reading shards."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.errors import InputError
from hmamba.sequences.histories import (
    offsets_of,
    owners,
    read_histories,
    run_starts,
    spans,
    stream_histories,
)
from hmamba.storage.local import LocalStorage
from hmamba.storage.run_layout import RunLayout
from tests.histories import START, histories_of, random_histories, randomly_valued, shard_table, valued, write_shard

DAY = 86_400_000_000


def test_spans_concatenate_ranges():
    assert spans(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]


def test_parts_of_given_lengths():
    lengths = np.array([2, 0, 3])
    assert offsets_of(lengths).tolist() == [0, 2, 2, 5]
    assert owners(lengths).tolist() == [0, 0, 2, 2, 2]
    assert offsets_of(lengths[:0]).tolist() == [0]
    assert owners(lengths[:0]).tolist() == spans(lengths[:0], lengths[:0]).tolist() == []


def test_runs_begin_where_any_key_changes():
    one, other = np.array([3, 3, 5, 5, 5, 3]), np.array([0, 0, 0, 0, 9, 9])
    assert run_starts(one).tolist() == [0, 2, 5]
    assert run_starts(one, other).tolist() == run_starts(other, one).tolist() == [0, 2, 4, 5]
    assert run_starts(one[:1]).tolist() == [0]
    assert run_starts(one[:0]).tolist() == []


def test_between_keeps_users_and_cuts_at_the_boundary():
    histories = histories_of([(0, 1), (1, 2)], [(3, 3)])
    early = histories.between(None, START + 1 * DAY)
    assert early.items.tolist() == [1]
    assert early.offsets.tolist() == [0, 1, 1]
    assert histories.between(START + DAY, None).items.tolist() == [2, 3]


def test_select_reorders_users_with_their_events():
    histories = random_histories()
    chosen = histories.select(np.array([7, 2]))
    assert chosen.users.to_pylist() == ["u7", "u2"]
    assert chosen.items.tolist() == [
        *histories.items[histories.offsets[7] : histories.offsets[8]],
        *histories.items[histories.offsets[2] : histories.offsets[3]],
    ]


def test_events_of_one_moment_are_one_basket_and_users_never_share_one():
    histories = histories_of([(0, 1), (0, 2), (1, 3)], [(1, 4)])
    assert histories.basket_starts.tolist() == [0, 2, 3, 4]


@pytest.fixture
def run(tmp_path):
    """A run whose folder of sequences is empty."""
    made = RunLayout(tmp_path, LocalStorage(tmp_path))
    made.sequences.mkdir()
    return made


def test_shards_read_back(run):
    table = shard_table(["a", "a", "b"], [1, 2, 3], [0, 1, 2])
    pq.write_table(table, run.shard(0))
    pq.write_table(table.slice(0, 0), run.shard(1))
    histories = read_histories([run.shard(0), run.shard(1)])
    assert histories.users.to_pylist() == ["a", "b"]
    assert histories.offsets.tolist() == [0, 2, 3]
    assert len(read_histories([run.shard(1)])) == 0


def test_text_of_user_ids_may_pass_what_one_string_array_holds(run):
    """Ids get 64-bit offsets, and events come in chunks that are never joined: a user may go on in the next one."""
    events = [("a", 1), ("a", 2), ("b", 3)], [], [("b", 4), ("b", 5), ("c", 6)], [("c", 7)], [("d", 8)]
    for number, rows in enumerate(events):
        items = [item for _, item in rows]
        table = shard_table(pa.array([user for user, _ in rows], pa.string()), items, items)
        pq.write_table(table, run.shard(number))
    histories = read_histories([run.shard(number) for number in range(len(events))])
    assert histories.users.type == pa.large_string()
    assert histories.select(np.array([2, 0])).users.type == pa.large_string()
    assert histories.users.to_pylist() == ["a", "b", "c", "d"]
    assert histories.offsets.tolist() == [0, 2, 5, 7, 8]
    assert histories.items.tolist() == histories.times.tolist() == list(range(1, 9))
    one = read_histories([run.shard(4)])
    assert (one.users.to_pylist(), one.offsets.tolist()) == (["d"], [0, 1])


@pytest.mark.parametrize(("events", "users"), [(1, 100), (3, 100), (4, 1), (7, 2), (1000, 100)])
def test_a_shard_streams_in_blocks_of_whole_users(run, events, users):
    histories = histories_of(*([(float(day), 1 + day) for day in range(n)] for n in (3, 1, 9, 2, 1, 1, 6)))
    path = write_shard(run.shard(0), histories)
    blocks = list(stream_histories(path, events=events, users=users))
    assert all(len(block) <= users for block in blocks)
    assert all(block.events < 2 * events or len(block) <= 2 for block in blocks)
    assert [user for block in blocks for user in block.users.to_pylist()] == histories.users.to_pylist()
    np.testing.assert_array_equal(np.concatenate([block.items for block in blocks]), histories.items)
    np.testing.assert_array_equal(np.concatenate([block.times for block in blocks]), histories.times)
    np.testing.assert_array_equal(np.concatenate([block.lengths for block in blocks]), histories.lengths)


def test_an_empty_shard_streams_nothing(tmp_path):
    assert list(stream_histories(write_shard(tmp_path / "s.parquet", histories_of()), events=5, users=5)) == []


@pytest.mark.parametrize("order", [[1, 0], [0, 1, 0]])
@pytest.mark.parametrize("events", [1, 100])
def test_a_shard_that_is_not_sorted_does_not_stream(tmp_path, order, events):
    path = tmp_path / "s.parquet"
    pq.write_table(shard_table([f"u{user}" for user in order], [1] * len(order), range(len(order))), path)
    with pytest.raises(InputError, match=r"s.parquet: not sorted by user"):
        list(stream_histories(path, events=events, users=10))


@pytest.mark.parametrize("damage", ["absent", "not parquet", "scattered", "columns"])
def test_what_is_no_snapshot_is_refused(run, damage):
    if damage == "not parquet":
        (run.shard(0)).write_text("user_id,item_index")
    elif damage != "absent":
        table = shard_table(["a", "b", "a"], [1, 2, 3], [0, 1, 2])
        if damage == "columns":
            table = table.drop_columns(["item_index"])
        pq.write_table(table, run.shard(0))
    with pytest.raises(InputError, match="snapshot"):
        read_histories([run.shard(0)])


def test_item_users_counts_everybody_once():
    histories = histories_of([(0, 1), (1, 1), (2, 3)], [(0, 1)])
    assert histories.item_users(5).tolist() == [0, 2, 0, 1, 0]


def parts_of(histories):
    return histories.items, histories.times, histories.weights, histories.targets, histories.seen


def test_values_read_back_and_ordinary_ones_are_left_out(tmp_path):
    histories = randomly_valued(random_histories(users=9))
    whole = read_histories([write_shard(tmp_path / "a.parquet", histories)])
    (streamed,) = stream_histories(tmp_path / "a.parquet", events=10_000, users=100)
    for read in (whole, streamed):
        for found, expected in zip(parts_of(read), parts_of(histories), strict=True):
            np.testing.assert_array_equal(found, expected)
    ordinary = read_histories([write_shard(tmp_path / "b.parquet", random_histories(users=9))])
    assert ordinary.weights is ordinary.targets is ordinary.seen is None


def test_values_stay_with_their_events():
    histories = randomly_valued(random_histories(users=9))
    told = set(zip(histories.owner, *parts_of(histories), strict=True))
    users = np.array([7, 2, 2])
    cut = histories.select(users, histories.offsets[users + 1] - 1)
    late = histories.keep(histories.times >= START + 20 * DAY)
    assert set(zip(users[cut.owner], *parts_of(cut), strict=True)) < told
    assert set(zip(late.owner, *parts_of(late), strict=True)) < told


def test_what_is_read_and_what_is_wanted():
    histories = valued(
        histories_of([(0, 1), (1, 2), (2, 3), (3, 1)]), weights=[0, 2, 1, 1], targets=[True, True, False, True]
    )
    assert histories.read.items.tolist() == [2, 3, 1]
    assert histories.wanted.tolist() == [False, True, False, True]
    assert histories.item_events(4).tolist() == [0, 1, 1, 0]
    assert histories.item_users(4).tolist() == [0, 1, 1, 0]
    assert random_histories().read.events == random_histories().events


def test_until_cuts_each_user_at_a_place_of_their_own():
    histories = histories_of([(0, 1), (1, 2), (2, 3)], [(0, 4)], [(0, 5), (1, 6)])
    cut = histories.until(np.array([2, 4, 4]))
    assert (cut.items.tolist(), cut.offsets.tolist()) == ([1, 2, 4], [0, 2, 3, 3])


def test_a_shard_is_asked_for_a_day_or_for_the_next_step_of_each_user(tmp_path):
    path = write_shard(tmp_path / "s.parquet", histories_of([(0, 1), (3, 2)], [(5, 1)]))
    (day,) = stream_histories(path, events=10, users=10, asked=START + 9 * DAY)
    assert ((day.asked - START) / DAY).tolist() == [9, 9]
    (step,) = stream_histories(path, events=10, users=10)
    assert ((step.asked - START) / DAY).tolist() == [4, 6]
    assert step.select(np.array([1])).asked.tolist() == [START + 6 * DAY]
