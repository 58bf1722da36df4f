"""Histories from Parquet and the made-up shop."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.gpu import data
from hmamba.errors import InputError
from hmamba.sequences.histories import MICROSECONDS_A_DAY


def stamp(day, hour=12):
    return datetime(2024, 1, day, hour, tzinfo=UTC)


EVENTS = [
    ("b", 70, stamp(2)),
    ("a", 50, stamp(3)),
    ("a", 70, stamp(1)),
    ("a", 70, stamp(1)),  # the same event twice
    ("a", 60, stamp(1)),
    ("b", 50, stamp(3)),
]


def write(path, events, names, kind=None):
    columns = [pa.array(column) for column in zip(*events, strict=True)]
    columns[2] = columns[2].cast(kind or pa.timestamp("ms", "UTC"))
    pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path)
    return path


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("user_id", "item_id", "event_time"), pa.timestamp("ms", "UTC")),
        (("household_id", "product_id", "transaction_timestamp"), pa.timestamp("ns")),
    ],
)
def test_events_are_read_in_order_and_once(tmp_path, names, kind):
    histories = data.read(write(tmp_path / "events.parquet", EVENTS, names, kind))
    assert histories.lengths.tolist() == [3, 2]
    assert histories.items.tolist() == [2, 3, 1, 3, 1]  # 50, 60 and 70 are 1, 2 and 3
    assert histories.times[0] == int(stamp(1).timestamp()) * 1_000_000
    assert histories.basket_starts.tolist() == [0, 2, 3, 4, 5]


def test_the_end_is_a_day_on_which_the_shop_was_open(tmp_path):
    busy = [(user, item, stamp(day)) for user in "abcd" for item in (1, 2) for day in (1, 2, 3)]
    path = write(tmp_path / "events.parquet", [*busy, ("a", 1, stamp(9))], ("user_id", "item_id", "event_time"))
    histories = data.read(path)
    assert histories.events == len(busy)
    assert histories.times.max() < int(stamp(4, 0).timestamp()) * 1_000_000


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    with pytest.raises(InputError, match=r"absent\.parquet cannot be read"):
        data.read(tmp_path / "absent.parquet")
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"junk\.parquet cannot be read"):
        data.read(tmp_path / "junk.parquet")
    path = write(tmp_path / "other.parquet", EVENTS, ("who", "item_id", "event_time"))
    with pytest.raises(InputError, match="who, but user_id, item_id, event_time or household_id"):
        data.read(path)
    pq.write_table(pq.read_table(write(path, EVENTS, ("user_id", "item_id", "event_time"))).slice(0, 0), path)
    with pytest.raises(InputError, match="no events"):
        data.read(path)


def test_the_made_up_shop_has_the_shape_of_the_real_one():
    histories = data.synthetic(400, 300, 5_000)
    assert len(histories) == 400
    assert 150 < np.median(histories.lengths) < 350
    same = histories.owner[1:] == histories.owner[:-1]
    assert (np.diff(histories.times)[same] >= 0).all()
    baskets = len(histories.basket_starts) - 1
    assert 4 < histories.events / baskets < 15
    events = np.sort(histories.item_events(int(histories.items.max()) + 1))[::-1]
    assert events[: len(events) // 10].sum() > 0.5 * events.sum()
    own = len(np.unique(histories.owner * 10_000 + histories.items))
    assert own < 0.7 * histories.events  # people buy their own things again
    last = histories.times // MICROSECONDS_A_DAY == histories.times.max() // MICROSECONDS_A_DAY
    assert last.any()
    again = data.synthetic(400, 300, 5_000)
    assert np.array_equal(again.items, histories.items)


def test_histories_survive_their_file(tmp_path):
    histories = data.synthetic(10, 20, 30)
    data.save(histories, tmp_path / data.HISTORIES)
    again = data.load(tmp_path / data.HISTORIES)
    for name in ("offsets", "items", "times"):
        assert np.array_equal(getattr(again, name), getattr(histories, name))
    assert len(again.users) == len(again)
