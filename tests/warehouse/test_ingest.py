"""What a pull does to the warehouse, file by file, as a user would see it."""

from __future__ import annotations

import os
import shutil
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from tests.landing import DAY, Root
from tests.synthetic import make_interactions, write_landing

WEIGHTED = '[source.columns]\nweight = "weight"\n'


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    return make_interactions()


def at(day: int, hour: int = 12) -> datetime:
    return datetime(2024, 1, day, hour)


def few(*rows: tuple[object, ...]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "event_time"])
    return frame.astype({"event_time": "datetime64[us]"})


@pytest.mark.parametrize("name", ["e.parquet", "e.csv", "e.ndjson.gz"])
def test_every_format_gives_the_same_table(root: Root, events: pd.DataFrame, name: str) -> None:
    root.configure(WEIGHTED)
    write_landing(root.layout.root, events, name)
    metrics = root.ok("ingest")
    assert (metrics["batch_id"], metrics["files"], metrics["rows_read"], metrics["rows_loaded"]) == (1, 1, 941, 941)
    assert metrics["watermark_from"] is None
    assert metrics["watermark_to"] == events.event_time.max().isoformat()
    assert metrics["items_new"] == 60
    assert Path(metrics["data_docs"]).is_file()
    loaded = root.sql("SELECT user_id, item_id, event_time, weight FROM interactions ORDER BY ALL")
    assert loaded == sorted(events.itertuples(index=False, name=None))


def test_an_unknown_time_zone_names_the_setting(root: Root) -> None:
    root.configure('[source]\ntimezone = "Middle/Earth"\n')
    write_landing(root.layout.root, few(("u", "i", at(1))))
    code, _, log = root.step("ingest")
    assert code == 2
    assert "source.timezone = 'Middle/Earth'" in log
    assert not root.layout.warehouse.exists()


def test_running_twice_equals_running_once(root: Root, events: pd.DataFrame) -> None:
    write_landing(root.layout.root, events)
    first = root.ok("ingest")
    before = root.contents()
    again = root.ok("ingest")
    assert root.contents() == before
    assert again["files_skipped"] == 1
    assert (first["repeated"], again["repeated"]) == (False, True)
    for name in set(first) - {"seconds", "peak_bytes", "files_skipped", "repeated", "summary"}:
        assert again[name] == first[name]
    other = root.ok("ingest", run_id="later")
    assert (other["batch_id"], other["rows_read"]) == (None, 0)
    assert root.contents() == before


@pytest.mark.parametrize("how", ["touched", "renamed", "copied"])
def test_content_that_is_known_is_not_loaded_again(loaded: Root, how: str) -> None:
    path = loaded.landing() / "events.csv"
    before = loaded.contents()
    if how == "touched":
        os.utime(path, ns=(1, 1))
    elif how == "renamed":
        path.rename(path.with_name("b.csv"))
    else:
        shutil.copy(path, path.with_name("b.csv"))
    metrics = loaded.ok("ingest")
    assert loaded.contents() == before
    assert (metrics["batch_id"], metrics["files_skipped"]) == (None, 2 if how == "copied" else 1)


def test_the_same_events_in_another_format_are_duplicates(loaded: Root, events: pd.DataFrame) -> None:
    loaded.configure("[quality]\nmax_duplicate_share = 1\n")
    before = loaded.contents()
    write_landing(loaded.layout.root, events, "again.jsonl.gz")
    metrics = loaded.ok("ingest")
    assert (metrics["rows_read"], metrics["rows_loaded"], metrics["rows_duplicate"]) == (941, 0, 941)
    after = loaded.contents()
    assert (after["interactions"], after["items"]) == (before["interactions"], before["items"])


