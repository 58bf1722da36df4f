"""The page for readers: the columns that it promises are those of the tables, and its examples run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from hmamba.columns import ALIKE, BOUGHT_TOGETHER, ITEM_ID, SAME_TASTE, TABLES, USER_ID
from hmamba.quality.tables import RANKINGS
from hmamba.tables import popular

PAGE = (Path(__file__).parents[2] / "docs" / "candidates.md").read_text(encoding="utf-8")
SPELLED = {
    pa.string(): "string",
    pa.int32(): "int32",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.list_(pa.string()): "list of strings",
    pa.list_(pa.float32()): "list of floats",
}


def section(name: str) -> str:
    """The text under a heading that names a table."""
    (found,) = re.findall(rf"(?ms)^### [^\n]*\b{name}\b[^\n]*\n(.*?)(?=^##)", PAGE)
    return str(found)


@pytest.mark.parametrize("name", TABLES)
def test_the_columns_are_those_of_the_table(name: str) -> None:
    rows = re.findall(r"(?m)^\| `(\w+)`(?: or `\w+`)? \| ([\w ]+) \|", section(name))
    documented = dict(row for row in rows if row[1] in SPELLED.values())
    if name == "item_vectors":  # one table of columns for both
        documented = {ITEM_ID if column == USER_ID else column: kind for column, kind in documented.items()}
    assert documented == {column: SPELLED[kind] for column, kind in TABLES[name].items()}
    assert list(documented) == list(TABLES[name])


def test_the_values_are_those_that_are_written() -> None:
    assert set(re.findall(r"(?m)^\| `(\w+)` \| [^|]{25,} \|$", section("similar_items"))) == {
        ALIKE,
        BOUGHT_TOGETHER,
        SAME_TASTE,
    }
    assert set(re.findall(r"(?m)^\| `(\w+)` \| [^|]{25,} \|$", section("popular"))) == set(RANKINGS)
    assert f"(decayed + {popular._SMOOTHING:.0f}) / (expected + {popular._SMOOTHING:.0f})" in PAGE
    assert f"half-life {popular._SLOW:.0f} times as long" in PAGE


def test_the_examples_run_with_duckdb_alone(tabled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tabled / "candidates", tmp_path / "demo" / "candidates", symlinks=True)
    monkeypatch.chdir(tmp_path)
    whole = PAGE[PAGE.index("## Tables beside the candidates") : PAGE.index("## What is guaranteed")]
    examples = re.findall(r"```sql\n(.*?)```", whole, re.DOTALL)
    answers = []
    with duckdb.connect() as connection:
        for example in examples:
            for statement in duckdb.extract_statements(example):
                answers.append(connection.execute(statement).fetchall())
    similar, vectors = answers[1], answers[-1]
    assert [(row[0], row[1]) for row in similar] == [
        (source, rank) for source in (ALIKE, BOUGHT_TOGETHER, SAME_TASTE) for rank in (1, 2, 3)
    ]
    assert len(vectors) == 10
    assert [row[1] for row in vectors] == sorted((row[1] for row in vectors), reverse=True)
