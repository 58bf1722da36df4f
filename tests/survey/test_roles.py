from __future__ import annotations

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from hmamba.survey.roles import Role, candidates, profiles, words_of

NULL_WORDS = ("\\N", "NULL", "")
USERS = [
    "userId",
    "user_id",
    "UserID",
    "uid",
    "user",
    "visitorid",
    "customer_id",
    "CustomerKey",
    "household_id",
    "household_key",
    "session_id",
    "SessionId",
    "reviewerID",
    "member_no",
    "anonymous_user_id",
    "cust_id",
]
ITEMS = [
    "item_id",
    "itemid",
    "movieId",
    "product_id",
    "ProductCode",
    "StockCode",
    "sku",
    "asin",
    "parent_asin",
    "business_id",
    "venue_id",
    "isbn",
    "song_id",
    "article_id",
    "appid",
]
SECONDS = [1716985932, 1716985933, 1716985999]


def roles_of(table: dict[str, object]) -> dict[Role, list[str]]:
    with duckdb.connect() as connection:
        return candidates(profiles(connection, pa.Table.from_pandas(pd.DataFrame(table)), NULL_WORDS))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("userId", ["user", "id"]),
        ("UserID", ["user", "id"]),
        ("unixReviewTime", ["unix", "review", "time"]),
        ("HOUSEHOLD_KEY", ["household", "key"]),
        ("event time", ["event", "time"]),
    ],
)
def test_names_of_any_convention_have_words(name: str, words: list[str]) -> None:
    assert words_of(name) == words


@pytest.mark.parametrize(
    "user",
    USERS,
)
@pytest.mark.parametrize("item", ["item_id", "movieId"])
def test_users_are_known_by_their_names(user: str, item: str) -> None:
    found = roles_of({"price": [1.5, 2.5, 3.5], user: ["a", "b", "a"], item: [1, 2, 3], "ts": SECONDS})
    assert (found["user_id"], found["item_id"], found["event_time"]) == ([user], [item], ["ts"])


@pytest.mark.parametrize(
    "item",
    ITEMS,
)
def test_items_are_known_by_their_names(item: str) -> None:
    found = roles_of({"basket_id": [7, 8, 9], item: ["x", "y", "z"], "userId": [1, 2, 3], "date": ["2024-05-01"] * 3})
    assert (found["user_id"], found["item_id"], found["event_time"]) == (["userId"], [item], ["date"])


@pytest.mark.parametrize(
    ("name", "values", "written"),
    [
        ("timestamp", SECONDS, "epoch_s"),
        ("timestamp", [value * 1000 for value in SECONDS], "epoch_ms"),
        ("ts", [value * 10**6 for value in SECONDS], "epoch_us"),
        ("ts", [value * 10**9 for value in SECONDS], "epoch_ns"),
        ("unixReviewTime", [str(value) for value in SECONDS], "epoch_s"),
        ("event_time", ["2024-05-31 10:00:00", "2024-05-31T10:00:00Z", "2024-06-01"], "auto"),
        ("created_at", pd.to_datetime(SECONDS, unit="s"), "auto"),
        ("watched", pd.to_datetime(SECONDS, unit="s"), "auto"),
    ],
)
def test_times_are_known_by_name_and_content(name: str, values: list[object], written: str) -> None:
    table = pa.Table.from_pandas(pd.DataFrame({"u": ["a"] * 3, name: values}))
    with duckdb.connect() as connection:
        columns = profiles(connection, table, NULL_WORDS)
    assert candidates(columns)["event_time"] == [name]
    assert columns[name].time_format == written


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("date", ["12/1/2010 8:26", "1/13/2011 9:00", "13.5.2024"]),
        ("day", [20240531, 20240601, 20240602]),
        ("hour_of_week", [1, 39, 168]),
        ("basket_id", [31198570044, 31198570045, 31198570046]),
    ],
)
def test_unreadable_times_are_not_candidates(name: str, values: list[object]) -> None:
    assert roles_of({"userId": [1, 2, 3], "itemid": [1, 2, 3], name: values})["event_time"] == []


def test_user_columns_come_before_session_columns_and_both_are_kept() -> None:
    found = roles_of({"session_id": ["a", "b"], "user_id": [1, 2], "product": ["p", "q"], "product_id": [5, 6]})
    assert found["user_id"] == ["user_id", "session_id"]
    assert found["item_id"] == ["product_id", "product"]


def test_a_column_with_gaps_comes_after_a_complete_one() -> None:
    sparse = ["a", *[None] * 19]
    found = roles_of({"user_id": sparse, "session_id": range(20), "product_id": sparse, "product": range(20)})
    assert found["user_id"] == ["session_id", "user_id"]
    assert found["item_id"] == ["product", "product_id"]
    nearly = [None, *["a"] * 19]
    assert roles_of({"user_id": nearly, "session_id": range(20)})["user_id"] == ["user_id", "session_id"]


@pytest.mark.parametrize(
    ("name", "values", "role"),
    [
        ("rating", [0.5, 5.0, 3.5], "weight"),
        ("overall", ["5.0", "1.0", "3.0"], "weight"),
        ("quantity", [1, -2, 3], "weight"),
        ("event", ["view", "cart", "view"], "event_type"),
        ("eventType", ["view", "cart", "view"], "event_type"),
        ("position", [0, 1, 2], "position"),
    ],
)
def test_weights_types_and_positions(name: str, values: list[object], role: Role) -> None:
    assert roles_of({"u": ["a"] * 3, name: values})[role] == [name]


@pytest.mark.parametrize(
    ("name", "values"),
    [("device_type", ["phone", "desk", "phone"]), ("unit_price", [1.0, 2.0, 3.0]), ("score", ["good", "bad", "good"])],
)
def test_similar_names_of_other_things_have_no_role(name: str, values: list[object]) -> None:
    assert not any(name in names for names in roles_of({"u": ["a"] * 3, name: values}).values())
