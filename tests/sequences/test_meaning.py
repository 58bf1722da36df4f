"""What a snapshot makes of the warehouse's events: weights, returns, types, and an order without times."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmamba.config import EventsConfig, parse
from hmamba.errors import ConfigError, InputError
from hmamba.sequences.snapshot import Meaning, write_changes, write_snapshot
from hmamba.warehouse.tables import create_tables

DAY = date(2024, 1, 30)
START = datetime(2024, 1, 1)
LINEAR = Meaning(EventsConfig(weight_scale="linear"))
Event = tuple[str, str, float, float] | tuple[str, str, float, float, str]


def opened(events: list[Event], batch: int = 1) -> duckdb.DuckDBPyConnection:
    """A warehouse with these events: user, item, days since the first, weight, type; none if left out."""
    connection = duckdb.connect()
    create_tables(connection)
    for number, item in enumerate(sorted({event[1] for event in events}), 1):
        connection.execute("INSERT INTO items VALUES (?, ?, NULL, NULL, ?, NULL)", [item, number, START])
    insert(connection, events, batch)
    return connection


def insert(connection: duckdb.DuckDBPyConnection, events: list[Event], batch: int) -> None:
    for user, item, days, weight, *kind in events:
        row = [user, item, START + timedelta(days=days), weight, batch, START, *(kind or [""])]
        connection.execute("INSERT INTO interactions VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def insert_positions(connection: duckdb.DuckDBPyConnection, rows: list[tuple[str, str, int]]) -> None:
    """Events of an order and no times, as ingest enters them."""
    for user, item, position in rows:
        time = datetime(1970, 1, 1) + timedelta(microseconds=position)
        connection.execute("INSERT INTO interactions VALUES (?, ?, ?, 1, 1, ?, '')", [user, item, time, START])


def snapshot(folder: Any, events: list[Event], meaning: Meaning | None = None) -> pd.DataFrame:
    """The snapshot's events, with ids for item indices and days since the first event for times."""
    with opened(events) as connection:
        write_snapshot(connection, folder / "s", DAY, 1, meaning)
    return read(folder / "s")


def read(folder: Any) -> pd.DataFrame:
    items = pd.read_parquet(folder / "items.parquet").set_index("item_index").item_id
    frame = pd.read_parquet(folder / "shard-0000.parquet")
    return frame.assign(item=frame.item_index.map(items), day=(frame.event_time - START) / timedelta(days=1))


def weights(frame: pd.DataFrame) -> list[float]:
    return [round(float(weight), 5) for weight in frame.weight]


def test_weights_count_by_their_logarithm_up_to_4(tmp_path):
    raw = [0, 0.5, 1, 3, 15, 1e6]
    frame = snapshot(tmp_path, [("u", "i", day, weight) for day, weight in enumerate(raw)])
    assert weights(frame) == [0, round(math.log2(1.5), 5), 1, 2, 4, 4]
    assert frame.is_target.all()
    assert frame.is_seen.all()


def test_weights_count_as_they_are_where_that_is_set(tmp_path):
    raw = [0, 0.5, 1, 3, 1e6]
    assert weights(snapshot(tmp_path, [("u", "i", d, w) for d, w in enumerate(raw)], LINEAR)) == raw


TYPES = {
    "view": {"weight": 0.5, "target": False, "seen": False},
    "basket": {"weight": 2.0, "target": False},
    "purchase": {},
    "dislike": {"weight": 0.0, "target": False},
}


def test_types_give_factors_targets_and_what_counts_as_seen(tmp_path):
    events = [("u", "i", day, 3.0, kind) for day, kind in enumerate(TYPES)]
    frame = snapshot(tmp_path, events, Meaning(EventsConfig.model_validate(TYPES)))
    assert weights(frame) == [1, 4, 2, 0]
    assert frame.is_target.tolist() == [False, False, True, False]
    assert frame.is_seen.tolist() == [False, True, True, True]
    items = pd.read_parquet(tmp_path / "s" / "items.parquet")
    assert items.events.tolist() == [1]


def test_small_weights_may_be_read_and_be_no_targets(tmp_path):
    """Ratings: those under 4 are read. The bound is that of the raw weight, whatever its scale or its type's factor."""
    events = [("u", f"i{weight}", weight, float(weight), "rating") for weight in range(1, 6)]
    given = {"rating": {"weight": 10.0}, "min_weight_as_target": 4.0}
    frame = snapshot(tmp_path, events, Meaning(EventsConfig.model_validate(given)))
    assert frame.is_target.tolist() == [False, False, False, True, True]
    assert weights(frame)[0] == 10
    items = pd.read_parquet(tmp_path / "s" / "items.parquet").set_index("item_id")
    assert items.events.to_dict() == {"i1": 0, "i2": 0, "i3": 0, "i4": 1, "i5": 1}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([(0, 2), (1, 1), (2, -1)], [2, 0]),  # the newest goes first
        ([(0, 2), (1, 1), (2, -2)], [1, 0]),
        ([(0, 2), (1, -5), (2, 3)], [0, 3]),  # what nobody had cannot be returned
        ([(0, -1), (1, 1)], [1]),  # a return before any purchase
        ([(0, 2), (0, -1), (1, 1)], [1, 1]),  # at the same instant, the purchase first
        ([(0, 1), (1, -1), (2, 1), (3, -1)], [0, 0]),
        ([(0, 0), (1, 1), (2, -1)], [0, 0]),
        ([(0, 0.1), (1, 0.6), (2, -0.7)], [0, 0]),  # what rounding leaves is nothing
        ([(0, 1000.1), (1, 0.3), (2, -1000.4)], [0, 0]),
        ([(0, 1000.1), (1, 0.3), (2, -1000.1)], [0.3, 0]),
    ],
)
def test_returns_take_back(tmp_path, events, expected):
    of_one_user = [("u", "i", day, float(weight)) for day, weight in events]
    frame = snapshot(tmp_path, [*of_one_user, ("v", "i", 0, 1.0)], LINEAR)
    assert weights(frame[frame.user_id == "u"]) == expected


