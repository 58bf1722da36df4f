"""Cases of files, folders, links, encodings and catalogues."""

from __future__ import annotations

import pyarrow as pa

from tests.cases.build import EVENTS, FILE, ITEM_IDS, ROWS, USER_IDS, Case, csv, jsonl, parquet, table

HALVES = parquet(EVENTS.slice(0, 200)), parquet(EVENTS.slice(200))
OTHERS = parquet(table(user_id=lambda user: user + 50_000))
ALL_USERS = USER_IDS | {str(int(user) + 50_000) for user in USER_IDS}
LANDING = "landing/interactions"
CATALOGUE = '[catalogue]\npath = "landing/cat.{}"\ntitle = "name"\n'
PATHS = '[catalogue]\npath = "landing/cat.{}"\ncategory_path = ["path"]\n'
NAMES = pa.table(
    {"item_id": [int(item) for item in sorted(ITEM_IDS)], "name": [f"thing {i}" for i in sorted(ITEM_IDS)]}
)
PATHED = NAMES.append_column("path", pa.array([["a"]] * 24))
FLOATS = NAMES.set_column(0, "item_id", NAMES["item_id"].cast(pa.float64()))
WHOLE = {f"{FILE}.parquet": parquet(EVENTS)}
TITLED = "SELECT count(*) FROM items WHERE title IS NOT NULL AND item_index IS NOT NULL"


def _catalogued(name: str, ending: str, content: bytes, titles: int, told: tuple[str, ...] = ()) -> Case:
    files = {**WHOLE, f"landing/cat.{ending}": content}
    return Case(name, files, CATALOGUE.format(ending), check=(TITLED, [(titles,)]), told=told)


def _encoded(name: str, encoding: str, told: str, mark: bytes = b"") -> Case:
    return Case(name, {f"{FILE}.csv": mark + csv(EVENTS, ";", encoding)}, code=2, told=[told, "iconv -f UTF-"])


FOLDERS = [
    Case(
        "spark_success_marker",
        {
            f"{LANDING}/out.parquet/part-00000-1.c000.snappy.parquet": parquet(EVENTS),
            f"{LANDING}/out.parquet/.part-00000-1.c000.snappy.parquet.crc": b"crc",
            f"{LANDING}/out.parquet/_SUCCESS": b"",
        },
    ),
    Case(
        "temporary_and_log_folders",
        {
            **WHOLE,
            f"{LANDING}/_temporary/0/part-1.parquet": b"half",
            f"{LANDING}/_delta_log/00000.json": b"{}",
            f"{LANDING}/.partial/part-1.parquet": b"half",
            f"{LANDING}/e.csv.tmp-12": b"half",
        },
    ),
    Case(
        "hive_folders",
        {f"{LANDING}/dt=2024-05-30/a.parquet": HALVES[0], f"{LANDING}/dt=2024-05-31/a.parquet": HALVES[1]},
    ),
    Case(
        "symlinked_day_folder",
        {**WHOLE, "elsewhere/p.parquet": OTHERS},
        links={f"{LANDING}/dt=2024-05-31": "../../elsewhere"},
        loaded=2 * ROWS,
        users=ALL_USERS,
    ),
    Case(
        "symlinked_file",
        {**WHOLE, "elsewhere/p.parquet": OTHERS},
        links={f"{LANDING}/p.parquet": "../../elsewhere/p.parquet", f"{LANDING}/again.parquet": "e.parquet"},
        loaded=2 * ROWS,
        users=ALL_USERS,
    ),
    Case("symlink_cycle", WHOLE, links={f"{LANDING}/round": ".", f"{LANDING}/up": "../.."}),
    Case(
        "dangling_symlink",
        WHOLE,
        links={f"{LANDING}/gone.parquet": "nowhere.parquet"},
        code=2,
        told=["landing/interactions/gone.parquet is a link that leads nowhere"],
    ),
    Case(
        "symlink_out_of_the_root",
        {**WHOLE, "../outside/p.parquet": OTHERS},
        links={f"{LANDING}/out": "../../../outside"},
        code=2,
        told=["landing/interactions/out is a link that leads out of the root", "source.follow_links = true"],
    ),
    Case(
        "symlink_out_of_the_root_allowed",
        {**WHOLE, "../outside/p.parquet": OTHERS},
        "[source]\nfollow_links = true\n",
        links={f"{LANDING}/out": "../../../outside"},
        loaded=2 * ROWS,
        users=ALL_USERS,
    ),
    Case(
        "name_that_is_not_utf8",
        {f"{LANDING}/caf\udce9.parquet": parquet(EVENTS)},
        code=2,
        told=["landing/interactions/caf\\xe9.parquet: the name is not UTF-8"],
    ),
]

