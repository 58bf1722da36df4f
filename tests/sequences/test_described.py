"""The columns of the catalogue and the users file, typed, beside the shards of a snapshot."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime
from decimal import Decimal

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.config import WarehouseConfig
from hmamba.contracts.manifest import SnapshotManifest
from hmamba.sequences.described import ITEM_COLUMNS
from hmamba.sequences.files import Snapshot
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import connect
from hmamba.warehouse.forgotten import erase
from tests.landing import DAY, Root
from tests.synthetic import make_catalogue, make_interactions, write_landing

SETTINGS = """
[snapshot]
shards = 2
[catalogue]
path = "landing/products.parquet"
item_id = "sku"
title = "title"
category_path = ["department", "category"]
[users]
path = "landing/people*"
user_id = "customer"
"""


def items(layout: Layout) -> pa.Table:
    return pq.read_table(Snapshot.open(layout.run(DAY, "manual")).described_items)


def people(layout: Layout) -> list[pd.DataFrame]:
    files = Snapshot.open(layout.run(DAY, "manual"))
    return [pd.read_parquet(path) for shard in range(2) if (path := files.described_users(shard)) is not None]


@pytest.fixture
def shop(root: Root) -> Root:
    root.configure(SETTINGS)
    write_landing(root.layout.root, make_interactions())
    catalogue = make_catalogue(61).rename(columns={"item_id": "sku"})
    catalogue["price"] = [f"{number}.50" for number in range(61)]
    catalogue["stock"] = [str(number) for number in range(60)] + ["NULL"]
    catalogue["code"] = [f"{number:03d}" for number in range(61)]
    catalogue["on sale"] = ["TRUE", "false"] * 30 + [None]
    catalogue["from"] = ["2024-01-05", "2024-01-06 10:00"] * 30 + [""]
    catalogue["tags"] = [["a", "b"]] * 61
    catalogue["vector"] = [b"x"] * 61
    catalogue["cost"] = [Decimal("1.25")] * 61
    catalogue["events"] = 5
    catalogue.to_parquet(root.layout.landing / "products.parquet", index=False)
    (root.layout.landing / "people.csv").write_text(
        "customer;age;country;joined\nuser-001;17;DE;2020-01-31\nuser-002;x;FR;2020-02-30\nnobody;40;NULL;2020-01-01\n"
    )
    root.ok("ingest")
    return root


def test_every_column_of_the_catalogue_is_kept_with_the_type_of_its_values(shop: Root) -> None:
    shop.ok("snapshot")
    found = items(shop.layout)
    plain = pq.read_table(Snapshot.open(shop.layout.run(DAY, "manual")).items)
    assert found.column_names == [
        *ITEM_COLUMNS, "department", "category", "price", "stock", "code", "on sale", "from", "tags", "cost",
    ]  # fmt: skip
    types = {name: str(kind) for name, kind in zip(found.schema.names, found.schema.types, strict=True)}
    assert types["price"] == types["cost"] == "double"
    assert types["stock"] == "int64"
    assert types["code"] == types["category"] == "string"
    assert types["on sale"] == "bool"
    assert types["from"] == "timestamp[us]"
    assert found.select(ITEM_COLUMNS[:3]).equals(plain.select(ITEM_COLUMNS[:3]))
    first = next(row for row in found.to_pylist() if row["item_id"] == "item-001")
    assert (first["price"], first["tags"]) == (1.5, ["a", "b"])
    assert (first["on sale"], first["from"]) == (False, datetime(2024, 1, 6, 10))
    last = next(row for row in found.to_pylist() if row["item_id"] == "item-060")
    assert last["stock"] is None
    assert "vector" in shop.step("snapshot")[2]


def test_users_are_in_the_shard_of_their_events_typed_by_all_their_values(shop: Root) -> None:
    shop.ok("snapshot")
    parts = people(shop.layout)
    everyone = pd.concat(parts).set_index("user_id")
    assert sorted(everyone.index) == ["nobody", "user-001", "user-002"]
    assert everyone.age.tolist() == [everyone.age[user] for user in everyone.index]
    assert everyone.age["user-002"] == "x"  # so that the column is text
    assert everyone.joined["user-002"] == "2020-02-30"  # no date of the calendar
    assert pd.isna(everyone.country["nobody"])
    files = Snapshot.open(shop.layout.run(DAY, "manual"))
    shard_of = {user: n for n in range(2) for user in pd.read_parquet(files.shard(n)).user_id}
    for number, part in enumerate(parts):
        assert {shard_of.get(user, number) for user in part.user_id} <= {number}
        assert part.user_id.is_monotonic_increasing


def test_descriptions_change_neither_the_digest_nor_the_shards(shop: Root) -> None:
    before = shop.ok("snapshot")
    (shop.layout.landing / "people.csv").write_text("customer;age\nuser-001;18\n")
    after = shop.ok("snapshot")
    assert before["digest"] == after["digest"]
    assert [len(part) for part in people(shop.layout)].count(0) == 1
    assert [part.age.tolist() for part in people(shop.layout) if len(part)] == [[18]]


def test_without_the_files_a_snapshot_is_what_it_was(shop: Root) -> None:
    shop.configure("[snapshot]\nshards = 2\n")
    shop.ok("snapshot")
    names = {file.name for file in SnapshotManifest.read(shop.layout.run(DAY, "manual").manifest).files}
    assert names == {"shard-0000.parquet", "shard-0001.parquet", "items.parquet"}
    assert Snapshot.open(shop.layout.run(DAY, "manual")).described_items.name == "items.parquet"


def test_later_files_and_rows_win_in_every_format(shop: Root) -> None:
    folder = shop.layout.landing
    (folder / "people2.jsonl").write_text(
        json.dumps({"customer": "user-001", "age": 30, "flags": {"a": 1}}) + "\n{broken\n"
        + json.dumps({"customer": "user-001", "age": 31.5, "Country": "AT"}) + "\n"
    )  # fmt: skip
    with gzip.open(folder / "people3.csv.gz", "wt") as stream:
        stream.write("customer,age\n7,1\n,5\n")
    code, _, log = shop.step("snapshot")
    assert code == 0
    assert "2 rows without a readable id" in log
    assert "line 2 of landing/people2.jsonl" in log
    everyone = pd.concat(people(shop.layout)).set_index("user_id")
    assert everyone.age["user-001"] == "31.5"
    assert everyone.age["7"] == "1"
    assert everyone.country["user-002"] == "FR"
    assert pd.isna(everyone["flags"]["user-001"])  # the whole row of the later record


def test_forgotten_users_are_left_out(shop: Root) -> None:
    with connect(shop.layout.warehouse, WarehouseConfig()) as connection:
        connection.begin()
        erase(connection, ["user-001"], "user_id")
        connection.commit()
    shop.ok("snapshot")
    assert sorted(pd.concat(people(shop.layout)).user_id) == ["nobody", "user-002"]


@pytest.mark.parametrize(
    ("text", "message", "cured"),
    [
        ("", "has no header line", "customer\nuser-001\n"),
        ("person,age\na,1\n", "has no column 'customer'; it has", "customer,age\na,1\n"),
        ("customer,age\n,1\n", "no file has a row with an id in the column 'customer'", "customer,age\na,1\n"),
        ("customer,age\n", "no file has a row with an id in the column 'customer'", "customer,age\na,1\n"),
    ],
)
def test_a_users_file_that_cannot_be_used_stops_the_step_and_says_why(
    shop: Root, text: str, message: str, cured: str
) -> None:
    (shop.layout.landing / "people.csv").write_text(text)
    code, _, log = shop.step("snapshot")
    assert code == 2
    assert message in log
    (shop.layout.landing / "people.csv").write_text(cured)
    shop.ok("snapshot")


def test_a_missing_users_file_is_named_with_its_setting(shop: Root) -> None:
    (shop.layout.landing / "people.csv").unlink()
    code, _, log = shop.step("snapshot")
    assert code == 2
    assert "users.path = 'landing/people*': no file has a row" in log


def test_a_catalogue_without_rows_describes_nothing(shop: Root) -> None:
    shop.configure(SETTINGS.replace("products.parquet", "nothing*"))
    shop.ok("snapshot")
    assert Snapshot.open(shop.layout.run(DAY, "manual")).described_items.name == "items.parquet"


def test_columns_of_one_name_are_left_out(shop: Root) -> None:
    (shop.layout.landing / "people.csv").write_text("customer;age;age;city\nuser-001;18;19;Bonn\n")
    _, _, log = shop.step("snapshot")
    assert "are left out: age" in log
    (found,) = (part for part in people(shop.layout) if len(part))
    assert list(found.columns) == ["user_id", "city"]


def test_equal_files_are_described_by_equal_bytes(shop: Root) -> None:
    shop.ok("snapshot")
    folder = shop.layout.run(DAY, "manual").sequences
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    shop.ok("snapshot")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_names_that_are_sql_are_only_names(shop: Root) -> None:
    odd = 'x"; DROP TABLE interactions; --'
    pd.DataFrame({"customer": ["user-001"], odd: ["1"], "select": [date(2024, 1, 1)]}).to_parquet(
        shop.layout.landing / "people.parquet"
    )
    (shop.layout.landing / "people.csv").unlink()
    shop.ok("snapshot")
    everyone = pd.concat(people(shop.layout))
    assert everyone[odd].tolist() == [1]
    with duckdb.connect(str(shop.layout.warehouse), read_only=True) as connection:
        assert connection.table("interactions").count("*").fetchone() != (0,)


def test_a_shard_without_described_users_has_a_file(shop: Root) -> None:
    (shop.layout.landing / "people.csv").write_text("customer;age\nuser-001;18\n")
    shop.configure(SETTINGS.replace("shards = 2", "shards = 5"))
    shop.ok("snapshot")
    files = Snapshot.open(shop.layout.run(DAY, "manual"))
    assert sum(pq.read_metadata(files.described_users(shard)).num_rows for shard in range(5)) == 1
