"""Files as histories: order, names, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.datasets import NAMES, Columns, attributes_of, find, load, one_at_a_time, read_categories
from hmamba.errors import InputError
from tests.bench.files import order_data, written
from tests.histories import histories_of


def test_events_come_in_the_order_of_their_positions(tmp_path):
    data = order_data(tmp_path)
    frame = pd.read_parquet(tmp_path / "order.parquet").sort_values("position", kind="stable")
    wanted = {str(user): part["item_id"].astype(str).tolist() for user, part in frame.groupby("user_id")}
    histories, ids = data.histories, data.ids.to_pylist()
    for row, user in enumerate(histories.users.to_pylist()):
        mine = histories.items[histories.offsets[row] : histories.offsets[row + 1]]
        assert [ids[item] for item in mine] == wanted[user]
    assert len(histories) == 30
    assert ids[0] is None
    assert not data.timed
    assert len(histories.basket_starts) == histories.events + 1


def test_events_of_one_time_stay_in_the_order_of_the_file(tmp_path):
    times = pd.to_datetime(["2024-01-02", "2024-01-01", "2024-01-02", "2024-01-02"])
    data = load(written(tmp_path / "t.parquet", user_id=[1] * 4, item_id=[30, 10, 20, 40], event_time=list(times)))
    assert [data.ids[i].as_py() for i in data.histories.items] == ["10", "30", "20", "40"]
    assert data.timed
    assert np.diff(data.histories.times).tolist() == [86_400_000_000, 0, 0]


def test_columns_can_be_named(tmp_path):
    path = written(tmp_path / "c.parquet", who=["a", "a"], what=["x", "y"], when=[2, 1])
    data = load(path, columns=Columns("who", "what", "when"))
    assert [data.ids[i].as_py() for i in data.histories.items] == ["y", "x"]
    assert data.name == "c"


def test_categories_are_read_from_the_file_beside(tmp_path):
    path = Path(written(tmp_path / "interactions.parquet", user_id=[1, 1, 1], item_id=[7, 5, 9], position=[0, 1, 2]))
    data = load(str(path))
    assert data.items == tmp_path / "items.parquet"
    assert read_categories(data.items, data.ids) is None
    written(data.items, item_id=[5, 6, 7], categories=[["a", "b"], ["c"], ["a"]])
    found = read_categories(data.items, data.ids)
    assert found.depth == 2
    levels = found.numbers((1, 2))
    assert [[len(set(level[list(pair)])) for pair in ([1, 2], [1, 3])] for level in levels] == [[1, 2], [2, 2]]
    assert attributes_of(found).toarray().tolist() == [[0, 0], [1, 0], [1, 1], [0, 0]]
    written(data.items, item_id=[5, 7], title=["a", "b"])
    assert read_categories(data.items, data.ids) is None
    written(data.items, item_id=[5, 7], categories=["a", "b"])
    with pytest.raises(InputError, match=r"items.parquet must have item_id and categories, a list of text"):
        read_categories(data.items, data.ids)
    data.items.write_bytes(b"no parquet")
    with pytest.raises(InputError, match="rename it to measure without categories"):
        read_categories(data.items, data.ids)
    written(data.items, item_id=[5, 7], categories=[[], None])
    assert attributes_of(read_categories(data.items, data.ids)) is None


def test_one_at_a_time_keeps_order_and_users_apart():
    histories = histories_of([(0, 1), (0, 2), (0, 3), (1, 4)], [], [(5, 1), (5, 2)], [(2, 7)])
    alone = one_at_a_time(histories)
    assert alone.items.tolist() == histories.items.tolist()
    assert len(alone.basket_starts) == alone.events + 1
    later = alone.times - histories.times
    assert later.tolist() == [0, 1, 2, 2, 0, 1, 0]


def test_names_need_a_folder_that_holds_them(tmp_path):
    with pytest.raises(InputError, match="HMAMBA_DATA"):
        find("beauty", None)
    with pytest.raises(InputError, match="does not exist"):
        find("beauty", tmp_path)
    folder = tmp_path / NAMES["beauty"]
    folder.mkdir()
    path = written(folder / "interactions.parquet", user_id=[1], item_id=[1], position=[0])
    assert find("beauty", tmp_path) == ("beauty", Path(path))
    with pytest.raises(InputError, match="neither a file nor one of beauty"):
        find("nothing", tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user_id": [1], "item": [1], "position": [0]}, "no column 'item_id'.*--item-id"),
        ({"user_id": [1], "item_id": [1]}, "no column 'position'.*--time"),
        ({"user_id": ["a", None], "item_id": [1, 2], "position": [0, 1]}, "row 2: user_id is empty"),
        ({"user_id": [1], "item_id": [1], "position": ["first"]}, "must hold times"),
        ({"user_id": [], "item_id": [], "position": []}, "has no rows"),
    ],
)
def test_files_that_do_not_fit_are_explained(tmp_path, columns, message):
    with pytest.raises(InputError, match=message):
        load(written(tmp_path / "bad.parquet", **columns))


def test_a_file_that_is_no_parquet_is_explained(tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text("user_id,item_id")
    with pytest.raises(InputError, match="is not a Parquet file"):
        load(str(path))