ENCODINGS = [
    _encoded("utf16_csv", "utf-16", "e.csv is UTF-16 text, and only UTF-8 is read"),
    _encoded("utf16_be_csv", "utf-16-be", "e.csv is UTF-16 text", b"\xfe\xff"),
    _encoded("utf16_without_mark", "utf-16-le", "e.csv is UTF-16LE text"),
    _encoded("utf16_be_without_mark", "utf-16-be", "e.csv is UTF-16BE text"),
    _encoded("utf32_csv", "utf-32", "e.csv is UTF-32 text"),
    Case(
        "utf16_json",
        {f"{FILE}.jsonl": jsonl(EVENTS).decode().encode("utf-16")},
        code=2,
        told=["e.jsonl is UTF-16 text", "iconv -f UTF-16 -t UTF-8"],
    ),
    Case("utf8_with_mark", {f"{FILE}.csv": b"\xef\xbb\xbf" + csv(EVENTS)}),
    Case(
        "latin1_csv",
        {f"{FILE}.csv": csv(table(user_id=lambda user: f"é{user}"), ";", "latin-1")},
        code=3,
        told=["record_readable ('\\xe9", "iconv -f WINDOWS-1252 -t UTF-8"],
    ),
    Case(
        "latin1_header",
        {f"{FILE}.csv": csv(EVENTS.append_column("é", EVENTS["user_id"]), ";", "latin-1")},
        code=2,
        told=["e.csv: the header line is not UTF-8", "iconv -f WINDOWS-1252 -t UTF-8"],
    ),
]

ROWLESS = [
    *(
        Case(f"no_rows_{name}", {f"{FILE}.{ending}": content}, code=2, told=[f"e.{ending} holds no rows"])
        for name, ending, content in (
            ("csv_header_only", "csv", csv(EVENTS.slice(0, 0))),
            ("json_empty_array", "json", b"[]"),
            ("jsonl_empty", "jsonl", b""),
            ("parquet", "parquet", parquet(EVENTS.slice(0, 0))),
        )
    ),
    Case("no_rows_beside_others", {**WHOLE, f"{FILE}.csv": csv(EVENTS.slice(0, 0))}),
]

DEEP = b"[" * 5000 + b"]" * 5000
DIGITS = b"1" * 5000
MANY_DIGITS = b'{"user_id": 1000, "item_id": 500, "event_time": "2024-05-18T09:54:19", "x": ' + DIGITS + b"}"
RECORDS = [
    *(
        Case(f"json_number_of_5000_digits_{name}", {f"{FILE}.{ending}": content}, duplicate=1)
        for name, ending, content in (
            ("in_the_first_line", "jsonl", MANY_DIGITS + b"\n" + jsonl(EVENTS)),
            ("in_an_array", "json", b"[" + b",".join([*jsonl(EVENTS).splitlines(), MANY_DIGITS]) + b"]"),
        )
    ),
    Case(
        "json_number_of_5000_digits_as_time",
        {f"{FILE}.jsonl": jsonl(EVENTS) + b'{"user_id": 1, "item_id": 2, "event_time": ' + DIGITS + b"}\n"},
        broken={"event_time_readable": 1},
        told=["event_time_readable (event_time = '1111"],
    ),
    Case(
        "json_with_a_trailing_comma",
        {f"{FILE}.jsonl": jsonl(EVENTS) + b'{"user_id": 1, "item_id": 2, "event_time": "soon",}\n'},
        broken={"event_time_readable": 1},
        told=["event_time_readable ("],
    ),
    Case(
        "json_nested_too_deeply",
        {f"{FILE}.jsonl": b'{"user_id": 1, "x": ' + DEEP + b"}\n" + jsonl(EVENTS)},
        broken={"event_time_readable": 1, "item_id_present": 1},
        refused=1,
    ),
    Case(
        "json_array_nested_too_deeply",
        {f"{FILE}.json": b"[" + DEEP + b"]"},
        code=2,
        told=["e.json: element 1 is nested too deeply", "Write one object a line"],
    ),
    Case(
        "csv_fields_too_many",
        {f"{FILE}.csv": csv(EVENTS) + b"1,2,Sat, 18 May 2024\n"},
        broken={"record_readable": 1},
        told=["A record has as many fields as the header line"],
    ),
    *(
        Case(f"csv_is_{name}", {f"{FILE}.csv": mark + csv(EVENTS)}, code=2, told=[f"e.csv is {what} file", "as CSV"])
        for name, mark, what in (
            ("zip", b"PK\x03\x04", "a zip or Excel"),
            ("excel", b"\xd0\xcf\x11\xe0", "an old Excel"),
        )
    ),
    Case(
        "source_elsewhere",
        WHOLE,
        '[source]\npath = "s3://bucket/events/*.parquet"\n',
        code=2,
        told=["source.path = 's3://bucket/events/*.parquet': only files of this machine are read"],
    ),
]

