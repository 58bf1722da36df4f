"""One id for one thing, whatever type a file keeps it in."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hmamba.sources.values import Members, UnreadableType, ids, numbers, texts

WORDS = ("\\N", "NULL", "")
NAN = float("nan")


def members(*values: tuple[str | None, str | None]) -> Members:
    """JSON members as DuckDB gives them: kind and text."""
    return Members(pa.array([kind for kind, _ in values], pa.string()), pa.array([text for _, text in values]))


THOUSANDS = [
    pa.array([1000, None], pa.int16()),
    pa.array([1000, None], pa.uint64()),
    pa.array([1000.0, NAN], pa.float16()),
    pa.array([1000.0, NAN], pa.float32()),
    pa.array([1000.0, NAN], pa.float64()),
    pa.array([Decimal("1000"), None], pa.decimal128(4)),
    pa.array([Decimal("1000.00"), None], pa.decimal128(10, 2)),
    pa.array([Decimal("1000.00"), None], pa.decimal256(60, 30)),
    pa.array(["1000", None]),
    pa.array([" 1000\t", "\\N"]),
    pa.array(["1000", " NULL "], pa.large_string()),
    pa.array(["1000", ""], pa.string_view()),
    pa.array(["1000", ""]).dictionary_encode(),
    pa.array([1000.0, NAN]).dictionary_encode(),
    members(("BIGINT", "1000"), ("NULL", None)),
    members(("UBIGINT", "1000"), (None, None)),
    members(("DOUBLE", "1000.0"), ("VARCHAR", "\\N")),
    members(("VARCHAR", " 1000 "), ("VARCHAR", "  ")),
]


@pytest.mark.parametrize("column", THOUSANDS, ids=lambda column: str(getattr(column, "type", "members")))
def test_a_thousand_is_one_id_and_what_is_absent_is_none(column: pa.Array | Members) -> None:
    found = ids(column, WORDS)
    assert found.texts().to_pylist() == ["1000", None]
    assert found.unreadable.to_pylist() == [False, False]


@pytest.mark.parametrize(
    ("column", "expected", "unreadable"),
    [
        (pa.array([0.0, -0.0, -7.0]), ["0", "0", "-7"], [False] * 3),
        (pa.array([1.5, NAN, 3.0]), [None, None, "3"], [True, False, False]),
        (pa.array([float("inf"), 2.0**53, 2.0**53 - 1]), [None, None, "9007199254740991"], [True, True, False]),
        (pa.array([2.0**24, 2.0**24 - 1], pa.float32()), [None, "16777215"], [True, False]),
        (pa.array([2**63, 2**64 - 1], pa.uint64()), ["9223372036854775808", "18446744073709551615"], [False] * 2),
        (pa.array([Decimal("1.5"), Decimal("0")], pa.decimal128(20, 10)), [None, "0"], [True, False]),
        (pa.array([Decimal(10**30)], pa.decimal128(38, 5)), [str(10**30)], [False]),
        (pa.array([True, False, None]), ["true", "false", None], [False] * 3),
        (pa.nulls(2), [None, None], [False, False]),
        (pa.array(["0012", "1000.0", "nan", "null", "a b"]), ["0012", "1000.0", "nan", "null", "a b"], [False] * 5),
        (members(("OBJECT", "{}"), ("ARRAY", "[1]"), ("BOOLEAN", "true")), [None, None, "true"], [True, True, False]),
        (members(("DOUBLE", "1.5"), ("DOUBLE", "9007199254740992.0")), [None, None], [True, True]),
        (members(("DOUBLE", "123456789012345678901234567890")), ["123456789012345678901234567890"], [False]),
    ],
)  # fmt: skip
def test_what_is_an_id(column: Any, expected: list[str | None], unreadable: list[bool]) -> None:
    found = ids(column, WORDS)
    assert (found.texts().to_pylist(), found.unreadable.to_pylist()) == (expected, unreadable)


def test_sixteen_bytes_are_a_uuid() -> None:
    values = [uuid.UUID(int=number) for number in (0, 1, 2**127 + 12345)]
    column = pa.array([values[0].bytes, None, values[1].bytes, values[2].bytes], pa.binary(16))
    texts = [str(values[0]), None, str(values[1]), str(values[2])]
    assert ids(column, WORDS).texts().to_pylist() == texts
    assert ids(column.slice(1), WORDS).texts().to_pylist() == texts[1:]
    assert ids(column.slice(2), WORDS).texts().to_pylist() == texts[2:]
    assert ids(pa.array([value.bytes for value in values], pa.uuid()), WORDS).texts().to_pylist() == list(
        map(str, values)
    )


@pytest.mark.parametrize(
    "column",
    [
        pa.array([b"x"]),
        pa.array([b"x" * 8], pa.binary(8)),
        pa.array([["x"]]),
        pa.array([{"a": 1}]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.array([0], pa.timestamp("us")),
        pa.array([0], pa.date32()),
    ],
    ids=lambda column: str(column.type),
)
def test_types_that_are_no_ids(column: pa.Array) -> None:
    with pytest.raises(UnreadableType, match=r".") as caught:
        ids(column, WORDS)
    assert caught.value.kind == column.type


def test_text_for_people() -> None:
    assert texts(pa.array([" Thing ", "\\N", None, ""]), WORDS)[0].to_pylist() == ["Thing", None, None, None]
    assert texts(pa.array([7, None]), WORDS)[0].to_pylist() == ["7", None]
    found, unreadable = texts(
        members(("VARCHAR", " a "), ("BIGINT", "7"), ("OBJECT", "{}"), ("VARCHAR", "NULL")), WORDS
    )
    assert found.to_pylist() == ["a", "7", None, None]
    assert unreadable.to_pylist() == [False, False, True, False]
    with pytest.raises(UnreadableType):
        texts(pa.array([{"a": 1}]), WORDS)


def test_numbers_of_any_type() -> None:
    assert numbers(pa.array([1, None]), WORDS).to_pylist() == [1.0, None]
    assert numbers(pa.array([" 1.5 ", "\\N", "x"]), WORDS).to_pylist() == ["1.5", None, "x"]
    assert numbers(members(("DOUBLE", "1.5"), ("VARCHAR", "2"), ("OBJECT", "{}")), WORDS).to_pylist() == [
        "1.5",
        "2",
        None,
    ]
    assert np.isnan(numbers(pa.array([NAN], pa.float32()), WORDS)[0].as_py())
    with pytest.raises(UnreadableType):
        numbers(pa.array([0], pa.timestamp("us")), WORDS)