def test_two_copies_in_one_pull_are_recorded_and_loaded_once(root: Root, events: pd.DataFrame) -> None:
    for name in ("a.parquet", "b.parquet"):
        write_landing(root.layout.root, events, name)
    assert root.ok("ingest")["rows_read"] == len(events)
    assert root.sql("SELECT path, state, rows FROM batch_files ORDER BY 1") == [
        ("landing/interactions/a.parquet", "loaded", len(events)),
        ("landing/interactions/b.parquet", "duplicate", 0),
    ]


def test_a_file_that_grew_loads_only_its_new_rows(loaded: Root, events: pd.DataFrame) -> None:
    more = few(("user-000", "item-000", at(30, 23)), ("u", "i", at(30, 23)))
    write_landing(loaded.layout.root, pd.concat([events, more]), "events.csv")
    metrics = loaded.ok("ingest")
    assert (metrics["batch_id"], metrics["rows_read"], metrics["rows_loaded"], metrics["rows_duplicate"]) == (
        2,
        943,
        2,
        941,
    )
    assert loaded.sql("SELECT count(*) FROM interactions") == [(943,)]


def test_copies_in_a_batch_keep_the_largest_weight_and_the_warehouse_keeps_its_own(root: Root) -> None:
    root.configure(WEIGHTED)
    rows = few(("u", "i", at(1)), ("u", "i", at(1)), ("u", "j", at(1)))
    write_landing(root.layout.root, rows.assign(weight=[2.0, 5.0, 1.0]), "b.csv")
    write_landing(root.layout.root, rows[:1].assign(weight=3.0), "a.csv")
    metrics = root.ok("ingest")
    assert (metrics["rows_read"], metrics["rows_loaded"], metrics["rows_duplicate"]) == (4, 2, 2)
    write_landing(root.layout.root, few(("u", "i", at(1)), ("u", "k", at(2))).assign(weight=9.0), "c.csv")
    metrics = root.ok("ingest")
    assert (metrics["rows_loaded"], metrics["rows_duplicate"]) == (1, 1)
    assert root.sql("SELECT item_id, weight FROM interactions ORDER BY 1") == [("i", 5.0), ("j", 1.0), ("k", 9.0)]


def test_a_return_is_no_copy_of_its_purchase_in_this_pull_or_another(root: Root) -> None:
    root.configure('[source.columns]\nweight = "weight"\n')
    rows = few(*[("u", "i", at(1))] * 4)
    write_landing(root.layout.root, rows.assign(weight=[2.0, -1.0, -4.0, 0.0]), "a.csv")
    assert root.ok("ingest")["rows_loaded"] == 2
    write_landing(root.layout.root, rows[:2].assign(weight=[-9.0, 9.0]), "b.csv")
    root.configure('[source.columns]\nweight = "weight"\n[quality]\nmax_duplicate_share = 1\n')
    assert root.ok("ingest")["rows_duplicate"] == 2
    assert root.sql("SELECT weight FROM interactions ORDER BY 1") == [(-4.0,), (2.0,)]


def test_a_weight_too_small_for_a_float_is_one_event_however_often_it_comes(root: Root) -> None:
    root.configure('[source.columns]\nweight = "weight"\n[quality]\nmax_duplicate_share = 1\n')
    for number in range(2):
        write_landing(
            root.layout.root, few(("u", "i", at(1)), ("u", "j", at(2 + number))).assign(weight=-1e-60), f"{number}.csv"
        )
        root.ok("ingest", run_id=str(number))
    assert root.sql("SELECT count(*) FROM interactions WHERE item_id = 'i'") == [(1,)]


def test_types_tell_events_of_one_instant_apart(root: Root) -> None:
    root.configure('[source.columns]\nevent_type = "kind"\n[events.view]\n[events.buy]\n')
    write_landing(root.layout.root, few(*[("u", "i", at(1))] * 3).assign(kind=["view", "buy", "view"]))
    assert root.ok("ingest")["rows_loaded"] == 2
    assert root.sql("SELECT event_type FROM interactions ORDER BY 1") == [("buy",), ("view",)]


