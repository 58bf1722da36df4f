"""The catalogue of items: what of it is applied, and when."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from hmamba.config import parse
from hmamba.warehouse.metadata import read_as
from tests.landing import DAY, Root
from tests.synthetic import DEPARTMENTS, make_catalogue

HEADER = "user_id,item_id,event_time\n"
CATALOGUE = '[catalogue]\npath = "landing/products"\ntitle = "title"\ncategory_path = ["department", "category"]\n'


def write_products(root: Root, frame: pd.DataFrame, name: str = "p.csv") -> Path:
    path = root.layout.landing / "products" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("csv"):
        frame.to_csv(path, index=False)
    elif name.endswith("parquet"):
        frame.to_parquet(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    return path


@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.jsonl"])
def test_the_catalogue_names_items_whether_or_not_they_were_touched(loaded: Root, name: str) -> None:
    loaded.configure(CATALOGUE)
    catalogue = make_catalogue(62)
    catalogue.loc[1, "department"] = None
    catalogue.loc[2, ["title", "category"]] = None
    write_products(loaded, catalogue, name)
    metrics = loaded.ok("ingest")
    assert (metrics["batch_id"], metrics["rows_read"], metrics["items_new"]) == (2, 0, 0)
    items = "SELECT item_id, item_index > 0, title, category_path FROM items WHERE item_id IN "
    assert loaded.sql(f"{items} ('item-000', 'item-001', 'item-002', 'item-061') ORDER BY item_id") == [
        ("item-000", True, "Thing 0", ["bakery", "bakery 0"]),
        ("item-001", True, "Thing 1", ["dairy 0"]),
        ("item-002", True, "garden", ["garden"]),
        ("item-061", True, "Thing 61", ["dairy", "dairy 0"]),
    ]


def test_an_item_of_the_catalogue_keeps_its_index_when_it_is_first_touched(loaded: Root) -> None:
    loaded.configure(CATALOGUE)
    catalogue = make_catalogue(63)
    catalogue.loc[60, ["department", "category"]] = None  # nothing is known of it, so it gets no index
    write_products(loaded, catalogue)
    loaded.ok("ingest", run_id="catalogue")
    beyond = "SELECT item_id, item_index, title FROM items WHERE item_index > 60 OR item_index IS NULL ORDER BY 2"
    assert loaded.sql(beyond) == [
        ("item-061", 61, "Thing 61"),
        ("item-062", 62, "Thing 62"),
        ("item-060", None, "Thing 60"),
    ]
    loaded.drop("2.csv", f"{HEADER}u,item-062,2024-01-03\nu,unlisted,2024-01-02\nu,item-060,2024-01-04\n")
    assert loaded.ok("ingest")["items_new"] == 3
    assert loaded.sql(beyond) == [
        ("item-061", 61, "Thing 61"),
        ("item-062", 62, "Thing 62"),
        ("unlisted", 63, None),
        ("item-060", 64, "Thing 60"),
    ]


def test_an_indexed_item_stays_when_the_catalogue_is_read_with_other_settings(loaded: Root) -> None:
    """A model may know it. Nothing is known of it any more, so that it is not recommended."""
    loaded.configure(CATALOGUE)
    write_products(loaded, make_catalogue(61))
    loaded.ok("ingest", run_id="catalogue")
    loaded.configure(CATALOGUE + 'item_id = "title"\n')
    loaded.ok("ingest", run_id="other")
    found = "SELECT item_index, category_path FROM items WHERE item_id = "
    assert loaded.sql(f"{found} 'item-060'") == [(61, None)]
    assert loaded.sql(f"{found} 'Thing 0'") == [(62, ["bakery", "bakery 0"])]


@pytest.mark.parametrize("name", ["p.parquet", "p.jsonl"])
def test_one_column_can_hold_the_whole_path(root: Root, name: str) -> None:
    root.configure('[catalogue]\npath = "landing/products"\ncategory_path = ["path"]\n')
    write_products(root, pd.DataFrame({"item_id": ["a", "b"], "path": [["x", "y"], []]}), name)
    root.drop("1.csv", f"{HEADER}u,a,2024-01-01\n")
    root.ok("ingest")
    assert root.sql("SELECT item_id, title, category_path FROM items ORDER BY 1") == [
        ("a", "y", ["x", "y"]),
        ("b", None, []),
    ]


def test_a_changed_catalogue_is_applied_and_an_unchanged_one_is_not(root: Root) -> None:
    root.configure(CATALOGUE)
    root.drop("1.csv", f"{HEADER}u,item-000,2024-01-01\n")
    old = make_catalogue(2)
    new = old.assign(title="Renamed")
    titles = "SELECT DISTINCT title FROM items"
    write_products(root, new)
    root.ok("ingest", run_id="1")
    assert root.ok("ingest", run_id="2")["batch_id"] is None
    write_products(root, old)
    assert root.ok("ingest", run_id="3")["batch_id"] == 2
    assert sorted(root.sql(titles)) == [("Thing 0",), ("Thing 1",)]
    write_products(root, new)
    root.ok("ingest", run_id="4")
    assert root.sql(titles) == [("Renamed",)]


def test_a_catalogue_row_without_an_id_is_quarantined_and_does_not_count_as_an_event(root: Root) -> None:
    root.configure(CATALOGUE)
    root.drop("1.csv", f"{HEADER}u,item-000,2024-01-01\n")
    catalogue = make_catalogue(3)
    catalogue.loc[1, "item_id"] = None
    write_products(root, catalogue)
    metrics = root.ok("ingest")
    assert (metrics["rows_read"], metrics["rows_quarantined"], metrics["quarantined_by_rule"]) == (1, 0, {})
    ((path, line, rules, record),) = root.sql("SELECT path, line, rules, record FROM quarantine")
    assert (path, line, rules) == ("landing/products/p.csv", 3, ["catalogue_item_id"])
    assert json.loads(record) == {"item_id": "", "title": "Thing 1", "department": "dairy", "category": "dairy 0"}
    assert root.sql("SELECT count(*) FROM items") == [(2,)]


@pytest.mark.parametrize("content", ["item_id,title,department,category\n", None])
def test_a_catalogue_without_a_row_is_told(root: Root, content: str | None) -> None:
    root.drop("a.csv", f"{HEADER}u,i1,2024-01-28\n")
    folder = root.layout.landing / "products"
    folder.mkdir()
    if content is not None:
        (folder / "p.csv").write_text(content)
    root.configure(CATALOGUE)
    metrics = root.ok("ingest")
    assert "catalogue.path = 'landing/products': none of its rows has an item id" in str(metrics["catalogue_warning"])


def test_the_advice_about_a_catalogue_of_other_items_helps(root: Root) -> None:
    """The file is the same: what has changed is how it is read."""
    root.drop("a.csv", f"{HEADER}u,i1,2024-01-28\nu,i2,2024-01-29\n")
    path = root.layout.root / "products.csv"
    path.write_text("row,sku,name\n1,i1,One\n2,i2,Two\n")
    root.configure('[catalogue]\npath = "products.csv"\nitem_id = "row"\ntitle = "name"\n')
    metrics = root.ok("ingest", DAY, "1")
    assert "catalogue.item_id" in str(metrics["catalogue_warning"])
    root.configure('[catalogue]\npath = "products.csv"\nitem_id = "sku"\ntitle = "name"\n')
    metrics = root.ok("ingest", DAY, "2")
    assert (metrics["batch_id"], metrics["catalogue_warning"]) == (2, None)
    assert root.sql("SELECT item_id, title FROM items WHERE item_index > 0 ORDER BY 1") == [
        ("i1", "One"),
        ("i2", "Two"),
    ]
    assert root.ok("ingest", DAY, "3")["batch_id"] is None


def test_the_warning_counts_nothing_of_an_earlier_reading(root: Root) -> None:
    """With the right setting before the wrong one, items keep nothing that the wrong one does not read."""
    root.drop("a.csv", f"{HEADER}u,i1,2024-01-28\nu,i2,2024-01-29\n")
    (root.layout.root / "products.csv").write_text("row,sku,name\n1,i1,One\n2,i2,Two\ni2,3,Three\n")
    reading = '[catalogue]\npath = "products.csv"\nitem_id = "{}"\ntitle = "name"\n'
    items = "SELECT item_id, item_index, title FROM items ORDER BY 1"
    root.configure(reading.format("sku"))
    assert root.ok("ingest", DAY, "1")["catalogue_warning"] is None
    assert root.sql(items) == [("3", None, "Three"), ("i1", 1, "One"), ("i2", 2, "Two")]
    root.configure(reading.format("row"))
    assert root.ok("ingest", DAY, "2")["catalogue_warning"] is None
    assert root.sql(items) == [("1", None, "One"), ("2", None, "Two"), ("i1", 1, None), ("i2", 2, "Three")]
    (root.layout.root / "products.csv").write_text("row,sku,name\n1,i1,One\n")
    assert root.ok("ingest", DAY, "3")["catalogue_warning"] is None
    assert ("i2", 2, "Three") in root.sql(items)
    root.configure(reading.format("sku").replace("name", "sku"))
    root.ok("ingest", DAY, "4")
    assert root.sql(items) == [("i1", 1, "i1"), ("i2", 2, None)]
    root.configure(reading.format("row"))
    assert "names no item of the interactions" in str(root.ok("ingest", DAY, "5")["catalogue_warning"])


ATTRIBUTES = CATALOGUE + 'attributes = ["brand", "tags"]\n'
DESCRIBED = "SELECT item_id, attributes FROM items ORDER BY 1"


def write_described(root: Root, name: str, brand: list[object], tags: list[object]) -> None:
    """A catalogue of items item-000, item-001, ... with two more columns."""
    frame = make_catalogue(len(brand))
    if name.endswith("jsonl"):
        path = root.layout.landing / "products" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = zip(frame.to_dict("records"), brand, tags, strict=True)
        path.write_text("".join(json.dumps({**row, "brand": one, "tags": many}) + "\n" for row, one, many in rows))
    else:
        write_products(root, frame.assign(brand=brand, tags=tags), name)


@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.jsonl"])
def test_attributes_are_kept_by_the_name_of_their_column(root: Root, name: str) -> None:
    root.configure(ATTRIBUTES)
    root.drop("1.csv", f"{HEADER}u,item-000,2024-01-01\nu,other,2024-01-02\n")
    lists: list[object] = [["red", "new"], [], None, ["new"]]
    write_described(root, name, ["Acme", " Zen ", None, "NULL"], ["red"] * 4 if name == "p.csv" else lists)
    root.ok("ingest")
    tags = [["tags=red"]] * 4 if name == "p.csv" else [["tags=red", "tags=new"], [], [], ["tags=new"]]
    assert root.sql(DESCRIBED) == [
        ("item-000", ["brand=Acme", *tags[0]]),
        ("item-001", ["brand=Zen", *tags[1]]),
        ("item-002", tags[2]),
        ("item-003", tags[3]),
        ("other", None),
    ]
    root.ok("snapshot")
    items = pq.read_table(root.layout.run(DAY, "manual").sequences / "items.parquet").to_pylist()
    found = {item["item_id"]: (item["attributes"], item["events"], item["first_seen"] is None) for item in items}
    paths = {name: [f"category_path={name}", f"category_path={name}\x1f{name} 0"] for name in DEPARTMENTS}
    assert found == {
        "item-000": ([*paths["bakery"], "brand=Acme", *tags[0]], 1, False),
        "item-001": ([*paths["dairy"], "brand=Zen", *tags[1]], 0, True),
        "item-002": ([*paths["garden"], *tags[2]], 0, True),
        "item-003": ([*paths["toys"], *tags[3]], 0, True),
        "other": ([], 1, False),
    }


def test_changed_attribute_columns_are_read_again(root: Root) -> None:
    root.drop("1.csv", f"{HEADER}u,item-000,2024-01-01\n")
    write_described(root, "p.csv", ["Acme"], ["red"])
    found = []
    for number, columns in enumerate(['["brand"]', '["brand", "tags"]', '["tags"]', "[]"]):
        root.configure(CATALOGUE + f"attributes = {columns}\n")
        assert root.ok("ingest", run_id=str(number))["batch_id"] == number + 1
        found.append(root.sql(DESCRIBED)[0][1])
    assert found == [["brand=Acme"], ["brand=Acme", "tags=red"], ["tags=red"], []]
    assert root.ok("ingest", run_id="same")["batch_id"] is None


@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.jsonl"])
def test_each_word_of_a_text_is_an_attribute(root: Root, name: str) -> None:
    root.configure(CATALOGUE + 'attributes = ["brand"]\ntext = ["title", "about"]\n')
    root.drop("1.csv", f"{HEADER}u,item-000,2024-01-01\n")
    frame = make_catalogue(4)
    about = ["Toy Story 2: toy's (1999) - ÉTÉ, a b", None, " ".join(f"w{n:03}" for n in range(300)), "東京 Tower"]
    title = ["Story", "NULL", None, "Жизнь"]
    described = frame.assign(title=title, about=about, brand=["Acme", None, None, None])
    if name.endswith("jsonl"):
        path = root.layout.landing / "products" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row) for row in described.to_dict("records")]
        path.write_text("\n".join(lines).replace("NaN", "null") + "\n")
    else:
        write_products(root, described, name)
    root.ok("ingest")
    found = dict(root.sql(DESCRIBED))
    assert found["item-000"] == ["brand=Acme", *(f"word={word}" for word in ("1999", "story", "toy", "été"))]
    assert found["item-001"] == []
    assert found["item-002"] == [f"word=w{n:03}" for n in range(200)]
    assert found["item-003"] == ["word=tower", "word=жизнь", "word=東京"]


def test_changed_columns_of_text_are_read_again(root: Root) -> None:
    root.drop("1.csv", f"{HEADER}u,item-000,2024-01-01\n")
    write_described(root, "p.csv", ["Acme Inc"], ["red"])
    found = []
    for number, columns in enumerate(["[]", '["brand"]', '["brand", "tags"]']):
        root.configure(CATALOGUE + f"text = {columns}\n")
        root.ok("ingest", run_id=str(number))
        found.append(root.sql(DESCRIBED)[0][1])
    assert found == [[], ["word=acme", "word=inc"], ["word=acme", "word=inc", "word=red"]]


def test_without_attributes_a_catalogue_of_an_earlier_version_is_not_read_again() -> None:
    """The digest of a warehouse from before there were attributes: another one would remove all descriptions."""
    settings = {"path": "c.csv", "category_path": ["a"]}
    assert read_as(parse({"catalogue": settings}, "test")) == (
        "5d47b4f9915f7faf5510c9162b845cc416863df1f849db5c4ce3338fe4f7b57f"
    )
    others = {"attributes": ["b"]}, {"text": ["b"]}, {"attributes": ["b"], "text": ["b"]}
    assert len({read_as(parse({"catalogue": settings | other}, "test")) for other in ({}, *others)}) == 4


def test_attributes_that_are_numbers_are_read_as_text(root: Root) -> None:
    root.configure(ATTRIBUTES)
    root.drop("1.csv", f"{HEADER}u,item-000,2024-01-01\n")
    write_described(root, "p.jsonl", [7, 7.5, True], [[1, "one"], 2, "NULL"])
    root.ok("ingest")
    assert [attributes for _, attributes in root.sql(DESCRIBED)] == [
        ["brand=7", "tags=1", "tags=one"],
        ["brand=7.5", "tags=2"],
        ["brand=true"],
    ]


def test_nested_attributes_are_quarantined(root: Root) -> None:
    root.configure(ATTRIBUTES)
    root.drop("1.csv", f"{HEADER}u,item-000,2024-01-01\n")
    write_described(root, "p.jsonl", ["Acme", {"name": "Acme"}, "Zen"], ["red", "red", [["red"]]])
    root.ok("ingest")
    assert root.sql("SELECT line, rules FROM quarantine ORDER BY line") == [
        (2, ["catalogue_text_readable"]),
        (3, ["catalogue_text_readable"]),
    ]
    assert root.sql(DESCRIBED) == [("item-000", ["brand=Acme", "tags=red"])]


def test_an_attribute_column_that_is_absent_or_of_another_type_is_named(root: Root) -> None:
    root.configure(ATTRIBUTES)
    root.drop("1.csv", f"{HEADER}u,item-000,2024-01-01\n")
    write_products(root, make_catalogue(2).assign(brand="Acme"))
    status, _, text = root.step("ingest")
    assert (status, "tags" in text) == (2, True)
    (root.layout.landing / "products" / "p.csv").unlink()
    write_products(root, make_catalogue(2).assign(brand="Acme", tags=[[["a"]], [["b"]]]), "p.parquet")
    status, _, text = root.step("ingest")
    assert status == 2
    assert "tags" in text
    assert "a string or a list of strings" in text
