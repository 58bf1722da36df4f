"""Replacing users in a part against doing it with one sort in memory."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.candidates import replace
from hmamba.candidates.part import PLAIN, part_writer
from hmamba.candidates.replace import replace_users
from hmamba.columns import CANDIDATES, FALLBACK_VERSION
from tests.scored import write_part


def rows(users, version="v1", k=4):
    """Candidates of these users, sorted."""
    found = [
        (user, rank, f"item {rank} {version}", 1.0 / rank, version)
        for user in sorted(users)
        for rank in range(1, k + 1)
    ]
    return pd.DataFrame(found, columns=list(CANDIDATES))


def run(folder, before, touched, fresh):
    write_part(folder / "before.parquet", before)
    write_part(folder / "fresh.parquet", fresh)
    ids = pa.array(sorted(touched), pa.string())
    told = replace_users(folder / "before.parquet", ids, folder / "fresh.parquet", folder / "after.parquet")
    return told, pd.read_parquet(folder / "after.parquet")


def test_users_have_bounds_in_every_group_of_rows_and_nothing_else_has(tmp_path):
    with part_writer(tmp_path / "part.parquet") as writer:
        for users in ("ab", "cd"):
            writer.write_table(pa.Table.from_pandas(rows(users), PLAIN, preserve_index=False))
    described = pq.read_metadata(tmp_path / "part.parquet")
    for group, bounds in enumerate([("a", "b"), ("c", "d")]):
        user, *others = (described.row_group(group).column(number) for number in range(described.num_columns))
        assert (user.statistics.min, user.statistics.max) == bounds
        assert not any(column.is_stats_set for column in others)


@pytest.mark.parametrize("size", [1, 3, 4, 7, 1000])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_it_is_what_a_sort_makes_of_it(size, share, tmp_path, monkeypatch):
    monkeypatch.setattr(replace, "_ROWS", size)
    random = np.random.default_rng(0)
    names = [f"{name}{end}" for name in ("", "a", "b", "ä", "z", "日") for end in range(9)]
    known = [name for name in names if random.random() < 0.7]
    new = sorted(set(names) - set(known))
    touched = [name for name in known if random.random() < share] + new
    before = rows(known)
    fresh = rows(touched[1:], "v2", k=3)  # one of them has no rows any more
    told, after = run(tmp_path, before, touched, fresh)
    expected = pd.concat([before[~before.user_id.isin(touched)], fresh])
    order = expected.user_id.map(str.encode)
    expected = expected.assign(order=order).sort_values(["order", "rank"], ignore_index=True).drop(columns="order")
    pd.testing.assert_frame_equal(after, expected, check_dtype=False)
    assert (told.rows, told.fallback_users) == (len(expected), 0)
    assert told.new_users == len(set(new) & set(touched[1:]))


def test_reasons_stay_with_their_rows(tmp_path):
    before = rows("abc").assign(because="taste", because_item=None)
    fresh = rows("b", "v2").assign(because="together", because_item="item 9")
    _, after = run(tmp_path, before, ["b"], fresh)
    expected = pd.concat([before[before.user_id == "a"], fresh, before[before.user_id == "c"]], ignore_index=True)
    pd.testing.assert_frame_equal(after.fillna("none"), expected.fillna("none"), check_dtype=False)


def test_an_empty_part_and_users_with_popular_items(tmp_path):
    fresh = rows(["b", "a"], FALLBACK_VERSION)
    told, after = run(tmp_path, rows([]), ["a", "b"], fresh)
    pd.testing.assert_frame_equal(after, fresh, check_dtype=False)
    assert (told.rows, told.fallback_users, told.new_users) == (8, 2, 2)
    told, after = run(tmp_path, fresh, ["a"], rows([]))
    assert (told.rows, told.fallback_users, told.new_users) == (4, 1, 0)