def test_returns_take_back_from_their_user_and_item_alone(tmp_path):
    events: list[Event] = [("u", "i", 0, 1), ("u", "j", 0, 1), ("v", "i", 0, 1), ("u", "i", 1, -1)]
    frame = snapshot(tmp_path, events)
    left = dict(zip(zip(frame.user_id, frame.item, strict=True), frame.weight, strict=True))
    assert left == {("u", "i"): 0, ("u", "j"): 1, ("v", "i"): 1}
    assert frame.is_seen.all()  # who has returned a thing has seen it
    items = pd.read_parquet(tmp_path / "s" / "items.parquet").set_index("item_id")
    assert items.events.to_dict() == {"i": 1, "j": 1}


def test_nobody_returns_a_view(tmp_path):
    meaning = Meaning(EventsConfig.model_validate({"view": {"target": False}, "buy": {}, "refund": {}}))
    events: list[Event] = [("u", "i", 0, 1, "buy"), ("u", "i", 1, 1, "view"), ("u", "i", 2, -1, "refund")]
    frame = snapshot(tmp_path, [*events, ("v", "i", 0, 1, "buy")], meaning)
    assert weights(frame[frame.user_id == "u"]) == [0, 1]  # the purchase is gone, the view that came after it is not


def test_a_return_after_the_day_has_not_happened(tmp_path):
    assert weights(snapshot(tmp_path, [("u", "i", 0, 1.0), ("u", "i", 30, -1.0)])) == [1]


def left_over(events: list[tuple[int, float, str]]) -> dict[tuple[int, str], float]:
    """What is left of each purchase (time, type), by a stack of purchases."""
    stack: list[Any] = []
    for time, weight, kind in sorted(events, key=lambda event: (event[0], -event[1], event[2])):
        if weight >= 0:
            stack.append([(time, kind), weight])
            continue
        returned = -weight
        for entry in reversed(stack):
            taken = min(entry[1], returned)
            entry[1] -= taken
            returned -= taken
    return dict(stack)


EVENTS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([-4.0, -1.0, -0.25, 0.0, 0.25, 1.0, 2.0, 3.0]), st.sampled_from("ab")),
    min_size=1,
    max_size=12,
    unique_by=lambda event: (event[0], event[2], event[1] < 0),
)


@settings(max_examples=25)
@given(st.lists(EVENTS, min_size=1, max_size=5))
def test_returns_take_back_what_a_stack_says(tmp_path_factory, users):
    events: list[Event] = [
        (f"u{user}", "i", time, weight, kind) for user, mine in enumerate(users) for time, weight, kind in mine
    ]
    expected = {(f"u{user}", *key): units for user, mine in enumerate(users) for key, units in left_over(mine).items()}
    if not any(expected.values()):
        return
    kinds = EventsConfig.model_validate({"a": {}, "b": {}, "weight_scale": "linear"})
    with opened(events) as connection:
        folder = tmp_path_factory.mktemp("returns")
        write_snapshot(connection, folder / "s", DAY, 1, Meaning(kinds))
        frame = read(folder / "s")
    assert frame.weight.tolist() == [expected[key] for key in sorted(expected)]


def test_a_type_that_the_settings_do_not_name_is_refused(tmp_path):
    events: list[Event] = [("u", "i", 0, 1, "purchase"), ("u", "i", 1, 1, "wish")]
    some = Meaning(EventsConfig.model_validate({"purchase": {}}))
    with pytest.raises(ConfigError, match=r"of type 'wish'.*\[events\.\"wish\"\]"):
        snapshot(tmp_path, events, some)
    with pytest.raises(ConfigError, match=r"of type 'purchase', of type 'wish'"):
        snapshot(tmp_path, events)
    with pytest.raises(ConfigError, match=r"without a type.*\[events\.\"\"\]"):
        snapshot(tmp_path, [("u", "i", 0, 1)], some)
    assert not (tmp_path / "s").exists()
    late: list[Event] = [("u", "i", 0, 1, "purchase"), ("u", "i", 31, 1, "wish")]
    assert len(snapshot(tmp_path, late, some)) == 1  # what comes after the day is no matter yet


