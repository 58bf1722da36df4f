"""DAG files are wiring: they import next to nothing and parse at once."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dags.conftest import DAGS

FILES = sorted(DAGS.glob("*.py"))
IGNORED = set((DAGS / ".airflowignore").read_text(encoding="utf-8").splitlines())
DAG_FILES = [path for path in FILES if path.name not in IGNORED]
ALWAYS_THERE = {"airflow.sdk", "airflow.sdk.exceptions", "airflow.sdk.observability"}
OPENLINEAGE = {
    "airflow.providers.openlineage.extractors",
    "openlineage.client.event_v2",
    "openlineage.client.facet_v2",
}
"""Imported by a method that only the provider calls."""
HEAVY = {
    "torch",
    "duckdb",
    "pandas",
    "numpy",
    "pyarrow",
    "faiss",
    "great_expectations",
    "hmamba",
    "jobs",
    "openlineage",
}

PARSE = """
import importlib, json, sys, time
import airflow.sdk
# The SDK loads its names when they are first used: its time, not ours.
for name in ("Asset", "BaseOperator", "Context", "CronDataIntervalTimetable", "Param", "chain", "dag", "task"):
    getattr(airflow.sdk, name)
sys.path.append(sys.argv[1])
before = set(sys.modules)
started = time.perf_counter()
importlib.import_module(sys.argv[2])
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "modules": sorted({name.partition(".")[0] for name in sys.modules})}))
"""


def test_there_are_three_dag_files() -> None:
    assert [path.name for path in DAG_FILES] == ["hmamba_ingest.py", "hmamba_refresh.py", "hmamba_retrain.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_imports_only_the_task_sdk_and_the_standard_library(path: Path) -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "Airflow loads DAG files as top-level modules"
            imported.add(node.module or "")
    if path.stem == "hmamba_lineage":
        imported -= OPENLINEAGE
    foreign = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign <= ALWAYS_THERE | {path.stem for path in FILES if path.name in IGNORED}


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_parses_in_well_under_a_second_without_heavy_modules(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(DAGS), path.stem],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    seen = json.loads(done.stdout.splitlines()[-1])
    assert not (HEAVY | {"openlineage"}) & set(seen["modules"])
    assert seen["seconds"] < 1.0


def test_shared_code_is_not_parsed_as_a_dag() -> None:
    modules = {path.name for path in FILES if "@dag(" not in path.read_text(encoding="utf-8")}
    assert modules == {line for line in IGNORED if not line.startswith("#")}
