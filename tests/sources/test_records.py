"""Refused rows are written whatever they hold."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from decimal import Decimal

import pyarrow as pa

from hmamba.sources.records import as_json


def test_columns_of_any_type_and_name() -> None:
    columns = {
        "text": pa.array(['"é', None]),
        "number": pa.array([7, None]),
        "float": pa.array([float("nan"), 0.5]),
        "large": pa.array([Decimal("1.5"), None], pa.decimal256(76, 38)),
        "time": pa.array([datetime(2024, 1, 2, 3), None], pa.timestamp("us")),
        "far": pa.array([2**62, 0], pa.timestamp("us")),
        "days": pa.array([2**30, 0], pa.date32()),
        "span": pa.array([2**62, 0], pa.duration("s")),
        "bytes": pa.array([b"\xff\x00", b"abc"]),
        "nested": pa.array([{"a": [Decimal("1.5")]}, None]),
        "coded": pa.array(["x", None]).dictionary_encode(),
    }
    batch = pa.record_batch([pa.array([1, 2]), *columns.values(), pa.array([8, 9])], ["line", *columns, "number"])
    first, second = map(json.loads, as_json(batch, [*columns, "number"]))
    assert (first["text"], first["number"], first["number (12)"], first["float"]) == ('"é', 7, 8, "nan")
    assert (Decimal(first["large"]), first["time"][:19], first["nested"]) == (
        1.5,
        "2024-01-02 03:00:00",
        {"a": ["1.5"]},
    )
    assert (first["bytes"], second["bytes"], first["coded"], second["coded"]) == ("ff00", "abc", "x", None)
    assert second["far"].startswith("1970-01-01")
    assert all(isinstance(first[name], str) for name in ("far", "days", "span"))


def test_uuids_are_written_as_the_warehouse_writes_them() -> None:
    """Also those whose bytes happen to be text."""
    ids = [uuid.UUID(bytes=b"abcdefghijklmnop"), None, uuid.UUID(int=7)]
    column = pa.array([bytes(16), *(None if value is None else value.bytes for value in ids)], pa.binary(16))
    for kept in (column, column.dictionary_encode()):
        batch = pa.record_batch([kept], ["u"]).slice(1)
        assert [json.loads(row)["u"] for row in as_json(batch, ["u"])] == [str(ids[0]), None, str(ids[2])]