def test_a_warehouse_of_an_earlier_version_gets_the_columns_that_it_lacks(loaded: Root) -> None:
    columns = "SELECT table_name, column_name, data_type, column_default FROM duckdb_columns() ORDER BY ALL"
    current = loaded.sql(columns)
    later = {
        "interactions": ["event_type"],
        "batches": ["rows_left", "by_position"],
        "batch_files": ["rows_left", "read_through", "refused_from", "read_as"],
        "items": ["attributes"],
    }
    with duckdb.connect(str(loaded.layout.warehouse)) as connection:
        for table, column in ((table, column) for table, added in later.items() for column in added):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    write_landing(loaded.layout.root, few(("u", "i", at(30))), "2.csv")
    assert loaded.ok("ingest")["rows_loaded"] == 1
    assert loaded.sql(columns) == current
    assert loaded.sql("SELECT event_type, count(*) FROM interactions GROUP BY 1") == [("", 942)]
    assert loaded.ok("snapshot")["events"] == 942


def test_indices_are_dense_ordered_by_first_event_and_never_change(root: Root) -> None:
    write_landing(root.layout.root, few(("u", "z", at(2)), ("u", "b", at(3)), ("v", "a", at(3))), "1.csv")
    root.ok("ingest")
    indices = "SELECT item_id, item_index, first_seen FROM items ORDER BY item_index"
    assert root.sql(indices) == [("z", 1, at(2)), ("a", 2, at(3)), ("b", 3, at(3))]
    write_landing(root.layout.root, few(("u", "new", at(4)), ("u", "old", at(1)), ("u", "b", at(1))), "2.csv")
    assert root.ok("ingest")["items_new"] == 2
    assert root.sql(indices) == [
        ("z", 1, at(2)),
        ("a", 2, at(3)),
        ("b", 3, at(1)),
        ("old", 4, at(1)),
        ("new", 5, at(4)),
    ]


def test_late_events_are_loaded_and_counted(root: Root) -> None:
    root.configure("[warehouse]\noverlap_days = 2\n")
    write_landing(root.layout.root, few(("u", "i", at(20))), "1.csv")
    root.ok("ingest")
    write_landing(root.layout.root, few(("u", "j", at(18, 11)), ("u", "k", at(18, 13)), ("u", "l", at(21))), "2.csv")
    metrics = root.ok("ingest")
    assert (metrics["rows_loaded"], metrics["rows_late"]) == (3, 1)
    assert (metrics["watermark_from"], metrics["watermark_to"]) == (at(20).isoformat(), at(21).isoformat())


def test_the_ledger_adds_up_over_good_bad_and_repeated_rows(loaded: Root, events: pd.DataFrame) -> None:
    new = make_interactions(seed=1)[:400]
    rows = pd.concat([new, events[:100], new[:10], few((None, "i", at(2)), ("u", "i", None))])
    write_landing(loaded.layout.root, rows, "2.parquet")
    loaded.drop("3.csv", "user_id,item_id,event_time\nu,i,2024-01-02\nbroken\nu,i,soon\n")
    metrics = loaded.ok("ingest")
    assert metrics["rows_read"] == len(rows) + 3 == 515
    assert (metrics["rows_loaded"], metrics["rows_duplicate"], metrics["rows_quarantined"]) == (401, 110, 4)
    assert metrics["quarantined_by_rule"] == {"event_time_readable": 2, "record_readable": 1, "user_id_present": 1}
    assert loaded.sql("SELECT sum(rows_loaded) FROM batches") == loaded.sql("SELECT count(*) FROM interactions")
    assert loaded.sql("SELECT sum(rows_quarantined) FROM batches") == loaded.sql("SELECT count(*) FROM quarantine")
    assert loaded.sql("SELECT sum(rows) FROM batch_files") == loaded.sql("SELECT sum(rows_read) FROM batches")


