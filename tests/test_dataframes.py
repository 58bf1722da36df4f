"""Frames of several libraries, ids as text, and the messages about what is neither."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from hmamba.dataframes import from_arrow, positions, texts_of, to_arrow, type_of_ids
from hmamba.errors import InputError

COLUMNS: dict[str, list[Any]] = {"user": ["a", "b"], "n": [1, 2]}


@pytest.mark.parametrize(
    ("frame", "library"),
    [
        (pd.DataFrame(COLUMNS), "pandas"),
        (pl.DataFrame(COLUMNS), "polars"),
        (pl.LazyFrame(COLUMNS), "polars"),
        (pa.table(COLUMNS), "pyarrow"),
    ],
)
def test_a_frame_of_any_library_comes_back_as_one_of_that_library(frame: Any, library: str) -> None:
    table, found = to_arrow(frame, "interactions")
    assert (table.to_pydict(), found) == (COLUMNS, library)
    back = from_arrow({"n": pa.array([1, 2])}, found)
    assert type(back).__module__.startswith(library)


@pytest.mark.parametrize("frame", [[1, 2], None, "events.csv", pd.DataFrame({"mixed": [1, "x"]})])
def test_what_is_no_frame_is_named_by_its_argument(frame: Any) -> None:
    with pytest.raises(InputError, match=r"^items cannot be read .*Give a pandas, Polars or PyArrow frame"):
        to_arrow(frame, "items")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.int32(), pa.int32()),
        (pa.string(), pa.string()),
        (pa.dictionary(pa.int8(), pa.int64()), pa.int64()),
        (pa.uuid(), pa.string()),
    ],
)
def test_ids_in_results_have_the_type_of_the_frame(kind: pa.DataType, expected: pa.DataType) -> None:
    assert type_of_ids(kind) == expected


@pytest.mark.parametrize(
    "given", [[1, 2], (1, 2), np.array([1, 2]), pd.Series([1, 2]), pl.Series([1, 2]), ["1", "2"], [1.0, 2.0]]
)
def test_ids_of_any_sequence_are_text(given: Any) -> None:
    assert texts_of(given, "user").to_pylist() == ["1", "2"]


def test_only_empty_text_is_no_id() -> None:
    assert texts_of(["", "NULL", "nan"], "user").to_pylist() == [None, "NULL", "nan"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("anna", r"users = 'anna': give a list of user ids, such as \['anna'\]"),
        (7, r"users = 7: give a list of user ids"),
        (pd.DataFrame(COLUMNS), "users is a frame: give one of its columns"),
        ([1, "x"], "users cannot be read .* Give ids of one type"),
        ([[1], [2]], r"users are of type list.* Give them as "),
    ],
)
def test_what_are_no_ids_is_told(given: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        texts_of(given, "user")


def test_positions_are_those_of_the_model_and_unknown_ids_are_named() -> None:
    known = pa.array([None, "a", "b", "c"])
    assert positions(pa.array(["c", "a", "c"]), known, "item").tolist() == [3, 1, 3]
    with pytest.raises(InputError, match=r"^item 'x', 'y': unknown to the model"):
        positions(pa.array(["x", "a", "y"]), known, "item")
    with pytest.raises(InputError, match=r"^item '0', '1', '2' and 1,997 more: unknown"):
        positions(pa.array([str(number) for number in range(2000)]), known, "item")


def test_uuids_are_ids() -> None:
    one = uuid.UUID(int=5)
    column = pa.array([one.bytes], pa.binary(16)).cast(pa.binary(16))
    assert texts_of(pa.chunked_array([column]), "item").to_pylist() == [str(one)]
