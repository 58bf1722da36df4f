"""What must come of each case, by ingest and the snapshot after it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hmamba.config import SourceConfig
from hmamba.sources.ids import read_ids
from tests.cases import files, values
from tests.cases.build import DAY, EVENTS, FILE, Case, parquet, table
from tests.landing import Root

CASES = [*values.CASES, *files.CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(root: Root, case: Case) -> None:
    case.put(root.layout.root)
    root.configure(case.config)
    code, metrics, log = root.step("ingest", DAY)
    assert code == case.code, log
    assert [words for words in case.told if words not in log] == [], log
    if code:
        assert not root.layout.warehouse.exists()
        return
    refused = sum(case.broken.values()) if case.refused is None else case.refused
    assert (metrics["rows_loaded"], metrics["rows_duplicate"], metrics["rows_quarantined"]) == (
        case.loaded,
        case.duplicate,
        refused,
    )
    assert metrics["quarantined_by_rule"] == case.broken
    assert {user for (user,) in root.sql("SELECT DISTINCT user_id FROM interactions")} == case.users
    assert {item for (item,) in root.sql("SELECT DISTINCT item_id FROM interactions")} == case.items
    assert (metrics["catalogue_warning"] is not None) == ("matches_nothing" in case.name)
    if case.check is not None:
        query, expected = case.check
        assert root.sql(query) == expected
    assert root.ok("snapshot", DAY)["users"] == len(case.users)


def test_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", ["int64", "float64", "decimal", "text with blanks"], ids="{}_ids".format)
def test_allowed_items(root: Root, kind: str) -> None:
    """A list of allowed items means the items of the interactions, whatever types the two files have."""
    path = root.layout.root / "allowed.parquet"
    Case("", {f"{FILE}.parquet": parquet(table(item_id=EVENTS["item_id"].cast("float64")))}).put(root.layout.root)
    wanted = EVENTS["item_id"].slice(0, 10)
    if kind == "text with blanks":
        path = path.with_suffix(".csv")
        path.write_bytes(b"item_id\n" + b"".join(f" {item} \n".encode() for item in wanted.to_pylist()) + b"\\N\n")
    else:
        typed = wanted.cast(pa.decimal128(30, 2) if kind == "decimal" else kind)
        path.write_bytes(parquet(pa.table({"item_id": typed})))
    root.ok("ingest", DAY)
    allowed = set(read_ids(path, "item_id", "candidates.allowed_items", SourceConfig()).to_pylist())
    assert allowed == {str(item.as_py()) for item in wanted}
    assert allowed <= {item for (item,) in root.sql("SELECT item_id FROM items")}