def test_changes_mean_what_the_snapshot_means(tmp_path):
    """A return that comes later takes back from an event that the snapshot holds."""
    meaning = Meaning(EventsConfig.model_validate({**TYPES, "weight_scale": "linear"}))
    with opened([("u", "i", 0, 2, "purchase"), ("u", "j", 1, 1, "view"), ("v", "i", 1, 1, "purchase")]) as connection:
        held = write_snapshot(connection, tmp_path / "s", DAY, 1, meaning)
        insert(connection, [("u", "i", 2, -1, "purchase"), ("u", "j", 3, 4, "basket")], 2)
        changes = write_changes(connection, tmp_path / "changes", DAY, held, meaning)
        assert (changes.users, changes.new_events, changes.events) == (1, 2, 3)
        write_snapshot(connection, tmp_path / "again", DAY, 1, meaning)
    found = pd.read_parquet(tmp_path / "changes" / "shard-0000.parquet")
    whole = pd.read_parquet(tmp_path / "again" / "shard-0000.parquet")
    pd.testing.assert_frame_equal(found, whole[whole.user_id == "u"])
    assert weights(found) == [1, 0.5, 8]


BY_POSITION = Meaning(by_position=True)


def test_of_an_order_each_users_steps_are_a_day_apart_and_ties_share_one(tmp_path):
    """Positions lie where ingest puts them, in microseconds since 1970; they may be far apart, and begin anywhere."""
    with opened([("u", item, 0, 1) for item in "abc"]) as connection:
        connection.execute("DELETE FROM interactions")
        insert_positions(connection, [("u", "a", 7), ("u", "b", 7), ("u", "c", 10**12), ("u", "a", 90), ("v", "a", -3)])
        manifest = write_snapshot(connection, tmp_path / "s", DAY, 1, BY_POSITION)
    frame = pd.read_parquet(tmp_path / "s" / "shard-0000.parquet")
    days = ((frame.event_time - datetime(2000, 1, 1)) / timedelta(days=1)).tolist()
    assert list(zip(frame.user_id, frame.item_index, days, strict=True)) == [
        ("u", 1, 0),
        ("u", 2, 0),
        ("u", 1, 1),
        ("u", 3, 2),
        ("v", 1, 0),
    ]
    assert (manifest.by_position, manifest.newest_event, manifest.events) == (True, None, 5)


def test_no_event_of_an_order_is_later_than_a_day(tmp_path):
    with opened([("u", "a", 400, 1), ("u", "a", 401, 1)]) as connection:
        assert write_snapshot(connection, tmp_path / "s", DAY, 1, BY_POSITION).events == 2
        held = write_snapshot(connection, tmp_path / "s", DAY, 1, BY_POSITION)
        insert(connection, [("u", "a", 402, 1)], 2)
        changes = write_changes(connection, tmp_path / "changes", DAY, held, BY_POSITION)
    assert (changes.users, changes.new_events, changes.events) == (1, 1, 3)


def test_returns_and_scales_hold_for_an_order_too(tmp_path):
    meaning = Meaning(EventsConfig(), by_position=True)
    frame = snapshot(tmp_path, [("u", "a", 0, 3), ("u", "a", 1, 3), ("u", "a", 2, -3)], meaning)
    assert weights(frame) == [2, 0]


def test_the_meaning_is_that_of_the_settings():
    config = parse(
        {
            "source": {"columns": {"event_type": "kind", "position": "step"}},
            "events": {"purchase": {}, "view": {"target": False}, "weight_scale": "linear"},
        },
        "test",
    )
    meaning = Meaning.of(config)
    assert meaning.by_position
    table = meaning.table().to_pydict()
    assert table["event_type"] == ["purchase", "view"]
    assert table["is_target"] == [True, False]
    assert table["linear"] == [True, True]
    assert Meaning().table().to_pydict()["event_type"] == [""]
    assert Meaning().end_of(DAY) == datetime(2024, 1, 31)


def test_numbers_are_those_of_numpy(tmp_path):
    raw = np.random.default_rng(0).exponential(5, 50)
    frame = snapshot(tmp_path, [("u", "i", day / 10, float(w)) for day, w in enumerate(raw)])
    np.testing.assert_allclose(frame.weight, np.minimum(np.log2(1 + raw), 4), rtol=1e-5)


@pytest.mark.parametrize(
    ("events", "settings"),
    [
        ([("u", "a", 0, -1.0), ("v", "b", 1, -2.0)], {}),
        ([("u", "a", 0, 1.0), ("u", "a", 1, -1.0)], {}),
        ([("u", "a", 0, 0.0)], {}),
        ([("u", "a", 0, 3.0)], {"min_weight_as_target": 4}),
        ([("u", "a", 0, 1.0, "view")], {"view": {"target": False}}),
    ],
)
def test_a_snapshot_in_which_nothing_is_a_target_is_refused(tmp_path: Any, events: Any, settings: Any) -> None:
    with pytest.raises(InputError, match=r"No event before the end of 2024-01-30 is a target.*source\.columns\.weight"):
        snapshot(tmp_path, events, Meaning(EventsConfig.model_validate(settings)))
