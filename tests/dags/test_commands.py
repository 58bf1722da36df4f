"""Airflow's commands in the documentation exist, with their options."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.dags import conftest  # noqa: F401 - Airflow's settings, before it is imported
from tests.test_docs import PAGES, code

LINES = sorted(
    {
        part.strip()
        for page in PAGES
        for _, text in code(page)
        for line in text.splitlines()
        for part in line.split("&&")
        if part.strip().startswith("airflow ") and part.strip() != "airflow dags test"  # named in a sentence
    }
)


def test_the_documentation_names_commands() -> None:
    assert any(line.startswith("airflow backfill create") for line in LINES)
    assert any(line.startswith("airflow db clean") for line in LINES)


@pytest.mark.parametrize("line", LINES)
def test_commands_exist_with_their_options(line: str) -> None:
    from airflow.cli.cli_parser import get_parser

    get_parser().parse_args(shlex.split(re.sub(r"\$\(date [^)]*\)", "2024-05-31", line), comments=True)[1:])
