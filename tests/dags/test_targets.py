"""The task that delivers: there if HMAMBA_DELIVER names targets, with addresses of connections in its environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import DAGS, environment

PARSE = """
import json, sys
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=sys.argv[1], bundle_name="dags-folder")
edges = {name: {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} for name, dag in bag.dags.items()}
print(json.dumps({"errors": [str(error) for error in bag.import_errors.values()], "edges": edges}))
"""

SHOWS = """
import json, os, sys
names = [name for name in os.environ if name.startswith("HMAMBA_DELIVER")]
print("2026-11-28 09:00:00,123 INFO deliver: here", file=sys.stderr)
print(json.dumps({"arguments": sys.argv[1:], "environment": {name: os.environ[name] for name in names}}))
"""

ADDRESS = "postgres://shop:s3cret%2F%40@db.example.org:5433/web"


def parsed(text: str) -> dict[str, Any]:
    """The DAGs as a DAG processor with this HMAMBA_DELIVER reads them."""
    command = [sys.executable, "-c", PARSE, str(DAGS)]
    done = subprocess.run(
        command, env=environment({"HMAMBA_DELIVER": text}), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_task_follows_what_publishes(metadata_database: Path) -> None:
    found = parsed("shop:shop_postgres, export")
    assert found["errors"] == []
    night, refresh = found["edges"]["hmamba_retrain"], found["edges"]["hmamba_refresh"]
    assert night["publish"] == ["deliver", "report", "report_failed_night"]
    assert (night["deliver"], refresh["refresh"], refresh["deliver"]) == ([], ["deliver"], [])
    assert "deliver" not in found["edges"]["hmamba_ingest"]


def test_a_wrong_list_is_an_import_error(metadata_database: Path) -> None:
    found = parsed("shop, a-b")
    assert "HMAMBA_DELIVER: 'a-b' is not the name of a target, or comes twice" in found["errors"][0]


def test_without_the_variable_there_is_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    from hmamba_deliver import delivery
    from hmamba_targets import targets

    assert delivery() == []
    monkeypatch.setenv("HMAMBA_DELIVER", " shop:a , b,")
    assert targets() == {"shop": "a", "b": ""}


def test_the_step_gets_addresses_but_not_in_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from hmamba_deliver import DeliverOperator

    package = tmp_path / "path" / "jobs"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "deliver.py").write_text(SHOWS)
    monkeypatch.setenv("PYTHONPATH", f"{package.parent}{os.pathsep}{DAGS.parent}")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_POSTGRES", ADDRESS)
    operator = DeliverOperator(
        task_id="deliver",
        connections={"shop": "shop_postgres", "export": ""},
        root="/srv/shop",
        day="2024-02-29",
        run_folder="manual",
        config="",
    )
    command = operator.command({})
    assert command[-4:] == ["--to", "shop", "--to", "export"]
    with caplog.at_level("INFO"):
        told = operator.run(command)
    assert told["environment"] == {"HMAMBA_DELIVER_SHOP": ADDRESS}
    assert "s3cret" not in caplog.text


def test_the_addresses_of_airflow_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections as JSON, as the web interface stores them, become URLs that the targets can read."""
    from hmamba_targets import addresses

    from hmamba.config import TargetConfig
    from hmamba.delivery.base import Settings
    from hmamba.delivery.registry import open_target

    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    connections = {
        "shop": {"conn_type": "postgres", "login": "u", "password": "p/@", "host": "h", "port": 5433, "schema": "web"},
        "cache": {"conn_type": "redis", "password": "p/@", "host": "h", "port": 6380, "extra": {"db": 3, "ssl": False}},
        "far": {"conn_type": "redis", "host": "h", "extra": {"ssl": True, "ssl_ca_certs": "/etc/ca.pem"}},
        "safe": {"conn_type": "postgres", "host": "h", "extra": {"sslmode": "require"}},
    }
    for name, connection in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    found = addresses({name: name for name in connections})
    assert found == {
        "HMAMBA_DELIVER_SHOP": "postgres://u:p%2F%40@h:5433/web",
        "HMAMBA_DELIVER_CACHE": "redis://:p%2F%40@h:6380/?db=3",
        "HMAMBA_DELIVER_FAR": "rediss://h/?ssl_ca_certs=%2Fetc%2Fca.pem",
        "HMAMBA_DELIVER_SAFE": "postgres://h/?sslmode=require",
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    for name in ("safe", "shop"):
        open_target(Settings(name, TargetConfig(kind="postgres"), tmp_path, 1))
    for name in ("cache", "far"):
        open_target(Settings(name, TargetConfig(kind="redis"), tmp_path, 1))
    shop: Any = open_target(Settings("shop", TargetConfig(kind="postgres"), tmp_path, 1))
    assert "p/@" in shop._secrets
    cache: Any = open_target(Settings("cache", TargetConfig(kind="redis"), tmp_path, 1))
    assert cache._client.connection_pool.connection_kwargs["db"] == 3
    assert cache._client.connection_pool.connection_kwargs["password"] == "p/@"
