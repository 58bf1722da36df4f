"""Every statement is one statement, has a name of its own, and is used."""

from __future__ import annotations

import ast
from pathlib import Path

import duckdb
import pytest

from hmamba.statements import parse, statement, statements

CHECKOUT = Path(__file__).parents[1]
FILES = sorted(path.stem for path in (CHECKOUT / "sql").glob("*.sql"))
NAMES = [f"{file}/{name}" for file in FILES for name in statements(file)]


def used() -> set[str]:
    """Text constants of the product's code that name a file under sql/ and something in it."""
    sources = [path for folder in ("hmamba", "jobs") for path in (CHECKOUT / folder).rglob("*.py")]
    nodes = (node for path in sources for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if text.count("/") == 1 and text.partition("/")[0] in FILES and " " not in text}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_stands_for_one_statement(name: str) -> None:
    with duckdb.connect() as connection:
        found = connection.extract_statements(statement(name))
    # DuckDB's parser turns COPY FROM DATABASE into the statements that it stands for.
    assert len(found) == 1 or statement(name).startswith("COPY FROM DATABASE")


def test_statements_are_those_that_the_code_names() -> None:
    assert used() == set(NAMES)


def test_the_files_are_few_and_short() -> None:
    assert not [path for path in (CHECKOUT / "sql").rglob("*") if path.parent.name != "sql"]
    for file in FILES:
        assert len((CHECKOUT / "sql" / f"{file}.sql").read_text(encoding="utf-8").splitlines()) < 400, file


def test_a_statement_keeps_its_comments_and_not_those_before_the_first_name() -> None:
    found = parse("-- The file.\n\n-- name: one\n-- Why.\nSELECT 1; -- 1\n\n-- name: two\nSELECT\n    2;\n")
    assert dict(found) == {"one": "-- Why.\nSELECT 1; -- 1", "two": "SELECT\n    2;"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n", "a: this name comes twice"),
        ("-- name:\nSELECT 1;\n", "needs a"),
    ],
)
def test_names_are_unique_and_not_empty(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_an_unknown_name() -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.sql"):
        statement("nothing/here")
    with pytest.raises(LookupError, match=r"sql/report\.sql has no statement 'here', only row_count, "):
        statement("report/here")
