"""A lean Airflow of its own for each test process: a temporary home, a real SQLite metadata database."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

DAGS = Path(__file__).parents[2] / "dags"
HOME = Path(tempfile.mkdtemp(prefix="hmamba-airflow-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)

SMALL = """
[snapshot]
shards = 2

[model]
dim = 16
head_dim = 16
d_state = 8
chunk = 16
dropout = 0.0

[train]
epochs = {epochs}
tokens = 256
min_item_events = 1

[gate]
holdout_days = 3

[candidates]
k = 10
exclude_seen = true
"""
"""Settings of a night that takes seconds, with two shards and ten candidates for each user."""

# Airflow reads its settings when it is first imported, which no test module may do before this.
LEAN = {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
    "AIRFLOW__API__HOST": "127.0.0.1",
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
    "HMAMBA_RETRIES": "0",
}
assert "airflow" not in sys.modules
for setting in ("CONFIG", "DEADLINE", "DELIVER", "NOTIFY", "PAGES", "PYTHON", "ROOT"):
    os.environ.pop(f"HMAMBA_{setting}", None)
os.environ.update(LEAN)
sys.path.append(str(DAGS))


def environment(more: dict[str, str]) -> dict[str, str]:
    """Environment of a process that can import the DAGs' modules."""
    path = os.pathsep.join(filter(None, [str(DAGS), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **more}


@pytest.fixture(scope="session")
def metadata_database() -> Path:
    """An Airflow home whose database is ready and whose pools exist."""
    airflow = [sys.executable, "-m", "airflow"]
    for command in (["db", "migrate"], ["pools", "import", str(DAGS / "pools.json")]):
        done = subprocess.run([*airflow, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return HOME


@pytest.fixture(scope="session")
def dagbag(metadata_database: Path) -> Any:
    from airflow.dag_processing.dagbag import BundleDagBag

    return BundleDagBag(dag_folder=DAGS, bundle_path=DAGS, bundle_name="dags-folder")