CATALOGUES = [
    Case(
        "catalogue_list_of_structs",
        {**WHOLE, "landing/cat.parquet": parquet(NAMES.append_column("path", pa.array([[{"name": "a"}]] * 24)))},
        PATHS.format("parquet"),
        code=2,
        told=["landing/cat.parquet: column 'path' is of type list<element: struct<name: string>>"],
    ),
    Case(
        "catalogue_path_of_objects_in_json",
        {**WHOLE, "landing/cat.jsonl": jsonl(NAMES.append_column("path", pa.array([[{"name": "a"}]] * 24)))},
        PATHS.format("jsonl"),
        code=3,
        told=["all 24 rows of landing/cat.jsonl", 'catalogue_text_readable (path = [{"name": "a"}])'],
    ),
    *(
        Case(
            f"catalogue_path_{name}",
            {**WHOLE, "landing/cat.jsonl": b'{"item_id": 500, "path": %s}\n' % path + jsonl(PATHED.slice(1))},
            PATHS.format("jsonl"),
            told=told,
            check=("SELECT len(any_value(category_path)[1]) FROM items WHERE item_id = '500'", [(length,)]),
        )
        for name, path, length, told in (
            ("nested_too_deeply", DEEP, None, ["landing/cat.jsonl: 1 of 24 rows refused", "catalogue_text_readable ("]),
            ("of_5000_digits", b"[%s]" % DIGITS, 5000, []),
        )
    ),
    Case(
        "catalogue_path_of_large_lists",
        {
            **WHOLE,
            "landing/cat.parquet": parquet(
                NAMES.append_column("path", pa.array([[" a ", None, "\\N", "b"]] * 24, pa.large_list(pa.string())))
            ),
        },
        PATHS.format("parquet"),
        check=("SELECT DISTINCT category_path, title FROM items", [(["a", "b"], "b")]),
    ),
    _catalogued("catalogue_matches", "parquet", parquet(NAMES), 24),
    _catalogued(
        "catalogue_matches_nothing",
        "csv",
        csv(NAMES.set_column(0, "item_id", pa.array([f"00000{item.as_py()}" for item in NAMES["item_id"]]))),
        0,
        ("names no item of the interactions: they have ids such as '500', it has ids such as '00000500'",),
    ),
    _catalogued("catalogue_of_floats", "parquet", parquet(FLOATS), 24),
    _catalogued(
        "catalogue_of_nan_ids",
        "parquet",
        parquet(NAMES.set_column(0, "item_id", pa.array([float("nan"), *range(501, 524)], pa.float64()))),
        23,
        ("landing/cat.parquet: 1 of 24 rows refused (4.167%)", "catalogue_item_id (item_id = 'nan')"),
    ),
    _catalogued("catalogue_of_json_floats", "jsonl", jsonl(FLOATS), 24),
]  # fmt: skip

CASES = [*FOLDERS, *ENCODINGS, *ROWLESS, *RECORDS, *CATALOGUES]
