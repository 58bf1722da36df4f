"""Conditions are single expressions over known columns, and can reach nothing else."""

from __future__ import annotations

from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from hmamba.errors import ConfigError
from hmamba.rules.expressions import Expressions

TABLE = pa.table(
    {
        "item_index": pa.array([1, 2, 3], pa.int32()),
        "category": ["a", "b", None],
        "tags": pa.array([["x"], ["y", "z"], None]),
        "first_seen": pa.array([datetime(2024, 1, 1)] * 3, pa.timestamp("us")),
        "price": [1.0, 2.0, 3.0],
        "on sale": [True, False, True],
    }
)
PEOPLE = pa.table({"user_id": ["u", "v"], "age": [17, None], "country": ["x", "z"]})


@pytest.fixture(scope="module")
def database() -> Expressions:
    return Expressions(TABLE, PEOPLE.schema, datetime(2024, 2, 1))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("items.category = 'a'", [True, False, None]),
        ("Items.Price > 1 -- a comment", [False, True, True]),
        ('items."on sale"', [True, False, True]),
        ("items.price", None),
        ("len(list_filter(items.tags, lambda x: x = 'y')) > 0", [False, True, None]),
        ("items.first_seen >= night.day - 30", [True] * 3),
        ("items.first_seen > night.day - 30", [False] * 3),
        ("night.\"end\" = TIMESTAMP '2024-02-01' AND night.day = DATE '2024-01-31'", [True] * 3),
        ("CASE WHEN items.price > 1 THEN 1 ELSE 0 END", [0, 1, 1]),
    ],
)
def test_conditions_over_items(database: Expressions, text: str, values: list[object] | None) -> None:
    if values is None:
        with pytest.raises(ConfigError, match=r"its type is DOUBLE, and it must be true or false\. Correct"):
            database.checked(text, "x", "condition")
        return
    found = database.checked(text, "x", "condition")
    assert database.of_items(found).to_pylist() == values
    assert not found.is_mixed


def test_conditions_over_users_and_over_both(database: Expressions) -> None:
    young = database.checked("users.age < 18", "x", "condition")
    assert database.of_users(young, PEOPLE).to_pylist() == [True, None]
    both = database.checked("list_contains(items.tags, users.country)", "x", "condition")
    assert both.is_mixed
    rows, places = np.array([0, 1, 1, 1]), np.array([0, 0, 1, 2])
    assert database.of_pairs(both, PEOPLE, rows, places).to_pylist() == [True, False, True, None]


def test_rows_with_equal_values_are_one_class(database: Expressions) -> None:
    table = pa.table({"a": [1, 1, None, None], "b": pa.array([["x"], ["x"], None, None])})
    codes, first = database.classes(table, ("a", "b"))
    assert codes.tolist() == [codes[0], codes[0], codes[2], codes[2]]
    assert codes[0] != codes[2]
    assert sorted(first.tolist()) == [0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("items.categry = 'a'", "items has no column 'categry'. The closest are items.category"),
        ("category = 'a'", "'category' is no column. The closest are items.category"),
        ("users.age > 1", "users cannot be read here, only items"),
        ("orders.price > 1", "'orders' is no column. The closest are items.price"),
        ("true) FROM items --", "Parser Error: syntax error"),
        ("true; DROP TABLE items", "Parser Error"),
        ("1, 2", "single expression"),
        ("", "Parser Error"),
        ("(SELECT count(*) FROM items) > 0", "it has a query"),
        ("EXISTS (SELECT 1)", "it has a query"),
        ("items.price IN (SELECT 1)", "it has a query"),
        ("row_number() OVER () > 1", "it has a window function"),
        ("sum(items.price) > 1", "sum() is an aggregate"),
        ("COLUMNS('.*')", "it has *"),
        ("items.price > ?", "it has a parameter"),
        ("items.price > $rule", "it has a parameter"),
        ("random() > 0.5", "random() does not depend on its arguments alone. Use night.day"),
        ("now() > items.first_seen", "now() does not depend"),
        ("current_date > items.first_seen", "'current_date' is no column"),
        ("current_localtimestamp() > items.first_seen", "does not depend"),
        ("read_csv('/etc/passwd')", "table function"),
        ("getenv('HOME') = ''", "does not exist"),
        ("items.price > 'x'", "Could not convert string 'x'"),
        ("nothing(items.price)", "does not exist"),
    ],
)
def test_what_is_refused(database: Expressions, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        database.of_items(database.checked(text, "rules.toml: [[deny]] 'x': where", "condition", ("items",)))
    assert str(caught.value).startswith("rules.toml: [[deny]] 'x': where = ")
    assert message in str(caught.value)


def test_tables_that_an_expression_may_not_read(database: Expressions) -> None:
    with pytest.raises(ConfigError, match="users cannot be read here, only items"):
        database.checked("users.age", "x", "value", ("items",))
    with pytest.raises(ConfigError, match="must be a date or a time"):
        database.checked("items.price", "x", "time", ("items",))


def test_files_and_settings_cannot_be_reached(database: Expressions) -> None:
    for query in ("SELECT * FROM read_text('/etc/hostname')", "SET memory_limit = '1GB'", "ATTACH '/tmp/x.duckdb'"):
        with pytest.raises(duckdb.Error):
            database.connection.execute(query)
