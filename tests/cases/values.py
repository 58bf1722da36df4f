"""Cases of ids, times, words and weights."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal

import pyarrow as pa

from tests.cases.build import EVENTS, FILE, ROWS, USER_IDS, Case, csv, jsonl, parquet, table, with_first

NAN = float("nan")
USERS, ITEMS, TIMES = EVENTS["user_id"], EVENTS["item_id"], EVENTS["event_time"]
SECONDS = [int((time - datetime(1970, 1, 1)).total_seconds()) for time in TIMES.to_pylist()]
FIRST, SECOND = EVENTS.slice(0, 389), EVENTS.slice(389)
AT_FIRST = "SELECT CAST(min(event_time) AS VARCHAR) FROM interactions"


def _uuid(number: int) -> uuid.UUID:
    return uuid.UUID(int=0xA0EEBC999C0B4EF8BB6D6BB900000000 + number)


UUIDS = [_uuid(user) for user in USERS.to_pylist()]


def _second_as(name: str, kind: pa.DataType) -> pa.Table:
    at = EVENTS.schema.get_field_index(name)
    return SECOND.set_column(at, name, SECOND[name].cast(kind))


def _timed(name: str, form: str, first: str, config: str = "", loaded: int = ROWS) -> Case:
    """All times written in one form; ``first`` is what the first becomes."""
    written = [f"{time:{form}}" for time in TIMES.to_pylist()]
    found = (AT_FIRST, [(first,)])
    return Case(name, {f"{FILE}.csv": csv(table(event_time=written), ";")}, config, check=found, loaded=loaded)


def _abbreviated(zone: str) -> Case:
    return Case(
        f"zone_abbreviation_{zone.lower()}",
        {f"{FILE}.csv": csv(table(event_time=lambda time: f"{time} {zone}"))},
        code=3,
        told=[f"event_time = '2024-05-18 09:54:19 {zone}'", "mean several zones each", "files_refused_whole is 1"],
    )


IDS = [
    Case(
        "bignumeric_column_and_refused_row",
        {
            f"{FILE}.parquet": parquet(
                table(
                    user_id=with_first(USERS, None),
                    price=pa.array([Decimal("1.5")] * ROWS, pa.decimal256(76, 38)),
                )
            )
        },
        loaded=ROWS - 1,
        broken={"user_id_present": 1},
        check=("SELECT CAST(record ->> 'price' AS DECIMAL(4, 2)) FROM quarantine", [(Decimal("1.50"),)]),
    ),
    Case(
        "decimal256_item_ids",
        {f"{FILE}.parquet": parquet(table(item_id=ITEMS.cast(pa.decimal256(76, 38))))},
    ),
    Case(
        "columns_differ_by_case",
        {f"{FILE}.csv": csv(EVENTS.rename_columns(["ID", "id", "event_time"]))},
        '[source.columns]\nuser_id = "ID"\nitem_id = "id"\n',
    ),
    Case(
        "columns_differ_by_case_parquet",
        {
            f"{FILE}.parquet": parquet(
                table(user_id=with_first(USERS, None)).rename_columns(["ID", "id", "event_time"]).append_column(
                    "Event_Time", TIMES
                )
            )
        },
        '[source.columns]\nuser_id = "ID"\nitem_id = "id"\n',
        loaded=ROWS - 1,
        broken={"user_id_present": 1},
    ),
    Case(
        "columns_differ_by_case_json",
        {f"{FILE}.jsonl": jsonl(EVENTS.rename_columns(["ID", "id", "event_time"]))},
        '[source.columns]\nuser_id = "ID"\nitem_id = "id"\n',
    ),
    *(
        Case(
            f"duplicate_column_name_{ending}",
            {f"{FILE}.{ending}": write(EVENTS.append_column("user_id", USERS))},
            code=2,
            told=[f"landing/interactions/e.{ending}: two columns are called 'user_id'"],
        )
        for ending, write in (("parquet", parquet), ("csv", csv))
    ),
    *(
        Case(
            f"duplicate_of_an_unwanted_column_{ending}",
            {f"{FILE}.{ending}": write(table(user_id=with_first(USERS, None), x=USERS).append_column("x", ITEMS))},
            loaded=ROWS - 1,
            broken={"user_id_present": 1},
            check=(
                "SELECT record ->> 'x', record ->> 'x (5)' FROM quarantine",
                [(str(USERS[0].as_py()), str(ITEMS[0].as_py()))],
            ),
        )
        for ending, write in (("parquet", parquet), ("csv", csv))
    ),
    Case(
        "fixed_binary_uuid",
        {f"{FILE}.parquet": parquet(table(user_id=pa.array([user.bytes for user in UUIDS], pa.binary(16))))},
        users={str(_uuid(int(user))) for user in USER_IDS},
    ),
    Case(
        "uuid_type_and_its_text",
        {
            f"{FILE}.parquet": parquet(table(user_id=pa.array([user.bytes for user in UUIDS], pa.uuid())).slice(9)),
            f"{FILE}.csv": csv(table(user_id=[str(user) for user in UUIDS]).slice(0, 9)),
        },
        users={str(_uuid(int(user))) for user in USER_IDS},
    ),
    *(
        Case(
            f"ids_of_type_{name}",
            {f"{FILE}.parquet": parquet(table(item_id=pa.array([value] * ROWS, kind)))},
            code=2,
            told=[f"landing/interactions/e.parquet: column 'item_id' is of type {kind}"],
        )
        for name, value, kind in (
            ("binary", b"x", pa.binary()),
            ("fixed_binary_8", b"x" * 8, pa.binary(8)),
            ("list", ["x"], pa.list_(pa.field("element", pa.string()))),
            ("struct", {"a": 1}, pa.struct({"a": pa.int64()})),
        )
    ),
    Case(
        "int_then_float_ids",
        {
            f"{FILE}30.parquet": parquet(FIRST),
            f"{FILE}31.parquet": parquet(
                SECOND.set_column(0, "user_id", with_first(SECOND["user_id"].cast(pa.float64()), None))
            ),
        },
        loaded=ROWS - 1,
        broken={"user_id_present": 1},
    ),
    Case(
        "int_then_decimal_ids",
        {
            f"{FILE}30.parquet": parquet(FIRST),
            f"{FILE}31.parquet": parquet(_second_as("item_id", pa.decimal128(30, 4))),
        },
    ),
    Case(
        "int_then_json_float_ids",
        {
            f"{FILE}30.parquet": parquet(FIRST),
            f"{FILE}31.jsonl": jsonl(_second_as("user_id", pa.float64())).replace(b"1001.0", b"1.001e3"),
        },
    ),
    Case(
        "float_ids_that_are_not_whole",
        {f"{FILE}.parquet": parquet(table(item_id=with_first(ITEMS.cast(pa.float64()), 500.5, 2.0**60)))},
        loaded=ROWS - 2,
        broken={"item_id_readable": 2},
        told=["item_id = 500.5", "whole numbers (as floats, below 2^53)"],
    ),
    *(
        Case(
            f"nan_float_{name}s",
            {
                f"{FILE}.parquet": parquet(
                    table(**{name: with_first(EVENTS[name].cast(pa.float64()), *[NAN] * 11)}),
                )
            },
            loaded=ROWS - 11,
            broken={f"{name}_present": 11},
        )
        for name in ("user_id", "item_id")
    ),
    Case(
        "json_object_ids",
        {f"{FILE}.jsonl": jsonl(table(item_id=pa.array([{"$oid": "5"}] * 2 + [None] * (ROWS - 2)))).replace(
            b'"item_id": null', b'"item_id": 500.0')},
        loaded=ROWS - 2,
        broken={"item_id_readable": 2},
        told=['item_id = {"$oid": "5"}'],
        items={"500"},
    ),
]  # fmt: skip

WORDS = [
    Case(
        "null_words",
        {f"{FILE}.csv": csv(table(user_id=["\\N", "NULL", " \\N ", "", *map(str, USERS.to_pylist()[4:])]))},
        loaded=ROWS - 4,
        broken={"user_id_present": 4},
        told=["'\\N' stands for an absent value: see source.null_words"],
    ),
    Case(
        "null_words_in_items_and_times",
        {
            f"{FILE}.csv": csv(
                table(
                    item_id=["NULL", "\\N", *map(str, ITEMS.to_pylist()[2:])],
                    event_time=[*map(str, TIMES.to_pylist()[:-2]), "NULL", "\\N"],
                )
            )
        },
        loaded=ROWS - 4,
        broken={"item_id_present": 2, "event_time_readable": 2},
    ),
    Case(
        "null_words_in_parquet_and_json",
        {
            f"{FILE}30.parquet": parquet(
                FIRST.set_column(0, "user_id", pa.array(["\\N", *map(str, FIRST["user_id"].to_pylist()[1:])]))
            ),
            f"{FILE}31.jsonl": jsonl(
                SECOND.set_column(0, "user_id", pa.array(["NULL", *map(str, SECOND["user_id"].to_pylist()[1:])]))
            ),
        },
        loaded=ROWS - 2,
        broken={"user_id_present": 2},
    ),
    Case(
        "null_words_of_ones_own",
        {f"{FILE}.csv": csv(table(user_id=["n/a", "\\N", *map(str, USERS.to_pylist()[2:])]))},
        '[source]\nnull_words = ["n/a"]\n',
        loaded=ROWS - 1,
        broken={"user_id_present": 1},
        users={*USER_IDS, "\\N"},
    ),
    Case(
        "words_for_nothing_as_ids",
        {f"{FILE}.csv": csv(table(user_id=["nan", "nan", "None", *map(str, USERS.to_pylist()[3:])]))},
        users={*USER_IDS, "nan", "None"},
        told=["user 'None' (1), user 'nan' (2)", "add them to source.null_words"],
    ),
    Case(
        "blanks_around_ids",
        {f"{FILE}.csv": csv(table(user_id=lambda user: f" {user}\t", item_id=lambda item: f"{item} "))},
    ),
]

TIMED = [
    Case(
        "epoch_under_auto",
        {f"{FILE}.parquet": parquet(table(event_time=SECONDS))},
        code=3,
        told=["event_time = 1716026059", "set source.time_format = 'epoch_s'"],
    ),
    Case(
        "epoch_ms_under_auto",
        {f"{FILE}.csv": csv(table(event_time=[second * 1000 for second in SECONDS]))},
        code=3,
        told=["event_time = '1716026059000'", "set source.time_format = 'epoch_ms'"],
    ),
    Case(
        "epoch_ns_under_auto",
        {f"{FILE}.jsonl": jsonl(table(event_time=[second * 10**9 for second in SECONDS]))},
        code=3,
        told=["event_time = 1716026059000000000", "set source.time_format = 'epoch_ns'"],
    ),
    Case(
        "text_as_epoch",
        {f"{FILE}.csv": csv(EVENTS)},
        '[source]\ntime_format = "epoch_s"\n',
        code=3,
        told=["source.time_format = 'epoch_s' reads numbers", "set it to 'auto'"],
    ),
    Case(
        "dates_as_numbers",
        {f"{FILE}.parquet": parquet(table(event_time=[int(f"{time:%Y%m%d}") for time in TIMES.to_pylist()]))},
        code=3,
        told=["20240518 looks like a date, but is a number"],
    ),
    *(
        Case(
            f"times_of_digits_{name}",
            {f"{FILE}.{name}": write(table(event_time=[int(f"{time:%Y%m%d%H%M%S}") for time in TIMES.to_pylist()]))},
            settings,
            code=3,
            told=["20240518095419 looks like a date and a time", "write it as text, 20240518T095419", *told],
        )
        for name, write, settings, told in (
            ("csv", csv, "", []),
            ("parquet", parquet, '[source]\ntime_format = "epoch_ms"\n', ["set source.time_format to 'auto'"]),
        )
    ),
    Case(
        "days_since_1970_as_epoch_s",
        {f"{FILE}.parquet": parquet(table(event_time=[second // 86_400 for second in SECONDS]))},
        '[source]\ntime_format = "epoch_s"\n',
        code=3,
        told=["event_time_not_before (event_time = 19861)", "source.time_format = 'epoch_s' may be the wrong unit"],
    ),
    Case(
        "epoch_s_as_epoch_ms",
        {f"{FILE}.parquet": parquet(table(event_time=SECONDS))},
        '[source]\ntime_format = "epoch_ms"\n',
        code=3,
        told=[
            "event_time_not_before (event_time = 1716026059)",
            "looks like 'epoch_s', but source.time_format is 'epoch_ms'",
        ],
    ),
    *(
        Case(
            f"epoch_{unit}_{ending}",
            {f"{FILE}.{ending}": write(table(event_time=[second * ticks for second in SECONDS]))},
            f'[source]\ntime_format = "epoch_{unit}"\n',
            check=(AT_FIRST, [("2024-05-18 09:54:19",)]),
        )
        for unit, ticks in (("s", 1), ("us", 10**6), ("ns", 10**9))
        for ending, write in (("parquet", parquet), ("csv", csv), ("jsonl", jsonl))
    ),
    Case(
        "one_whole_file_refused",
        {
            f"{FILE}a.parquet": parquet(table(event_time=SECONDS).slice(12)),
            f"{FILE}b.parquet": parquet(table(event_time=[second * 1000 for second in SECONDS]).slice(0, 12)),
        },
        '[source]\ntime_format = "epoch_s"\n',
        code=3,
        told=[
            "files_refused_whole is 1",
            "all 12 rows of landing/interactions/eb.parquet",
            "event_time_not_after (event_time = 1716026059000)",
            "looks like 'epoch_ms'",
        ],
    ),
    _timed("iso_minutes_z", "%Y-%m-%dT%H:%MZ", "2024-05-18 09:54:00"),
    _timed("iso_week_dates", "%G-W%V-%uT%H:%M:%S", "2024-05-18 09:54:19"),
    _timed("iso_ordinal_dates", "%Y-%jT%H:%M:%SZ", "2024-05-18 09:54:19"),
    _timed("iso_basic", "%Y%m%dT%H%M%SZ", "2024-05-18 09:54:19"),
    _timed("iso_comma", "%Y-%m-%dT%H:%M:%S,250Z", "2024-05-18 09:54:19.25"),
    _timed("offset_after_a_blank", "%Y-%m-%d %H:%M:%S +02:00", "2024-05-18 07:54:19"),
    _timed("offset_of_hours", "%Y-%m-%dT%H:%M:%S+02", "2024-05-18 07:54:19"),
    _timed("offset_without_a_colon", "%Y-%m-%dT%H:%M:%S-0330", "2024-05-18 13:24:19"),
    _timed("zone_utc", "%Y-%m-%d %H:%M:%S UTC", "2024-05-18 09:54:19", '[source]\ntimezone = "Europe/Paris"\n'),
    _timed("zone_gmt", "%Y-%m-%d %H:%M:%S GMT", "2024-05-18 09:54:19", '[source]\ntimezone = "Europe/Paris"\n'),
    _timed("zone_region", "%Y-%m-%d %H:%M:%S Europe/London", "2024-05-18 08:54:19"),
    _timed("zone_none", "%Y-%m-%d %H:%M:%S", "2024-05-18 07:54:19", '[source]\ntimezone = "Europe/Paris"\n'),
    *(_abbreviated(zone) for zone in ("BST", "EST", "PST", "CET")),
]

MEANT = [
    Case(
        "weights_that_are_no_numbers",
        {f"{FILE}.csv": csv(table(w=["1,5", "5 stars", *["1.5"] * (ROWS - 2)]), ";")},
        '[source.columns]\nweight = "w"\n',
        loaded=ROWS - 2,
        broken={"weight_is_number": 2},
        told=["weight_is_number (w = '1,5')", "with a point before decimals"],
    ),
    Case(
        "event_types",
        {f"{FILE}.csv": csv(table(kind=[*["buy", "view"] * 211, "Buy", "", "NULL"]))},
        '[source.columns]\nevent_type = "kind"\n[events.buy]\n[events.view]\ntarget = false\n',
        loaded=ROWS - 3,
        broken={"event_type_known": 3},
        told=["event_type_known (kind = 'Buy')", "[events] names buy, view"],
        check=("SELECT event_type, count(*) FROM interactions GROUP BY 1 ORDER BY 1", [("buy", 211), ("view", 211)]),
    ),
    Case(
        "returns_beside_purchases",
        {
            f"{FILE}a.parquet": parquet(table(w=[2.0] * ROWS)),
            f"{FILE}b.parquet": parquet(pa.concat_tables([table(w=[w] * ROWS).slice(0, 9) for w in (-1.0, -3.0)])),
        },
        '[source.columns]\nweight = "w"\n',
        loaded=ROWS + 9,
        duplicate=9,
        check=("SELECT weight, count(*) FROM interactions GROUP BY 1 ORDER BY 1", [(-3.0, 9), (2.0, ROWS)]),
    ),
    *(
        Case(
            f"positions_{ending}",
            {f"{FILE}.{ending}": write(EVENTS.drop_columns(["event_time"]).append_column("step", pa.array(steps)))},
            '[source.columns]\nposition = "step"\n',
            loaded=ROWS - 1,
            broken={"position_readable": 1},
            told=["position_readable (step = "],
            check=("SELECT CAST(max(event_time) AS VARCHAR) FROM interactions", [("1970-01-01 00:00:00.000424",)]),
        )
        for ending, write, steps in (
            ("csv", csv, ["x", *map(str, range(1, ROWS))]),
            ("parquet", parquet, [0.5, *map(float, range(1, ROWS))]),
            ("jsonl", jsonl, [None, *range(1, ROWS)]),
        )
    ),
]  # fmt: skip

CASES = [*IDS, *WORDS, *TIMED, *MEANT]