def test_an_emptied_landing_folder_is_a_quiet_night(loaded: Root) -> None:
    before = loaded.contents()
    (loaded.landing() / "events.csv").unlink()
    assert loaded.ok("ingest", day=DAY + timedelta(days=1))["batch_id"] is None
    assert loaded.contents() == before


def test_a_file_with_a_header_only_is_a_batch_of_no_rows(loaded: Root) -> None:
    loaded.drop("a.csv", "user_id,item_id,event_time\n")
    metrics = loaded.ok("ingest")
    assert (metrics["batch_id"], metrics["files"], metrics["rows_read"]) == (2, 1, 0)
    assert loaded.ok("ingest", run_id="again")["batch_id"] is None


def test_pulling_day_by_day_gives_the_same_events_as_pulling_once(root: Root, events: pd.DataFrame) -> None:
    middle = datetime(2024, 1, 15)
    write_landing(root.layout.root, events[events.event_time < middle], "1.parquet")
    root.ok("ingest", day=date(2024, 1, 14))
    write_landing(root.layout.root, events[events.event_time >= middle], "2.parquet")
    root.ok("ingest")
    loaded = root.sql("SELECT user_id, item_id, event_time FROM interactions ORDER BY ALL")
    assert loaded == sorted(events[["user_id", "item_id", "event_time"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("first", ["event_time", "position"])
def test_times_and_positions_do_not_mix(root: Root, first: str) -> None:
    columns = {"event_time": "", "position": '[source.columns]\nposition = "step"\n'}
    second = next(name for name in columns if name != first)
    root.drop("a.csv", "user_id,item_id,event_time,step\nu,i,2024-01-30,1\n")
    root.configure(columns[first])
    root.ok("ingest")
    root.drop("b.csv", "user_id,item_id,event_time,step\nu,j,2024-01-30,2\n")
    root.configure(columns[second])
    before = root.contents()
    code, _, log = root.step("ingest", DAY, "second")
    assert code == 2
    assert "The warehouse's events are ordered by" in log
    assert root.contents() == before
    root.configure(columns[first])
    assert root.ok("ingest", DAY, "second")["rows_loaded"] == 1


def test_events_that_came_before_there_were_types(root: Root) -> None:
    root.drop("a.csv", "user_id,item_id,event_time\nu,i,2024-01-29\n")
    root.ok("ingest")
    root.drop("b.csv", "user_id,item_id,event_time,kind\nu,j,2024-01-30,buy\n")
    typed = '[source.columns]\nevent_type = "kind"\n[events.buy]\n'
    root.configure(typed)
    root.ok("ingest", DAY, "second")
    code, _, log = root.step("snapshot")
    assert code == 2
    assert (
        'events without a type, of which [events] says nothing. Say what they mean by a table, such as [events.""]'
        in log
    )
    root.configure(f'{typed}[events.""]\nweight = 1.0\n')
    assert root.ok("snapshot")["events"] == 2


def test_a_file_that_grew_since_events_have_types_is_not_counted_twice(root: Root) -> None:
    """Whether the column came or went: an event without a type is one of any type."""
    typed = '[source.columns]\nevent_type = "kind"\n[events.buy]\n[events.view]\n[events.""]\n'
    lines = ["user_id,item_id,event_time,kind", "u,i,2024-01-28,buy", "u,i,2024-01-28,view", "u,j,2024-01-28,buy"]
    loaded = []
    for number, settings in enumerate(("", typed, "")):
        root.configure(settings)
        root.drop("a.csv", "\n".join([*lines, *(f"u,new{day},2024-01-29,buy" for day in range(number))]) + "\n")
        loaded.append(root.ok("ingest", DAY, str(number))["rows_loaded"])
    assert loaded == [2, 1, 1]
    types = "SELECT item_id, event_type FROM interactions ORDER BY ALL"
    assert root.sql(types) == [("i", ""), ("j", ""), ("new0", "buy"), ("new1", "")]
