"""Files of ids, such as the one of ``candidates.allowed_items``."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.config import SourceConfig
from hmamba.errors import InputError
from hmamba.sources.ids import read_ids

SETTING = "candidates.allowed_items"


def read(path: Path) -> list[str]:
    found: list[str] = read_ids(path, "item_id", SETTING, SourceConfig(null_words=("NULL", ""))).to_pylist()
    return found


def test_ids_come_in_the_order_of_the_file_and_absent_ones_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text('title,item_id\nx,b\ny,NULL\nz,\nw,"a, c"\nv,b\n')
    assert read(path) == ["b", "a, c", "b"]


def test_numbers_are_written_as_the_warehouse_writes_them(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": pa.array([3.0, None, 17.0])}), tmp_path / "some.parquet")
    assert read(tmp_path / "some.parquet") == ["3", "17"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("none.csv", None, r"none\.csv does not exist"),
        ("some.jsonl", '{"item_id": "a"}\n', "must be a Parquet or a CSV file"),
        ("some.csv", "item\na\n", "item_id"),
        ("some.csv", "item_id,title\na,x\nb,y,z\n", r"line 3: 'b,y,z' is not an id"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_setting(
    tmp_path: Path, name: str, content: str | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=told) as error:
        read(tmp_path / name)
    assert SETTING in str(error.value) or name in str(error.value)


def test_the_first_unreadable_id_is_shown(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": pa.array([1.0, 2.5, 3.5])}), tmp_path / "some.parquet")
    with pytest.raises(InputError, match=rf"^{SETTING}: .*: 2\.5 is not an id"):
        read(tmp_path / "some.parquet")
