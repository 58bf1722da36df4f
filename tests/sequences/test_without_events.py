"""Users without events take their places among the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.sequences.histories import MICROSECONDS_A_DAY
from hmamba.sequences.without_events import with_users
from tests.histories import histories_of, valued


def blocks_of(*names: str, asked: int | None = None):
    """Blocks of users, each with their own item; the number of events differs."""
    found, item = [], 0
    for users in names:
        histories = []
        for _ in users:
            item += 1
            histories.append([(day, item) for day in range(item % 3 + 1)])
        block = replace(histories_of(*histories), users=pa.array(list(users), pa.large_string()))
        found.append(block if asked is None else block.asked_at(asked))
    return found


def write(folder: Path, names: str) -> Path:
    path = folder / "users.parquet"
    pq.write_table(pa.table({"user_id": pa.array(list(names), pa.string()), "age": list(range(len(names)))}), path)
    return path


@pytest.mark.parametrize("blocks", [["bdfh"], ["b", "df", "h"], ["bd", "fh"]])
@pytest.mark.parametrize("others", ["", "b", "ac", "acegz", "abcdefghz", "xyz", "aaä日"])
@pytest.mark.parametrize("most", [1, 2, 100])
def test_all_users_come_in_order_with_their_own_events(tmp_path, blocks, others, most):
    names = "".join(sorted(set(others), key=str.encode))
    merged = list(with_users(blocks_of(*blocks, asked=7), write(tmp_path, names), most))
    users = [user for block in merged for user in block.users.to_pylist()]
    assert users == sorted({*"bdfh", *names}, key=str.encode)
    assert all(0 < len(block) <= max(most, *map(len, blocks)) for block in merged)
    before = {
        user: (block, place) for block in blocks_of(*blocks) for place, user in enumerate(block.users.to_pylist())
    }
    for block in merged:
        for place, user in enumerate(block.users.to_pylist()):
            own = block.select(np.array([place]))
            if user in before:
                other, at = before[user]
                assert own.items.tolist() == other.select(np.array([at])).items.tolist()
                assert own.asked.tolist() == [7]
            else:
                assert own.events == 0


def test_without_a_file_blocks_stay_as_they_are():
    blocks = blocks_of("ab", "c")
    assert list(with_users(blocks, None, 1)) == blocks


def test_a_shard_of_nobody_else(tmp_path):
    merged = list(with_users([], write(tmp_path, "abc"), 2))
    assert [block.users.to_pylist() for block in merged] == [["a", "b"], ["c"]]
    assert [block.asked_next().asked.tolist() for block in merged] == [[0, 0], [0]]


def test_weights_and_flags_stay_with_their_events(tmp_path):
    (block,) = blocks_of("bd")
    block = valued(block, weights=np.arange(block.events), targets=[True] * block.events, seen=[False] * block.events)
    (merged,) = with_users([block.asked_at(MICROSECONDS_A_DAY)], write(tmp_path, "ac"), 9)
    assert merged.users.to_pylist() == ["a", "b", "c", "d"]
    assert merged.weights.tolist() == block.weights.tolist()
    assert merged.lengths.tolist() == [0, block.lengths[0], 0, block.lengths[1]]
